"""Subspaces on disk: their arrays, what they were made from, and a checksum."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.errors import ArtefactError
from jaxkd.files import atomic_directory, read_json, sha256_file, sha256_json, write_bytes, write_json
from jaxkd.lelp.subspaces import Subspaces

FORMAT = "jaxkd-subspaces"
VERSION = 2
ARRAYS = "subspaces.npz"
MANIFEST = "subspaces.json"


def _remedy(path: Path) -> str:
    return f"Remove the folder {path} and run again: the subspaces are then fitted anew."


def save_subspaces(path: str | Path, subspaces: Subspaces, *, identity: dict[str, Any]) -> str:
    """Writes subspaces to a folder, which appears whole or not at all.

    Args:
      path: folder to make; one that is there is replaced.
      subspaces: what to write.
      identity: JSON values that say what they were made from: the embeddings, the seed of the rotation, the source of the classes ("label" or
        "teacher"), and every option of the fit.

    Returns:
      The fingerprint of the identity.
    """
    path, buffer = Path(path), io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.asarray(value) for name, value in subspaces._asdict().items()})
    content = {"format": FORMAT, "version": VERSION, "identity": identity, "fingerprint": sha256_json(identity)}
    with atomic_directory(path) as temporary:
        write_bytes(temporary / ARRAYS, buffer.getvalue())
        content["arrays_sha256"] = sha256_file(temporary / ARRAYS)
        write_json(temporary / MANIFEST, {**content, "digest": sha256_json(content)})
    return content["fingerprint"]


def _differences(found: dict[str, Any], expected: dict[str, Any], prefix: str = "") -> list[str]:
    fields = []
    for name in sorted(found.keys() | expected.keys()):
        have, want = found.get(name, "nothing"), expected.get(name, "nothing")
        if isinstance(have, dict) and isinstance(want, dict):
            fields += _differences(have, want, f"{prefix}{name}.")
        elif have != want:
            fields.append(f"{prefix}{name} is {have!r}, {want!r} is wanted")
    return fields


def load_subspaces(path: str | Path, *, expected: dict[str, Any] | None = None) -> tuple[Subspaces, dict[str, Any]]:
    """Reads subspaces and verifies their checksum.

    Args:
      path: their folder.
      expected: the identity that the caller counts on; None skips the comparison.

    Returns:
      The subspaces and their identity.

    Raises:
      ArtefactError: they are missing, damaged or of another format version, or their identity differs (the message names each field).
    """
    path = Path(path)
    content = read_json(path / MANIFEST)
    if content.pop("digest", None) != sha256_json(content):
        raise ArtefactError(f"{path / MANIFEST} was altered: its digest differs from its content. {_remedy(path)}")
    kind = content["format"], content["version"]
    if kind != (FORMAT, VERSION):
        raise ArtefactError(f"{path / MANIFEST} is {kind[0]} version {kind[1]}; this jaxkd reads {FORMAT} version {VERSION}. {_remedy(path)}")
    if expected is not None:
        differences = _differences(content["identity"], json.loads(json.dumps(expected)))
        if differences:
            raise ArtefactError(f"the subspaces {path} were made from something else: {'; '.join(differences)}. Use another folder, or remove this one.")
    file = path / ARRAYS
    if not file.is_file() or sha256_file(file) != content["arrays_sha256"]:
        raise ArtefactError(f"{file} is missing or does not have the checksum in {MANIFEST}: it is damaged. {_remedy(path)}")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Subspaces(**{name: arrays[name] for name in Subspaces._fields}), content["identity"]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ArtefactError(f"{file} does not hold the arrays of subspaces ({error}). {_remedy(path)}") from error
