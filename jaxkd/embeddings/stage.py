"""The embed stage: runs a teacher over a data set once and keeps what it says."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from jaxkd.embeddings.manifest import FILE, read_manifest, remedy, require_same
from jaxkd.embeddings.store import EmbeddingStore
from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.files import require_free_disk
from jaxkd.progress import progress

if TYPE_CHECKING:
    from jaxkd.teachers import Teacher

ONE_LENGTH = "several processes can only split batches of one number of frames: take clips and a teacher that give as many for each, or train in one process."


class Examples(Protocol):
    """What the stage needs of a data set."""

    fingerprint: str
    sample_rate: int
    splits: dict[str, list[str]]

    def gather(self, ids: list[str]) -> np.ndarray:
        """Rows in the order of `ids`."""
        ...


def store_identity(teacher: "Teacher", dataset: Examples) -> dict[str, Any]:
    """What an embedding depends on; a store is used only where all of it agrees."""
    return {
        "teacher": teacher.name,
        "embedding": teacher.embedding,
        "weight_hash": teacher.weight_hash,
        "preprocessing": teacher.preprocessing,
        "hop_seconds": teacher.hop_seconds,
        "data_fingerprint": dataset.fingerprint,
    }


def embed_dataset(
    teacher: "Teacher",
    dataset: Examples,
    path: str | Path,
    *,
    dtype: str = "float16",
    batch_size: int = 16,
    shard_rows: int = 4096,
    verified: slice = slice(None),
    frames: int | None = None,
) -> EmbeddingStore:
    """Embeds every example of every split, and returns the store; a finished store is verified and reused, an interrupted one continued.

    Batches are cut within a shard and filled up to `batch_size` with copies of their last row, so that the teacher sees one shape
    and a continued store is equal to an uninterrupted one to the byte.

    Args:
      teacher: see `jaxkd.teachers.Teacher`.
      dataset: its rows are what `teacher.embed` takes.
      path: folder of the store.
      dtype: "float16", "bfloat16" or "float32".
      batch_size: rows the teacher embeds at once.
      shard_rows: examples in a shard.
      verified: the shards of a finished store that are verified.
      frames: of every embedding that is made, as of the first example; None for any.

    Raises:
      ConfigError: a bad size or dtype, the sample rates of teacher and data differ, or an embedding has another number of frames.
      ArtefactError: the store at `path` is damaged or was made from something else; the message names the field or the shard.
      DataError: ids repeat, or an embedding is not finite or beyond the dtype's range; the message names the id.
    """
    path = Path(path)
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1.")
    if teacher.sample_rate != dataset.sample_rate:
        raise ConfigError(f"the teacher {teacher.name} takes audio at {teacher.sample_rate} Hz, the data has {dataset.sample_rate} Hz: resample the data.")
    ids = [name for split in dataset.splits.values() for name in split]
    identity = store_identity(teacher, dataset)
    if (path / FILE).is_file():
        found = read_manifest(path)
        if found.complete:
            require_same(path, {**found.identity, "dtype": found.dtype}, {**identity, "dtype": dtype})
            store = EmbeddingStore.open(path, expected=identity)
            store.verify(verified)
            _require_ids(path, store.ids, tuple(ids))
            return store
    writer = EmbeddingStore.create(path, identity=identity, dim=teacher.dim, dtype=dtype, shard_rows=shard_rows)
    done = len(writer.ids_done)
    _require_ids(path, writer.ids_done, tuple(ids[:done]))
    with progress(total=len(ids), initial=done, description=f"embed with {teacher.name}", unit="example") as bar:
        for shard_start in range(done, len(ids), shard_rows):
            shard_ids = ids[shard_start : shard_start + shard_rows]
            for start in range(0, len(shard_ids), batch_size):
                batch_ids = shard_ids[start : start + batch_size]
                filled = batch_ids + batch_ids[-1:] * (batch_size - len(batch_ids))
                embedding = np.asarray(teacher.embed(dataset.gather(filled)))[: len(batch_ids)]
                found = embedding.shape[1]
                if found != (frames or found):
                    raise ConfigError(f"the embedding of {batch_ids[0]!r} by {teacher.name} has {found} frames, the first example's {frames}, but {ONE_LENGTH}")
                if shard_start + start == done:
                    left = (len(ids) - done) * embedding[0].size * np.dtype(dtype).itemsize
                    require_free_disk(path, left, f"The embedding store {path}")
                writer.append(batch_ids, embedding)
                bar.update(len(batch_ids))
    return writer.finish()


def _require_ids(path: Path, found: tuple[str, ...], expected: tuple[str, ...]) -> None:
    if found != expected:
        position = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), min(len(found), len(expected)))
        raise ArtefactError(
            f"the embedding store {path} holds {len(found)} ids and the data {len(expected)}; they first differ at example {position + 1}. {remedy(path)}"
        )
