"""Random batches of 256 ids from a store of 100,000 x 768 float16, against reading 256 .npy files.

Both sides are read from a warm page cache. The claim: the store is at least 20 times faster.

Command: python -m benchmarks.store_gather   (2 cores: about a minute, 400 MB of disk, removed at the end)
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.record import Figure, add_out, keep
from jaxkd.embeddings import EmbeddingStore

FLOOR = 20.0


def milliseconds(read: Callable[[list[str]], np.ndarray], batches: list[list[str]]) -> float:
    """Median time of one batch after one warm-up round over all of them."""
    for batch in batches:
        read(batch)
    times = []
    for batch in batches:
        start = time.perf_counter()
        read(batch)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def measure(folder: Path, examples: int, dim: int, batch_size: int, batches: int, shard_rows: int) -> dict[str, float]:
    """Writes both forms below `folder` and times random batches of each."""
    rng = np.random.default_rng(0)
    ids = [f"clip{number:06d}" for number in range(examples)]
    writer = EmbeddingStore.create(folder / "store", identity={"teacher": "random"}, dim=dim, dtype="float16", shard_rows=shard_rows)
    draws = [list(rng.choice(ids, batch_size, replace=False)) for _ in range(batches)]
    drawn = set().union(*draws)
    (folder / "files").mkdir()
    for start in range(0, examples, shard_rows):
        part = ids[start : start + shard_rows]
        embedding = rng.standard_normal((len(part), 1, dim), dtype=np.float32).astype(np.float16)
        writer.append(part, embedding)
        for name, row in zip(part, embedding, strict=True):
            if name in drawn:
                np.save(folder / "files" / f"{name}.npy", row)
    store = writer.finish()

    def read_files(batch: list[str]) -> np.ndarray:
        return np.stack([np.load(folder / "files" / f"{name}.npy") for name in batch])

    np.testing.assert_array_equal(store.gather(draws[0]), read_files(draws[0]))
    start = time.perf_counter()
    EmbeddingStore.open(folder / "store")
    opened = time.perf_counter() - start
    return {"open_ms": 1e3 * opened, "store_ms": milliseconds(store.gather, draws), "files_ms": milliseconds(read_files, draws)}


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--shard_rows", type=int, default=4096)
    add_out(parser)
    settings = vars(parser.parse_args())
    out = settings.pop("out")
    with tempfile.TemporaryDirectory(prefix="jaxkd-store-") as folder:
        times = measure(Path(folder), **settings)
    figures = [
        Figure("files / store", times["files_ms"] / times["store_ms"], at_least=FLOOR),
        Figure("store.gather", times["store_ms"], "ms a batch"),
        Figure("one .npy file per id", times["files_ms"], "ms a batch"),
        Figure("opening the store", times["open_ms"], "ms"),
    ]
    sys.exit(keep("store_gather", __doc__ or "", figures, settings, out))


if __name__ == "__main__":
    main()
