"""Clips and sentences a second of the teachers, from int16 samples or text to the embedding, against the reference implementations.

musicnn is compared with the released graph under TensorFlow behind librosa's log-mel, MiniLM with transformers, its tokeniser and batches by length. The
claims: no slower than either, and the same embeddings. The clips are of configs/audio.py, the sentences of Rotten Tomatoes. The sides take turns within each
repeat, in processes of their own; each uses all cores. The floor is the multiply-adds of the network at the rate of a bare float32 product.

Command: python -m benchmarks.embedding --peer-python=PYTHON   (an environment with TensorFlow, librosa, torch and transformers; 2 cores: four minutes)
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.record import Figure, add_out, keep, of_repeats, peer_versions
from jaxkd import teachers
from jaxkd.data import prepare
from jaxkd.files import default_cache_dir
from jaxkd.training.preparation import teacher_archive

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
        file, _, argument = data.partition(":")
        config = importlib.import_module(f"configs.{file.removesuffix('.py')}").get_config(argument)
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
    """Answers as the peers do: the name of a teacher in, seconds out; on the first call the embedding is kept."""
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


def ask(side: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """One answer of a side."""
    assert side.stdin is not None and side.stdout is not None
    side.stdin.write(f"{name}\n")
    side.stdin.flush()
    return json.loads(side.stdout.readline())


def turn(name: str, peer: str) -> list[tuple[str, str, str]]:
    """What is asked in one repeat: of which side, and which part of its answer counts."""
    return [("jaxkd", name, "wall_s"), (peer, name, "wall_s"), ("jaxkd", "product", "macs_per_second")]


def measure(peer_python: str, repeats: int) -> list[Figure]:
    """All figures."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="jaxkd-embedding-") as scratch:
        folder = Path(scratch)
        write_inputs(folder)
        commands = {"jaxkd": [sys.executable, "-m", "benchmarks.embedding", "--peer-python=-", f"--serve={folder}"]}
        commands |= {peer: [peer_python, "benchmarks/embedding_peers.py", peer, str(folder)] for peer in PEERS.values()}
        sides = {side: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for side, command in commands.items()}
        macs = ask(sides["jaxkd"], "macs")
        for name, peer in PEERS.items():
            for side in ("jaxkd", peer):
                ask(sides[side], name)
            taken = [tuple(ask(sides[side], line)[key] for side, line, key in turn(name, peer)) for _ in range(repeats)]
            for side, place in (("jaxkd", 0), (peer, 1)):
                figures.append(of_repeats(f"{name}: {side}", [EXAMPLES[name] / seconds[place] for seconds in taken], f"{UNITS[name]}/s"))
            figures.append(of_repeats(f"{name}: time of jaxkd / {peer}", [ours / theirs for ours, theirs, _ in taken], at_most=1.0))
            floors = [ours * rate / macs[name] for ours, _, rate in taken]
            figures.append(of_repeats(f"{name}: time of jaxkd / multiply-adds at the rate of a product", floors))
            ours, theirs = (np.load(folder / f"{side}-{name}.npy") for side in ("jaxkd", peer))
            figures.append(Figure(f"{name}: largest difference", float(np.abs(ours - theirs).max() / np.abs(theirs).max()), at_most=DIFFERENCE[name]))
        for side in sides.values():
            side.communicate()
    return figures


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="Python of an environment with tensorflow, librosa, torch and transformers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    add_out(parser)
    settings = parser.parse_args()
    if settings.serve:
        serve(settings.serve)
        return
    versions = peer_versions(settings.peer_python, "tensorflow-cpu", "librosa", "torch", "transformers")
    sys.exit(keep("embedding", __doc__ or "", measure(settings.peer_python, settings.repeats), {"repeats": settings.repeats}, settings.out, versions=versions))


if __name__ == "__main__":
    main()
