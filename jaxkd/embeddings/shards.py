"""The files of a shard of an embedding store: its vectors, mapped, and its ids."""

import contextlib
import errno
import hashlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxkd.embeddings.manifest import Manifest, Shard, remedy
from jaxkd.errors import ArtefactError, ResourceError
from jaxkd.files import sha256_file


@contextlib.contextmanager
def enough_open_files(path: Path, manifest: Manifest) -> Iterator[None]:
    """A block that opens all shards of the store at `path`; raises ResourceError if that is more files than this process may open."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise ResourceError(
            f"the embedding store {path} has {len(manifest.shards)} shards of {manifest.shard_rows} examples, each an open file, but this process may "
            f"open {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}: raise that limit (ulimit -Hn), or remove the folder and run again with larger shards "
            "(--config.store.shard_rows)."
        ) from error


def read_ids(path: Path, shard: Shard) -> tuple[list[str], list[int]]:
    """Ids of a shard of the store at `path`, and lengths in frames; raises ArtefactError if they are missing or altered."""
    file = path / shard.ids_file
    if not file.is_file():
        raise ArtefactError(f"{file} is missing. {remedy(path)}")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != shard.ids_sha256:
        raise ArtefactError(f"{file} was altered: its checksum differs from the manifest. {remedy(path)}")
    content = json.loads(data)
    return content["ids"], content["lengths"]


def map_shard(path: Path, shard: Shard, manifest: Manifest) -> np.ndarray:
    """The vectors of a shard, [vectors, D], read-only: a mapping of its file, which stays open. Raises ArtefactError if it is missing or damaged."""
    file = path / shard.file
    if not file.is_file():
        raise ArtefactError(f"{file} is missing. {remedy(path)}")
    if file.stat().st_size != shard.bytes:
        raise ArtefactError(f"{file} is damaged: it has {file.stat().st_size} bytes instead of {shard.bytes}. {remedy(path)}")
    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ArtefactError(f"{file} is damaged: {error}. {remedy(path)}") from error
    if manifest.dtype == "bfloat16" and vectors.dtype == "V2":  # what .npy files call it
        vectors = vectors.view(manifest.dtype)
    if vectors.shape != (shard.vectors, manifest.dim) or vectors.dtype != manifest.dtype:
        raise ArtefactError(
            f"{file} is damaged: it holds {vectors.dtype} {vectors.shape} instead of {manifest.dtype} {(shard.vectors, manifest.dim)}. {remedy(path)}"
        )
    return np.asarray(vectors)


def verify_shard(path: Path, shard: Shard) -> None:
    """Reads a shard; raises ArtefactError if its checksum differs from the manifest's."""
    found = sha256_file(path / shard.file)
    if found != shard.sha256:
        raise ArtefactError(f"{path / shard.file} is damaged: its sha256 is {found} instead of {shard.sha256}. {remedy(path)}")
