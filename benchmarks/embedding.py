"""Clips and sentences a second of the teachers, from int16 samples or text to the embedding, against the reference implementations.

musicnn is compared with the released graph under TensorFlow behind librosa's log-mel, MiniLM with transformers, its tokeniser and batches by length. The
claims: no slower than either, and the same embeddings. The clips are of configs/audio.py, the sentences of Rotten Tomatoes. The sides take turns within each
repeat, in processes of their own; each uses all cores. The floor is the multiply-adds of the network at the rate of a bare float32 product.

Command: python -m benchmarks.embedding --peer-python=PYTHON   (an environment with TensorFlow, librosa, torch and transformers; 2 cores: four minutes)
"""

import argparse
import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.configs import named_config
from benchmarks.pairs import parser, sides
from benchmarks.record import Figure, add_out, keep, of_repeats, peer_versions
from jaxkd import teachers
from jaxkd.data import prepare
from jaxkd.files import default_cache_dir
from jaxkd.memory import keep_freed
from jaxkd.training.preparation import teacher_archive
from jaxkd.xla_flags import convolve_on_all_cores

DATA = {"MTT_musicnn": "audio.py:runlocal", "minilm": "text.py:data=rotten_tomatoes"}
PEERS = {"MTT_musicnn": "tensorflow", "minilm": "transformers"}
UNITS = {"MTT_musicnn": "clips", "minilm": "sentences"}
EXAMPLES = {"MTT_musicnn": 64, "minilm": 512}
DIFFERENCE = {"MTT_musicnn": 2e-2, "minilm": 1e-4}
"""The largest of an element, as a share of the largest element: both sides round musicnn's mel power to float16, and what lies between may fall to either."""
PRODUCT = 2048


def write_inputs(folder: Path) -> None:
    """Clips, sentences and the teachers' released files, for both sides."""
    cache_dir = default_cache_dir()
    for name, data in DATA.items():
        config = named_config(data)
        dataset = prepare(config.data, cache_dir)
        examples = dataset.gather([example for split in dataset.splits.values() for example in split][: EXAMPLES[name]])
        if dataset.modality == "audio":
            np.save(folder / f"{name}.npy", examples)
        else:
            (folder / f"{name}.json").write_text(json.dumps(list(map(str, examples))))
        archive = teacher_archive(name, "", cache_dir)
        (folder / f"{name}.archive").write_text(str(archive))
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder / name)


def serve(folder: Path) -> None:
    """Answers as the peers do: the name of a teacher in, seconds out; the embedding is kept."""
    keep_freed()
    convolve_on_all_cores()
    built = {name: teachers.build(name, archive=Path((folder / f"{name}.archive").read_text())) for name in DATA}
    examples: dict[str, Any] = {"MTT_musicnn": np.load(folder / "MTT_musicnn.npy"), "minilm": json.loads((folder / "minilm.json").read_text())}
    calls: dict[str, Callable[[], np.ndarray]] = {name: lambda name=name: built[name].embed(examples[name]) for name in built}
    for line in sys.stdin:
        name = line.strip()
        if name == "macs":
            answer: dict[str, Any] = {name: EXAMPLES[name] * teacher.macs_of(examples[name]) for name, teacher in built.items()}  # type: ignore[operator]
        elif name == "product":
            x = jnp.ones((PRODUCT, PRODUCT))
            (x @ x).block_until_ready()
            started = time.perf_counter()
            (x @ x).block_until_ready()
            answer = {"macs_per_second": PRODUCT**3 / (time.perf_counter() - started)}
        else:
            started = time.perf_counter()
            embedding = calls[name]()
            answer = {"wall_s": time.perf_counter() - started}
            np.save(folder / f"jaxkd-{name}.npy", embedding.reshape(len(embedding), -1))
        print(json.dumps(answer), flush=True)


def compared_with(peer: str, name: str, taken: list[tuple[float, float, float]], macs: float) -> list[Figure]:
    """Examples a second of both sides, their ratio, and the distance to the floor; `taken`: seconds of both and the rate of a product, by repeat."""
    return [
        *(of_repeats(f"{name}: {side}", [EXAMPLES[name] / row[place] for row in taken], f"{UNITS[name]}/s") for place, side in enumerate(("jaxkd", peer))),
        of_repeats(f"{name}: time of jaxkd / {peer}", [ours / theirs for ours, theirs, _ in taken], at_most=1.0),
        of_repeats(f"{name}: time of jaxkd / multiply-adds at the rate of a product", [ours * rate / macs for ours, _, rate in taken]),
    ]


def measure(peer_python: str, repeats: int) -> list[Figure]:
    """All figures."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="jaxkd-embedding-") as scratch:
        folder = Path(scratch)
        write_inputs(folder)
        commands = {"jaxkd": [sys.executable, "-m", "benchmarks.embedding", "--peer-python=-", f"--serve={folder}"]}
        commands |= {peer: [peer_python, "benchmarks/embedding_peers.py", peer, str(folder)] for peer in PEERS.values()}
        with sides(commands) as ask:
            macs = ask["jaxkd"]("macs")
            for name, peer in PEERS.items():
                taken = []
                for _ in range(1 + repeats):
                    seconds = {side: ask[side](name)["wall_s"] for side in ("jaxkd", peer)}
                    taken.append((seconds["jaxkd"], seconds[peer], ask["jaxkd"]("product")["macs_per_second"]))
                figures += compared_with(peer, name, taken[1:], macs[name])
                ours, theirs = (np.load(folder / f"{side}-{name}.npy") for side in ("jaxkd", peer))
                figures.append(Figure(f"{name}: largest difference", float(np.abs(ours - theirs).max() / np.abs(theirs).max()), at_most=DIFFERENCE[name]))
    return figures


def main() -> None:
    """Measures, and keeps the figures."""
    options = parser(__doc__, packages="tensorflow, librosa, torch and transformers", repeats=5)
    options.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    add_out(options)
    settings = options.parse_args()
    if settings.serve:
        serve(settings.serve)
        return
    versions = peer_versions(settings.peer_python, "tensorflow-cpu", "librosa", "torch", "transformers")
    sys.exit(keep("embedding", __doc__ or "", measure(settings.peer_python, settings.repeats), {"repeats": settings.repeats}, settings.out, versions=versions))


if __name__ == "__main__":
    main()
