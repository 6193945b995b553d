"""The embedding store: teacher embeddings on disk, written once shard by shard, read by example id.

A store is a folder with `manifest.json` and, for each shard, `shard-NNNNN.npy` (the vectors of its examples one after the other,
[vectors, D], memory-mapped for reading) and `shard-NNNNN.json` (their ids and lengths in frames).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxkd.embeddings.manifest import DTYPES, FILE, Manifest, Shard, read_manifest, require_same, write_manifest
from jaxkd.embeddings.shards import enough_open_files, map_shard, read_ids, verify_shard
from jaxkd.errors import ArtefactError, ConfigError, DataError
from jaxkd.files import atomic_path, sha256_file, write_bytes
from jaxkd.progress import progress


def _description(manifest: Manifest) -> dict[str, Any]:
    return {**manifest.identity, "dim": manifest.dim, "dtype": manifest.dtype, "shard_rows": manifest.shard_rows}


class EmbeddingStore:
    """A finished store, opened for reading.

    Attributes:
      path: its folder.
      identity: what the embeddings were made from: teacher, weight hash, preprocessing, data fingerprint, time grid.
      ids: example ids in the order they were written.
      dim: D, length of a vector.
      widths: (D,), as of the one teacher; see `jaxkd.embeddings.joined`.
      dtype: numpy dtype of the stored vectors, float16, bfloat16 or float32.
      frames: T if every example has as many frames, else None (ragged).
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.identity = manifest.identity
        self.dim = manifest.dim
        self.widths = (manifest.dim,)
        self.dtype = np.dtype(manifest.dtype)
        self._manifest = manifest
        ids, lengths = [], []
        with enough_open_files(path, manifest):
            self._shards = [map_shard(path, shard, manifest) for shard in manifest.shards]
            for shard in manifest.shards:
                shard_ids, shard_lengths = read_ids(path, shard)
                ids.extend(shard_ids)
                lengths.extend(shard_lengths)
        self.ids = tuple(ids)
        self._lengths = np.asarray(lengths, np.int64)
        self._row = {name: row for row, name in enumerate(ids)}
        self._first_row = np.concatenate([[0], np.cumsum([shard.rows for shard in manifest.shards], dtype=np.int64)])
        self._offsets = np.concatenate([[0], np.cumsum(self._lengths)])
        self.frames = int(lengths[0]) if lengths and min(lengths) == max(lengths) else None

    @classmethod
    def open(cls, path: str | Path, *, expected: dict[str, Any] | None = None) -> "EmbeddingStore":
        """Opens a finished store. Checks sizes and headers of the shards and checksums of the rest; `verify` reads the shards too.

        Args:
          path: the store's folder.
          expected: the identity that the caller counts on; None skips the comparison.

        Raises:
          ArtefactError: the store is missing, unfinished or damaged, or its identity differs (the message names each field).
          ResourceError: it has more shards than this process may open files.
        """
        path = Path(path)
        if not (path / FILE).is_file():
            raise ArtefactError(f"there is no embedding store at {path}: run the embed stage first (--mode=precompute).")
        manifest = read_manifest(path)
        if expected is not None:
            require_same(path, manifest.identity, expected)
        if not manifest.complete:
            rows = sum(shard.rows for shard in manifest.shards)
            raise ArtefactError(f"the embedding store {path} is not finished ({rows} examples so far): run the embed stage again, it continues there.")
        return cls(path, manifest)

    @classmethod
    def create(cls, path: str | Path, *, identity: dict[str, Any], dim: int, dtype: str = "float16", shard_rows: int = 4096) -> "StoreWriter":
        """Begins a store, or continues one that was interrupted: finished shards are kept.

        Args:
          path: the store's folder.
          identity: JSON values that say what the embeddings are made from.
          dim: D, length of a vector.
          dtype: "float16", "bfloat16" (the range of float32, 8 bits of precision) or "float32".
          shard_rows: examples in a shard.

        Raises:
          ConfigError: a bad dtype or size.
          ArtefactError: the folder holds a finished store, a damaged one, or one made from something else.
        """
        if dtype not in DTYPES:
            raise ConfigError(f"an embedding store cannot hold {dtype!r}. Valid: {', '.join(DTYPES)}.")
        if dim < 1 or shard_rows < 1:
            raise ConfigError(f"dim is {dim} and shard_rows is {shard_rows}: both must be at least 1.")
        return StoreWriter(Path(path), Manifest(identity, dim, dtype, shard_rows, complete=False, shards=()))

    def __len__(self) -> int:
        return len(self.ids)

    def _rows(self, ids: Sequence[str]) -> np.ndarray:
        try:
            return np.fromiter(map(self._row.__getitem__, ids), np.int64, len(ids))
        except KeyError:
            missing = [name for name in ids if name not in self._row]
            raise DataError(
                f"{len(missing)} of {len(ids)} ids are not in the embedding store {self.path}, the first is {missing[0]!r}: "
                "the store was made from other data; make one from this data."
            ) from None

    def lengths(self, ids: Sequence[str]) -> np.ndarray:
        """Number of frames of each example, int64 [n].

        Raises:
          DataError: an id is not in the store; the message names the first and counts them.
        """
        return self._lengths[self._rows(ids)]

    def gather(self, ids: Sequence[str]) -> np.ndarray:
        """Embeddings in the order of `ids`, [n, T, D] in the stored dtype; ids may repeat.

        In a ragged store T is the longest of these examples, and shorter ones are followed by zeros (see `lengths`).

        Raises:
          DataError: an id is not in the store; the message names the first and counts them.
        """
        return self._gathered(self._rows(ids))

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings of the examples at these places of `ids`, integers [n], as `gather`.

        Consecutive ones in one shard are a view of its file, read-only. After consecutive ones the system is asked to read as many again from the disk,
        while the caller is at work on these.
        """
        if self.frames is None or not len(rows) or np.any(np.diff(rows) != 1):
            return self._gathered(rows)
        start, end = int(rows[0]), int(rows[-1]) + 1
        parts = [self._shards[shard][vectors] for shard, vectors in self._ranges(start, end)]
        if hasattr(os, "posix_fadvise"):
            self._read_ahead(end, min(end + len(rows), len(self)))
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(-1, self.frames, self.dim)

    def _ranges(self, start: int, end: int) -> Iterator[tuple[int, slice]]:
        """The shards of the examples from `start` to before `end`, and their vectors in each; of equally long examples."""
        assert self.frames is not None
        low, high = np.searchsorted(self._first_row, [start, end - 1], side="right")
        for shard in range(low - 1, high if start < end else low - 1):
            first, rows = int(self._first_row[shard]), self._manifest.shards[shard].rows
            yield shard, slice(max(start - first, 0) * self.frames, min(end - first, rows) * self.frames)

    def _read_ahead(self, start: int, end: int) -> None:
        width = self.dim * self.dtype.itemsize
        for shard, vectors in self._ranges(start, end):
            header = self._manifest.shards[shard].bytes - self._manifest.shards[shard].vectors * width
            with open(self.path / self._manifest.shards[shard].file, "rb") as file:
                os.posix_fadvise(file.fileno(), header + vectors.start * width, (vectors.stop - vectors.start) * width, os.POSIX_FADV_WILLNEED)

    def _gathered(self, rows: np.ndarray) -> np.ndarray:
        if self.frames is None:
            return self._gather_ragged(rows)
        gathered = np.empty((len(rows), self.frames, self.dim), self.dtype)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        shards, starts = np.unique(np.searchsorted(self._first_row, ordered, side="right") - 1, return_index=True)
        for shard, (low, high) in zip(shards, pairwise([*starts, len(rows)]), strict=True):
            examples = self._shards[shard].reshape(-1, self.frames, self.dim)
            gathered[order[low:high]] = examples[ordered[low:high] - self._first_row[shard]]
        return gathered

    def _gather_ragged(self, rows: np.ndarray) -> np.ndarray:
        lengths = self._lengths[rows]
        gathered = np.zeros((len(rows), int(lengths.max(initial=0)), self.dim), self.dtype)
        shards = np.searchsorted(self._first_row, rows, side="right") - 1
        starts = self._offsets[rows] - self._offsets[self._first_row[shards]]
        for position in np.argsort(rows, kind="stable"):
            start, length = starts[position], lengths[position]
            gathered[position, :length] = self._shards[shards[position]][start : start + length]
        return gathered

    def verify(self, shards: slice = slice(None)) -> None:
        """Reads every shard, or those of a slice, and compares its checksum.

        Raises:
          ArtefactError: a shard is damaged; the message names it.
        """
        for shard in progress(self._manifest.shards[shards], description=f"verify embeddings {self.path.name}", unit="shard"):
            verify_shard(self.path, shard)


def mean_embeddings(store: Any, ids: Sequence[str]) -> np.ndarray:
    """Mean over time of the embeddings of a store, joined or not, float32 [n, D]."""
    frames = store.gather(ids)
    return frames[:, 0].astype(np.float32) if store.frames == 1 else _mean_over_time(frames, store.lengths(ids))


def mean_embeddings_at(store: Any, rows: np.ndarray) -> np.ndarray:
    """Mean over time of the embeddings at these places of `store.ids`, integers [n], as it costs least: one frame as it is stored, else float32, [n, D]."""
    frames = store.at(rows)
    return frames[:, 0] if store.frames == 1 else _mean_over_time(frames, store.lengths([store.ids[row] for row in rows]))


def _mean_over_time(frames: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    present = np.arange(frames.shape[1])[None, :, None] < lengths[:, None, None]
    return np.where(present, frames.astype(np.float32), 0).sum(axis=1) / lengths[:, None].astype(np.float32)


class StoreWriter:
    """Appends examples to a store; each full shard is on disk, synced and listed in the manifest before the next begins.

    Attributes:
      ids_done: ids of the examples in finished shards, in order; a resumed writer expects the examples after them.
    """

    def __init__(self, path: Path, manifest: Manifest):
        self._path = path
        self._manifest = manifest
        self.ids_done: tuple[str, ...] = ()
        if (path / FILE).is_file():
            self._resume()
        else:
            path.mkdir(parents=True, exist_ok=True)
            write_manifest(path, manifest)
        self._known: set[str] = set(self.ids_done)
        self._ids: list[str] = []
        self._vectors: list[np.ndarray] = []

    def _resume(self) -> None:
        found = read_manifest(self._path)
        require_same(self._path, _description(found), _description(self._manifest))
        if found.complete:
            raise ArtefactError(f"the embedding store {self._path} is finished: open it, or use another folder.")
        done: list[str] = []
        for shard in found.shards:
            map_shard(self._path, shard, found)
            verify_shard(self._path, shard)
            done.extend(read_ids(self._path, shard)[0])
        self._manifest = found
        self.ids_done = tuple(done)

    def append(self, ids: Sequence[str], embeddings: np.ndarray | Sequence[np.ndarray]) -> None:
        """Adds examples.

        Args:
          ids: one for each example, unique in the store.
          embeddings: [n, T, D], or for ragged time a sequence of n arrays [T_i, D].

        Raises:
          DataError: an id repeats, a shape is wrong, or a value is NaN, infinite or beyond the dtype's range; the message names the id.
        """
        if len(ids) != len(embeddings):
            raise DataError(f"{len(ids)} ids were given with {len(embeddings)} embeddings.")
        for name, embedding in zip(ids, embeddings, strict=True):
            self._add(name, np.asarray(embedding))
            if len(self._ids) == self._manifest.shard_rows:
                self._flush()

    def _add(self, name: str, embedding: np.ndarray) -> None:
        if name in self._known:
            raise DataError(f"the id {name!r} is in the embedding store {self._path} already: ids must be unique.")
        if embedding.ndim != 2 or embedding.shape[1] != self._manifest.dim or not len(embedding):
            raise DataError(f"the embedding of {name!r} has shape {embedding.shape}; [frames, {self._manifest.dim}] with at least one frame is needed.")
        finite = np.isfinite(embedding)
        if not np.all(finite):
            raise DataError(f"the embedding of {name!r} has {np.sum(~finite)} values that are NaN or infinite: look at its input and the teacher's weights.")
        limit = float(ml_dtypes.finfo(self._manifest.dtype).max)
        largest = embedding.flat[np.argmax(np.abs(embedding))]
        if abs(largest) > limit:
            raise DataError(
                f"the embedding of {name!r} reaches {largest:g}, and {self._manifest.dtype} ends at {limit:g}: store it as float32 (config.store.dtype)."
            )
        self._known.add(name)
        self._ids.append(name)
        self._vectors.append(embedding.astype(self._manifest.dtype))

    def _flush(self) -> None:
        number = len(self._manifest.shards)
        file, ids_file = f"shard-{number:05d}.npy", f"shard-{number:05d}.json"
        vectors = np.concatenate(self._vectors)
        with atomic_path(self._path / file) as temporary:
            with open(temporary, "wb") as handle:
                np.save(handle, vectors, allow_pickle=False)
            digest, size = sha256_file(temporary), temporary.stat().st_size
        ids_data = json.dumps({"ids": self._ids, "lengths": [len(vector) for vector in self._vectors]}).encode()
        write_bytes(self._path / ids_file, ids_data)
        shard = Shard(file, len(self._ids), len(vectors), size, digest, ids_file, hashlib.sha256(ids_data).hexdigest())
        self._manifest = self._manifest._replace(shards=(*self._manifest.shards, shard))
        write_manifest(self._path, self._manifest)
        self.ids_done += tuple(self._ids)
        self._ids, self._vectors = [], []

    def finish(self) -> EmbeddingStore:
        """Writes what is left as the last shard, marks the store as finished and opens it.

        Raises:
          DataError: nothing was appended.
        """
        if self._ids:
            self._flush()
        if not self._manifest.shards:
            raise DataError(f"the embedding store {self._path} got no example.")
        self._manifest = self._manifest._replace(complete=True)
        write_manifest(self._path, self._manifest)
        return EmbeddingStore.open(self._path)
