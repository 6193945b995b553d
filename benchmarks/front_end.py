"""Log-mel of clips of 10 s on the CPU against librosa and torchaudio: at 16 kHz with n_fft 400, hop 160 and 128 bands, and the settings of musicnn and EAsT.

The claims: under 0.7 ms a clip for the first, and for all of them less time than either. The sides take turns within each repeat, in processes of their own;
a peer works on the batch of 16 clips at once or clip by clip, whichever is faster. All give the same values: the largest difference is kept. Of the
first setting its Fourier transforms and its product with the mel bank are timed apart too, as the library makes them from frames or spectra that are
there, of all clips in one call; beside them stands the least time for their work (`benchmarks.floor`).

Command: python -m benchmarks.front_end --peer-python=PYTHON   (the Python of an environment with librosa and torchaudio; 2 cores: two minutes)
"""

import argparse
import dataclasses
import functools
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import floor
from benchmarks.pairs import parser, sides
from benchmarks.record import Figure, add_out, keep, of_repeats, peer_versions
from jaxkd.frontend import EAST_MTAT, EAST_OPENMIC, MUSICNN, LogMel, kaldi_filterbank, log_mel
from jaxkd.memory import keep_freed
from jaxkd.results import numbers
from jaxkd.results.document import Table

SETTINGS = {
    "16k-400-160-128": LogMel("slaney", sample_rate=16_000, n_fft=400, window=400, hop=160, bands=128, fmin=0.0, fmax=8_000.0),
    "musicnn": MUSICNN,
    "east-openmic": EAST_OPENMIC,
    "east-mtat": EAST_MTAT,
}
FIRST = next(iter(SETTINGS))
CLIPS, SECONDS, CALLS = 16, 10.0, 4
PEERS = ("librosa", "torchaudio")
PARTS = {"fourier": "Fourier transforms", "mel": "mel product"}
LIMIT_MS = 0.7


def write_inputs(folder: Path) -> None:
    """Noise of the two sample rates, and what the peers need of the settings."""
    rng = np.random.default_rng(0)
    for rate in {settings.sample_rate for settings in SETTINGS.values()}:
        np.save(folder / f"clips-{rate}.npy", rng.uniform(-0.5, 0.5, (CLIPS, int(rate * SECONDS))).astype(np.float32))
    for name, settings in SETTINGS.items():
        if settings.kind == "kaldi":
            left = (settings.n_fft - settings.window) // 2
            bank = np.asarray(kaldi_filterbank(settings, settings.fmin, settings.fmax, numpy=True), np.float32)
            np.save(folder / f"bank-{name}.npy", bank)
            np.save(folder / f"window-{name}.npy", np.pad(np.hanning(settings.window), (left, settings.n_fft - settings.window - left)).astype(np.float32))
    (folder / "settings.json").write_text(json.dumps([{"name": name, **dataclasses.asdict(settings)} for name, settings in SETTINGS.items()]))


def sizes_of_parts() -> tuple[int, int, int]:
    """Frames of a clip, bins and bands of the first setting."""
    first = SETTINGS[FIRST]
    return first.frames(int(first.sample_rate * SECONDS)), first.n_fft // 2 + 1, first.bands


def work_of_parts() -> dict[str, floor.Work]:
    """Of a clip: FLOP, of a real transform of n values 2.5 n log2(n), and bytes that are read and written, of float32."""
    (frames, bins, bands), n_fft = sizes_of_parts(), SETTINGS[FIRST].n_fft
    return {
        "fourier": floor.Work(2.5 * frames * n_fft * math.log2(n_fft), 4 * frames * (n_fft + 2 * bins)),
        "mel": floor.Work(2 * frames * bins * bands, 4 * (frames * (bins + bands) + bins * bands)),
    }


