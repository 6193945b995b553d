"""Clips and sentences a second of each teacher, from int16 samples or text to the embedding, against the reference implementation.

The musicnn family is compared with its released graphs under TensorFlow behind librosa's log-mel, aisfx with its package (Essentia, torch), which reads the
clips from files, MiniLM with transformers, its tokeniser and batches by length, wordllama with its package. The claims: no slower than any, and the same
embeddings. The clips are of configs/audio.py, for aisfx at 44.1 kHz; the sentences of Rotten Tomatoes. The sides take turns within each repeat, in processes
of their own; each uses all cores. The floor is the multiply-adds of the network at the rate of a bare float32 product; of wordllama, which has none, its
tokens alone. In bfloat16 (`teacher.compute_dtype`) the time is that of jaxkd against its own in float32, and nothing is asked: it is for accelerators.

Command: python -m benchmarks.embedding --peer-python=PYTHON   (the Python of benchmarks/requirements-peers.txt; 2 cores: seven minutes, 5 GB of memory)
"""

import argparse
import functools
import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.signal import resample_poly

from benchmarks import floor
from benchmarks.configs import named_config
from benchmarks.pairs import Ask, parser, sides
from benchmarks.record import Figure, add_out, keep, of_repeats, peer_versions
from jaxkd import teachers
from jaxkd.data import prepare
from jaxkd.files import default_cache_dir
from jaxkd.memory import keep_freed
from jaxkd.results import numbers
from jaxkd.results.document import Table
from jaxkd.teachers.huggingface import load_tokenizer, read_layout
from jaxkd.teachers.resampling import Clips
from jaxkd.teachers.wordllama import TOKENIZER, WEIGHTS
from jaxkd.training.preparation import teacher_archive
from jaxkd.xla_flags import convolve_on_all_cores


class Case(NamedTuple):
    """A teacher's reference; how many examples are embedded; how far an element may be off, as a share of the largest element."""

    peer: str
    examples: int
    difference: float


CASES = {
    "MTT_musicnn": Case("tensorflow", 64, 2e-2),
    "MSD_musicnn": Case("tensorflow", 64, 2e-2),
    "MTT_vgg": Case("tensorflow", 64, 2e-2),
    "MSD_vgg": Case("tensorflow", 64, 2e-2),
    "aisfx": Case("aisfx", 64, 1e-3),
    "minilm": Case("transformers", 512, 1e-4),
    "wordllama": Case("wordllama", 4096, 1e-5),
}
"""Both sides round the mel power of the musicnn family to float16, and what lies between may fall to either."""
DATA = {"audio": "audio.py:runlocal", "text": "text.py:data=rotten_tomatoes"}
UNITS = {"audio": "clips", "text": "sentences"}
BFLOAT16, TOKENS, PEER = "bfloat16", "tokens", ".peer"
HALF = ("MTT_musicnn", "minilm")
"""Those that are timed in bfloat16 too."""
AISFX_RATE = 44_100
PACKAGES = ("essentia", "librosa", "tensorflow-cpu", "torch", "transformers", "wordllama")


def unit(name: str) -> str:
    """What a teacher embeds, in the plural."""
    return UNITS[teachers.TEACHER_MODALITY[name]]


def write_inputs(folder: Path, names: list[str]) -> None:
    """Clips, sentences and the teachers' released files, for both sides."""
    cache_dir = default_cache_dir()
    for modality, data in DATA.items():
        own = [name for name in names if teachers.TEACHER_MODALITY[name] == modality]
        if own:
            dataset = prepare(named_config(data).data, cache_dir)
            ids = [example for split in dataset.splits.values() for example in split][: max(CASES[name].examples for name in own)]
            examples = dataset.gather(ids)
            for name in own:
                write_examples(folder, name, examples[: CASES[name].examples])
    for name in names:
        archive = teacher_archive(name, "", cache_dir)
        (folder / f"{name}.archive").write_text(str(archive))
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder / teachers.TEACHER_PACKAGES[name])


