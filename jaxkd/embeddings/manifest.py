"""The manifest of an embedding store: what the embeddings were made from, and the size and checksum of each shard."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from jaxkd import hosts
from jaxkd.errors import ArtefactError
from jaxkd.files import read_json, sha256_json, write_json

FORMAT = "jaxkd-embeddings"
VERSION = 1
FILE = "manifest.json"
DTYPES = ("float16", "bfloat16", "float32")
ABSENT = "nothing"


class Shard(NamedTuple):
    """One shard: `file` holds the vectors of all its examples, [vectors, D]; `ids_file` their ids and lengths."""

    file: str
    rows: int
    vectors: int
    bytes: int
    sha256: str
    ids_file: str
    ids_sha256: str


class Manifest(NamedTuple):
    """What a store is; see `EmbeddingStore` for the fields."""

    identity: dict[str, Any]
    dim: int
    dtype: str
    shard_rows: int
    complete: bool
    shards: tuple[Shard, ...]


def remedy(path: Path) -> str:
    """The advice that ends every message about a store that cannot be used."""
    anew = f"Remove the folder {path} and run again: the embeddings are then made anew."
    if hosts.count() == 1:
        return anew
    return f"See first that all hosts find it so: --cache_dir must name a folder that all hosts share. Only if they do: {anew}"


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes the manifest of the store at `path` atomically, with a digest of its own content."""
    content = {**manifest._asdict(), "shards": [shard._asdict() for shard in manifest.shards], "format": FORMAT, "version": VERSION}
    write_json(path / FILE, {**content, "digest": sha256_json(content)})


def read_manifest(path: Path) -> Manifest:
    """Reads the manifest of the store at `path`.

    Raises:
      ArtefactError: it is missing, not JSON, altered, or of another format version.
    """
    content = read_json(path / FILE)
    if not isinstance(content, dict) or content.pop("digest", None) != sha256_json(content):
        raise ArtefactError(f"{path / FILE} was altered: its digest differs from its content. {remedy(path)}")
    kind = content.pop("format"), content.pop("version")
    if kind != (FORMAT, VERSION):
        raise ArtefactError(f"{path / FILE} is {kind[0]} version {kind[1]}; this jaxkd reads {FORMAT} version {VERSION}. {remedy(path)}")
    content["shards"] = tuple(Shard(**shard) for shard in content["shards"])
    return Manifest(**content)


def _differences(found: Any, expected: Any, name: str) -> list[tuple[str, Any, Any]]:
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = sorted(found.keys() | expected.keys())
        prefix = f"{name}." if name else ""
        return [item for key in keys for item in _differences(found.get(key, ABSENT), expected.get(key, ABSENT), f"{prefix}{key}")]
    return [] if found == expected else [(name, found, expected)]


def require_same(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compares two descriptions field by field, nested ones too.

    Raises:
      ArtefactError: names each differing field with both values.
    """
    differences = _differences(found, json.loads(json.dumps(expected)), "")
    if differences:
        fields = "; ".join(f"{name} is {have!r} in the store, {want!r} is wanted" for name, have, want in differences)
        raise ArtefactError(f"the embedding store {path} was made from something else: {fields}. Use another folder, or remove this one.")
