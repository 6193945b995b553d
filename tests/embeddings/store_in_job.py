"""One process of a job that makes a store, reads it, and finds it damaged; test_job.py runs it.

Arguments: folder, address of the job, number of its processes, place of this one.
"""

import functools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from pca_teacher import SHARD_ROWS, Digits, PcaTeacher

from jaxkd import hosts
from jaxkd.embeddings import blocks, shards, store
from jaxkd.embeddings.job import embed_in_job
from jaxkd.errors import ConfigError, DataError
from jaxkd.files import sha256_file

BLOCK_ROWS = 30
LONGER = 60
"""From this example on the embeddings of `Ragged` have two frames: from the second shard of each of two processes on."""


class Ragged(PcaTeacher):
    """A teacher whose number of frames changes with the content of a clip."""

    name = "ragged"

    def embed(self, inputs: np.ndarray) -> np.ndarray:
        longer = not (Digits().images[:LONGER] == inputs[0]).all(axis=1).any()
        return np.repeat(super().embed(inputs), 1 + longer, axis=1)


def embed(path: Path) -> store.EmbeddingStore:
    return embed_in_job(PcaTeacher(), Digits(), path, batch_size=8, shard_rows=SHARD_ROWS)


def statistics(made: store.EmbeddingStore) -> tuple[dict[str, np.ndarray], list[int]]:
    """Mean, deviation and the mean over time of every example; and how many rows were read at a time."""
    blocks.BLOCK_ROWS, read = BLOCK_ROWS, []

    def frames(ids: list[str]) -> np.ndarray:
        read.append(len(ids))
        return blocks.all_frames(made, ids)

    mean, std = blocks.mean_and_std(frames, list(made.ids))
    rows = np.concatenate(list(blocks.shared_out(functools.partial(store.mean_embeddings, made), list(made.ids))))
    return {"mean": mean, "std": std, "rows": rows}, read


def refusal(path: Path) -> str:
    try:
        embed(path)
    except DataError as error:
        return str(error)
    return ""


def ragged(path: Path, *, one_length: bool) -> tuple[str, int]:
    """What is said of embeddings of different numbers of frames, and how many batches were embedded for it."""
    teacher = Ragged()
    try:
        store = embed_in_job(teacher, Digits(), path, batch_size=8, shard_rows=SHARD_ROWS, one_length=one_length)
    except ConfigError as error:
        return str(error), len(teacher.batch_shapes)
    return f"taken, frames: {store.frames}", len(teacher.batch_shapes)


def main() -> None:
    folder, process = Path(sys.argv[1]), int(sys.argv[4])
    hosts.join(hosts.Job(sys.argv[2], int(sys.argv[3]), process, join_seconds=120, heartbeat_seconds=60))
    made = embed(folder / "store")
    verified = []
    shards.sha256_file = lambda file: [verified.append(Path(file).name), sha256_file(file)][1]
    found, read = statistics(embed(folder / "store"))
    np.savez(folder / f"{process}.npz", **found)
    own = folder / "store"
    if process == 1:  # another host, which does not see all files
        own = folder / "seen-by-1"
        shutil.copytree(folder / "store", own)
        (own / "shard-00002.npy").unlink()
    partial = refusal(own)
    hosts.wait_for_all()
    if process == 0:
        shard = folder / "store" / "shard-00003.npy"
        data = bytearray(shard.read_bytes())
        data[-5] ^= 4
        shard.write_bytes(data)
    hosts.wait_for_all()
    damaged = refusal(folder / "store")
    hosts.FILE_SECONDS = 1
    unseen = refusal(folder / f"disk-{process}" / "store")  # each process writes its part to a disk of its own
    said = {"ragged": ragged(folder / "ragged", one_length=True), "ragged means": ragged(folder / "means", one_length=False)}
    said["ragged, found"] = ragged(folder / "means", one_length=True)
    said |= {"verified": verified[:5], "read": read, "partial": partial, "damaged": damaged, "unseen": unseen, "examples": len(made)}
    (folder / f"{process}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