def write_examples(folder: Path, name: str, examples: Any) -> None:
    """The examples of one teacher, audio at the rate that its reference takes."""
    if teachers.TEACHER_MODALITY[name] == "text":
        (folder / f"{name}.json").write_text(json.dumps(list(map(str, examples))))
        return
    if name == "aisfx":
        rate = teachers.TEACHER_AUDIO["MTT_musicnn"][0] or AISFX_RATE
        divisor = np.gcd(rate, AISFX_RATE)
        resampled = resample_poly(examples.astype(np.float32), AISFX_RATE // divisor, rate // divisor, axis=1)
        examples = np.clip(np.round(resampled), -32768, 32767).astype(np.int16)
    np.save(folder / f"{name}.npy", examples)


def read_examples(folder: Path, name: str) -> Any:
    """What `write_examples` wrote."""
    return np.load(folder / f"{name}.npy") if teachers.TEACHER_MODALITY[name] == "audio" else json.loads((folder / f"{name}.json").read_text())


def build(folder: Path, name: str, **options: Any) -> Any:
    """A teacher, for its examples."""
    if teachers.resamples(name):
        options["clips"] = Clips(AISFX_RATE, read_examples(folder, name).shape[1])
    return teachers.build(name, archive=Path((folder / f"{name}.archive").read_text()), **options)


def call(folder: Path, part: str) -> Callable[[], Any]:
    """What is timed: the embedding of a teacher "NAME", the same in bfloat16 "NAME.bfloat16", or its tokens alone "NAME.tokens"."""
    name, _, kind = part.partition(".")
    examples = read_examples(folder, name)
    if kind == TOKENS:
        tokenizer = load_tokenizer(read_layout(Path((folder / f"{name}.archive").read_text()), (TOKENIZER, WEIGHTS))[TOKENIZER], TOKENIZER)
        return functools.partial(tokenizer.encode_batch_fast, examples, add_special_tokens=False)
    return functools.partial(build(folder, name, **({"compute_dtype": kind} if kind else {})).embed, examples)


def work(folder: Path, name: str) -> dict[str, float]:
    """Multiply-adds of a teacher for all its examples, and bytes of its weights, what it embeds, and the embeddings."""
    teacher, examples = build(folder, name), read_examples(folder, name)
    read = examples.nbytes if isinstance(examples, np.ndarray) else sum(len(text.encode()) for text in examples)
    return {"macs": len(examples) * teacher.macs_of(examples), "bytes": 4 * teacher.parameters + read + np.asarray(teacher.embed(examples)).nbytes}


def serve(folder: Path) -> None:
    """Answers as the peers do: a part in, seconds out, the embedding is kept; "rates" -> those of `floor`, "work NAME" -> `work`."""
    keep_freed()
    convolve_on_all_cores()
    calls: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        part = line.strip()
        if part == "rates":
            answer: dict[str, Any] = floor.rates()._asdict()
        elif part.startswith("work "):
            answer = work(folder, part.removeprefix("work "))
        else:
            calls[part] = calls.get(part) or call(folder, part)
            started = time.perf_counter()
            result = calls[part]()
            answer = {"wall_s": time.perf_counter() - started}
            if not part.endswith(TOKENS):
                np.save(folder / f"jaxkd-{part}.npy", result.reshape(len(result), -1))
        print(json.dumps(answer), flush=True)


def difference(folder: Path, one: str, other: str) -> float:
    """The largest of two kept embeddings, as a share of the largest element."""
    ours, theirs = (np.load(folder / f"{side}.npy") for side in (one, other))
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def measure_one(ask: dict[str, Ask], folder: Path, name: str, repeats: int) -> tuple[list[Figure], dict[str, float]]:
    """Examples a second of both sides, their ratio, the distance to the floor, and how far the embeddings are apart; the work."""
    (peer, examples, at_most), own, seconds = CASES[name], ask["jaxkd"], dict[str, list[float]]()
    ours = [name, *([f"{name}.{BFLOAT16}"] if name in HALF else ()), *([f"{name}.{TOKENS}"] if name == "wordllama" else ())]
    rates = []
    for repeat in range(1 + repeats):
        taken = {PEER: ask[peer](name)["wall_s"], **{part: own(part)["wall_s"] for part in ours}}
        if repeat:
            rates.append(own("rates")["flop"] / 2)
            for part, one in taken.items():
                seconds.setdefault(part, []).append(one)

    def ratio(one: str, other: str) -> list[float]:
        return [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]

    done = own(f"work {name}")
    figures = [of_repeats(f"{name}: {side}", [examples / one for one in seconds[part]], f"{unit(name)}/s") for side, part in (("jaxkd", name), (peer, PEER))]
    figures.append(of_repeats(f"{name}: time of jaxkd / {peer}", ratio(name, PEER), at_most=1.0))
    if done["macs"]:
        to_floor = [one * rate / done["macs"] for one, rate in zip(seconds[name], rates, strict=True)]
        figures.append(of_repeats(f"{name}: time of jaxkd / multiply-adds at the rate of a product", to_floor))
    else:
        figures.append(of_repeats(f"{name}: time of jaxkd / its tokens alone", ratio(name, f"{name}.{TOKENS}")))
    figures.append(Figure(f"{name}: largest difference", difference(folder, f"jaxkd-{name}", f"{peer}-{name}"), at_most=at_most))
    if name in HALF:
        half = f"{name}.{BFLOAT16}"
        figures.append(of_repeats(f"{name} in bfloat16: jaxkd", [examples / one for one in seconds[half]], f"{unit(name)}/s"))
        figures.append(of_repeats(f"{name} in bfloat16: time / float32", ratio(half, name)))
        figures.append(Figure(f"{name} in bfloat16: largest difference", difference(folder, f"jaxkd-{half}", f"{peer}-{name}")))
    return figures, done


def main() -> None:
    """Measures, and keeps the figures."""
    options = parser(__doc__, packages="what benchmarks/requirements-peers.txt lists", repeats=5)
    options.add_argument("--teachers", nargs="+", default=list(CASES), choices=list(CASES))
    options.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    add_out(options)
    settings = options.parse_args()
    if settings.serve:
        serve(settings.serve)
        return
    figures, rows = [], []
    with tempfile.TemporaryDirectory(prefix="jaxkd-embedding-") as scratch:
        folder = Path(scratch)
        write_inputs(folder, settings.teachers)
        commands = {"jaxkd": [sys.executable, "-m", "benchmarks.embedding", "--peer-python=-", f"--serve={folder}"]}
        peers = {CASES[name].peer for name in settings.teachers}
        commands |= {peer: [settings.peer_python, "benchmarks/embedding_peers.py", peer, str(folder)] for peer in sorted(peers)}
        with sides(commands) as ask:
            for name in settings.teachers:
                found, done = measure_one(ask, folder, name, settings.repeats)
                figures += found
                rows.append([name, f"{CASES[name].examples} {unit(name)}", numbers.amount(done["macs"] / 1e9), numbers.amount(done["bytes"] / 1e6)])
    blocks = [Table("Work", ["teacher", "embedded", "G multiply-adds", "MB of weights, inputs and embeddings"], rows, label_columns=2)]
    versions = peer_versions(settings.peer_python, *PACKAGES)
    sys.exit(keep("embedding", __doc__ or "", figures, {"repeats": settings.repeats}, settings.out, blocks=blocks, versions=versions))


if __name__ == "__main__":
    main()
