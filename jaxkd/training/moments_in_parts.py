"""The class moments of a store by all processes of a job, each over blocks of its own, kept part by part: an interrupted pass goes on."""

import hashlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from jaxkd import lelp
from jaxkd.files import write_bytes
from jaxkd.hosts import count, index
from jaxkd.progress import progress
from jaxkd.together import failing_together
from jaxkd.types import Array

PART_BYTES = 2 << 30
"""Float32 embeddings that are read between two moments on disk, or 16 times the size of these if that is more."""

_DIGEST_BYTES = hashlib.sha256().digest_size


def moments_in_parts(
    batches: Callable[[list[slice]], Iterator[tuple[Array, Array]]], blocks: list[slice], folder: Path, *, num_classes: int, dim: int
) -> lelp.ClassMoments:
    """The moments of all blocks, of which this process reads its share; every process must call it.

    Args:
      batches: f(blocks) -> embeddings [n, D] and class ids [n] of each.
      blocks: of rows, the same in every process.
      folder: of this pass alone, shared by all processes. What stands there from an interrupted one of as many processes is not read again.
      num_classes: C.
      dim: D.

    Raises:
      DataError: as `jaxkd.lelp.class_moments`.
    """
    own, kept = blocks[index() :: count()], folder / f"process-{index()}-of-{count()}"
    done, moments = _read(kept, num_classes, dim)
    with failing_together(), progress(total=len(own), initial=done, description="class moments", unit="block") as bar:
        for part in _parts(own, done, num_classes, dim):
            found = lelp.class_moments(_counted(batches(part), bar.update), num_classes=num_classes)
            moments = moments.merge(found) if done else found
            done += len(part)
            if done < len(own):
                _write(kept, done, moments)
    return moments if count() == 1 else lelp.merge_processes(moments)


def _parts(blocks: list[slice], done: int, num_classes: int, dim: int) -> Iterator[list[slice]]:
    """The blocks that are left, in parts whose ends do not depend on where the pass was interrupted."""
    if not blocks:
        return
    of_block = 4 * dim * (blocks[0].stop - blocks[0].start)
    size = max(1, max(PART_BYTES, 16 * 8 * num_classes * (dim + 1) ** 2) // of_block)
    for start in range(done, len(blocks), size):
        yield blocks[start : start + size]


def _counted(batches: Iterable[tuple[Array, Array]], update: Callable[[int], object]) -> Iterator[tuple[Array, Array]]:
    for batch in batches:
        yield batch
        update(1)


def _write(path: Path, done: int, moments: lelp.ClassMoments) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, done=np.int64(done), **moments._asdict())
    content = buffer.getvalue()
    write_bytes(path, hashlib.sha256(content).digest() + content)


def _read(path: Path, num_classes: int, dim: int) -> tuple[int, lelp.ClassMoments]:
    """How many blocks are done, and their moments; none where nothing whole was kept."""
    kept = path.read_bytes() if path.is_file() else b""
    digest, content = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
    if digest != hashlib.sha256(content).digest():
        if kept:
            print(f"{path} is damaged: the class moments are made from the start.", file=sys.stderr)
        return 0, lelp.ClassMoments.zeros(num_classes, dim)
    with np.load(io.BytesIO(content)) as arrays:
        return int(arrays["done"]), lelp.ClassMoments(*(arrays[name] for name in lelp.ClassMoments._fields))
