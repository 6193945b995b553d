"""Random batches of 256 ids from a store of 100,000 x 768 float16, against reading 256 .npy files.

Both sides are read from a warm page cache. The claim: the store is at least 20 times faster. The floor of a gather, which computes nothing, is numpy's `take`
of the same rows from one array in memory: as many bytes, which must be read and written once. Store and floor take turns within a batch.

Command: python -m benchmarks.store_gather   (2 cores: about a minute, 400 MB of disk, removed at the end)
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.record import Figure, add_out, keep, of_repeats
from jaxkd.embeddings import EmbeddingStore

FLOOR = 20.0


def milliseconds(ways: Mapping[str, Callable[[list[str]], np.ndarray]], batches: Sequence[list[str]]) -> dict[str, list[float]]:
    """Time of each batch after one warm-up round over all of them; the ways take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for warm in (False, True):
        for batch in batches:
            for name, read in ways.items():
                start = time.perf_counter()
                read(batch)
                times[name] += [1e3 * (time.perf_counter() - start)] * warm
    return times


def measure(folder: Path, examples: int, dim: int, batch_size: int, batches: int, shard_rows: int) -> tuple[float, dict[str, list[float]]]:
    """Writes both forms below `folder` and times opening the store, and random batches of each form."""
    rng = np.random.default_rng(0)
    ids = [f"clip{number:06d}" for number in range(examples)]
    writer = EmbeddingStore.create(folder / "store", identity={"teacher": "random"}, dim=dim, dtype="float16", shard_rows=shard_rows)
    draws = [list(rng.choice(ids, batch_size, replace=False)) for _ in range(batches)]
    drawn = set().union(*draws)
    (folder / "files").mkdir()
    plain, row_of = np.empty((examples, 1, dim), np.float16), {name: row for row, name in enumerate(ids)}
    for start in range(0, examples, shard_rows):
        part = ids[start : start + shard_rows]
        embedding = rng.standard_normal((len(part), 1, dim), dtype=np.float32).astype(np.float16)
        writer.append(part, embedding)
        plain[start : start + len(part)] = embedding
        for name, row in zip(part, embedding, strict=True):
            if name in drawn:
                np.save(folder / "files" / f"{name}.npy", row)
    store = writer.finish()

    def read_files(batch: list[str]) -> np.ndarray:
        return np.stack([np.load(folder / "files" / f"{name}.npy") for name in batch])

    places = {tuple(batch): np.array([row_of[name] for name in batch]) for batch in draws}

    def take(batch: list[str]) -> np.ndarray:
        return np.take(plain, places[tuple(batch)], axis=0)

    for read in (read_files, take):
        np.testing.assert_array_equal(store.gather(draws[0]), read(draws[0]))
    start = time.perf_counter()
    EmbeddingStore.open(folder / "store")
    opened = time.perf_counter() - start
    return 1e3 * opened, milliseconds({"store": store.gather, "floor": take}, draws) | milliseconds({"files": read_files}, draws)


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
        opened, times = measure(Path(folder), **settings)
    middle = {name: statistics.median(values) for name, values in times.items()}
    figures = [
        Figure("files / store", middle["files"] / middle["store"], at_least=FLOOR),
        Figure("store.gather", middle["store"], "ms a batch"),
        Figure("one .npy file per id", middle["files"], "ms a batch"),
        Figure("opening the store", opened, "ms"),
        Figure("rows of a batch, read and written", 4e-6 * settings["batch_size"] * settings["dim"], "MB"),
        Figure("the floor, take", middle["floor"], "ms a batch"),
        of_repeats("store.gather, to the floor", [own / least for own, least in zip(times["store"], times["floor"], strict=True)]),
    ]
    sys.exit(keep("store_gather", __doc__ or "", figures, settings, out))


if __name__ == "__main__":
    main()