def serve(folder: Path) -> None:
    """Answers as the peers do."""
    keep_freed()
    clips = {settings.sample_rate: jax.device_put(np.load(folder / f"clips-{settings.sample_rate}.npy")) for settings in SETTINGS.values()}
    compiled = {name: jax.jit(functools.partial(log_mel, settings=settings)) for name, settings in SETTINGS.items()}
    inputs = {name: clips[settings.sample_rate] for name, settings in SETTINGS.items()}
    frames, bins, bands = sizes_of_parts()
    inputs["fourier"] = jax.device_put(np.ones((CLIPS, frames, SETTINGS[FIRST].n_fft), np.float32))
    compiled["fourier"] = jax.jit(jnp.fft.rfft)
    inputs["mel"], bank = jax.device_put(np.ones((CLIPS, frames, bins), np.float32)), jnp.ones((bins, bands))
    compiled["mel"] = jax.jit(lambda spectra: jnp.matmul(spectra, bank, precision="highest"))
    for line in sys.stdin:
        name, calls = line.split()
        if int(calls):
            started = time.perf_counter()
            for _ in range(int(calls)):
                jax.block_until_ready(compiled[name](inputs[name]))
            answer: dict[str, Any] = {"wall_s": (time.perf_counter() - started) / int(calls)}
        else:
            np.save(folder / f"jaxkd-{name}.npy", np.asarray(compiled[name](inputs[name]))[:2])
            answer = {"way": "batch"}
        print(json.dumps(answer), flush=True)


def measure(peer_python: str, repeats: int) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, Any]]]:
    """Milliseconds a clip by setting and side, in the order of the repeats; and by setting the peers' ways and the largest difference to them."""
    with tempfile.TemporaryDirectory(prefix="jaxkd-front-end-") as name:
        folder = Path(name)
        write_inputs(folder)
        commands = {"jaxkd": [sys.executable, "-m", "benchmarks.front_end", "--peer-python=-", f"--serve={folder}"]}
        commands |= {peer: [peer_python, "benchmarks/front_end_peers.py", peer, str(folder)] for peer in PEERS}
        with sides(commands) as ask:
            ways = {setting: {side: of_side(f"{setting} 0")["way"] for side, of_side in ask.items()} for setting in SETTINGS}
            taken: dict[str, dict[str, list[float]]] = {setting: {side: [] for side in commands} for setting in SETTINGS}
            for part in PARTS:
                taken[part] = {"jaxkd": []}
                ask["jaxkd"](f"{part} 1")
            for _ in range(repeats):
                for setting, by_side in taken.items():
                    for side, values in by_side.items():
                        values.append(1e3 * ask[side](f"{setting} {CALLS}")["wall_s"] / CLIPS)
        logs = {setting: {side: np.load(folder / f"{side}-{setting}.npy") for side in commands} for setting in SETTINGS}
    apart = {setting: {peer: float(np.abs(own[peer] - own["jaxkd"]).max()) for peer in PEERS} for setting, own in logs.items()}
    return taken, {setting: {"ways": ways[setting], "largest_difference": apart[setting]} for setting in SETTINGS}


def main() -> None:
    """Measures, and keeps the figures."""
    options = parser(__doc__, packages="librosa and torchaudio", repeats=15)
    options.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    add_out(options)
    settings = options.parse_args()
    if settings.serve:
        serve(settings.serve)
        return
    taken, details = measure(settings.peer_python, settings.repeats)
    figures, rows = [], []
    for part, work in work_of_parts().items():
        milliseconds = taken.pop(part)["jaxkd"]
        figures.append(of_repeats(f"{FIRST}, {PARTS[part]} alone", milliseconds, "ms"))
        amounts = (work.flop / 1e6, work.bytes / 1e6, 1e3 * work.seconds(floor.rates()), min(milliseconds))
        rows.append([PARTS[part], *map(numbers.amount, amounts)])
    blocks = [Table("Work of a clip", ["part", "MFLOP", "MB", "least ms", "ms by the library"], rows)]
    for name, by_side in taken.items():
        figures += [
            of_repeats(f"{name}: {side}", values, "ms", **({"at_most": LIMIT_MS} if (name, side) == (FIRST, "jaxkd") else {}))
            for side, values in by_side.items()
        ]
        figures += [
            of_repeats(f"{name}: jaxkd / {peer}", [ours / theirs for ours, theirs in zip(by_side["jaxkd"], by_side[peer], strict=True)], at_most=1.0)
            for peer in PEERS
        ]
        figures.append(Figure(f"{name}: largest difference of a value", max(details[name]["largest_difference"].values()), at_most=2e-3))
    versions = peer_versions(settings.peer_python, "librosa", "torch", "torchaudio")
    works = {part: work._asdict() for part, work in work_of_parts().items()}
    details = {"repeats": settings.repeats, "settings": details, "work of a clip": works}
    sys.exit(keep("front_end", __doc__ or "", figures, details, settings.out, blocks=blocks, versions=versions))


if __name__ == "__main__":
    main()
