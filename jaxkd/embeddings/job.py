"""The embed stage of a job of several processes: each embeds its shards into a part of the store, and process 0 puts the parts together."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxkd import hosts
from jaxkd.embeddings.joined import JoinedStore
from jaxkd.embeddings.manifest import FILE, Manifest, read_manifest, write_manifest
from jaxkd.embeddings.stage import ONE_LENGTH, Examples, embed_dataset
from jaxkd.embeddings.store import EmbeddingStore
from jaxkd.errors import ConfigError
from jaxkd.together import failing_together

if TYPE_CHECKING:
    from jaxkd.teachers import Teacher


class _Part:
    """Every `count`-th shard of a data set, from `index`, as the stage reads it."""

    def __init__(self, dataset: Examples, shard_rows: int, index: int, count: int):
        ids = [name for split in dataset.splits.values() for name in split]
        shards = [ids[start : start + shard_rows] for start in range(0, len(ids), shard_rows)]
        self.fingerprint, self.sample_rate = dataset.fingerprint, dataset.sample_rate
        self.splits = {"part": [name for shard in shards[index::count] for name in shard]}
        self.gather = dataset.gather


def require_one_length(store: EmbeddingStore | JoinedStore) -> None:
    """Raises ConfigError, in a job, if the embeddings of a store have different numbers of frames."""
    if hosts.count() > 1 and store.frames is None:
        lengths = store.lengths(store.ids)
        raise ConfigError(f"the embeddings by {store.identity['teacher']} have {lengths.min()} to {lengths.max()} frames, but {ONE_LENGTH}")


def embed_in_job(
    teacher: "Teacher", dataset: Examples, path: str | Path, *, shard_rows: int = 4096, batch_size: int = 16, one_length: bool = False, **options: Any
) -> EmbeddingStore:
    """`jaxkd.embeddings.embed_dataset` by all processes of the job, each of which must call it; the store is the same to the byte as from one process.

    Process N of P keeps its shards in `path/part-N-of-P` until all are there; interrupted, the same number of processes goes on shard by shard.

    Args:
      teacher: see `jaxkd.teachers.Teacher`.
      dataset: the same in every process.
      path: folder of the store, which all processes share.
      shard_rows: examples in a shard.
      batch_size: rows the teacher embeds at once.
      one_length: whether several processes refuse embeddings that differ from the first example's in their number of frames: each at the first that it meets.
      options: further ones of `embed_dataset`.

    Raises:
      DataError: in all processes, what `embed_dataset` raises in one, or if one does not see what another wrote.
      ConfigError: in all processes, what `embed_dataset` raises in one.
    """
    path, options = Path(path), {**options, "shard_rows": shard_rows, "batch_size": batch_size}
    finished = (path / FILE).is_file() and read_manifest(path).complete
    if hosts.count() > 1 and not hosts.all_true(finished):
        part = _Part(dataset, shard_rows, hosts.index(), hosts.count())
        with failing_together():
            if part.splits["part"]:
                frames = _frames_of_first(teacher, dataset, batch_size) if one_length else None
                embed_dataset(teacher, part, _folder(path, hosts.index()), frames=frames, **options)
        with failing_together():
            if hosts.index() == 0:
                _put_together(path, [number for number in range(hosts.count()) if _Part(dataset, shard_rows, number, hosts.count()).splits["part"]])
    with failing_together():
        hosts.wait_for_file(path / FILE)
        store = embed_dataset(teacher, dataset, path, verified=slice(hosts.index(), None, hosts.count()), **options)
        if one_length:
            require_one_length(store)
    if hosts.index() == 0:
        for left in path.glob("part-*-of-*"):  # of this job, or of one that was killed
            shutil.rmtree(left, ignore_errors=True)
    return store


def _frames_of_first(teacher: "Teacher", dataset: Examples, batch_size: int) -> int:
    first = next(name for split in dataset.splits.values() for name in split)
    return np.shape(teacher.embed(dataset.gather([first] * batch_size)))[1]


def _folder(path: Path, number: int) -> Path:
    return path / f"part-{number}-of-{hosts.count()}"


def _read_part(path: Path, number: int) -> Manifest:
    hosts.wait_for_file(_folder(path, number) / FILE)
    return read_manifest(_folder(path, number))


def _put_together(path: Path, numbers: list[int]) -> None:
    """Links the shards of the parts under their final names, then writes the manifest; killed anywhere, it can begin again."""
    parts = {number: _read_part(path, number) for number in numbers}
    shards = []
    for place in range(sum(len(part.shards) for part in parts.values())):
        number = place % hosts.count()
        shard = parts[number].shards[place // hosts.count()]
        named = shard._replace(file=f"shard-{place:05d}.npy", ids_file=f"shard-{place:05d}.json")
        for made, final in ((shard.file, named.file), (shard.ids_file, named.ids_file)):
            _link(_folder(path, number) / made, path / final)
        shards.append(named)
    write_manifest(path, parts[numbers[0]]._replace(shards=tuple(shards)))


def _link(made: Path, final: Path) -> None:
    final.unlink(missing_ok=True)
    try:
        os.link(made, final)
    except OSError:  # a file system without hard links
        shutil.copyfile(made, final)
