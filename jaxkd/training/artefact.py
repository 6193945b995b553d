"""The durable student: parameters and config in a folder, nothing of the teacher. Every export is built from it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxkd.errors import ArtefactError
from jaxkd.files import atomic_directory, read_json, sha256_file, write_bytes, write_json

SCHEMA = 2


def save_student(path: Path, variables: dict[str, Any], config: dict[str, Any]) -> None:
    """Writes a student.

    Args:
      path: folder to make.
      variables: {"params": ..., "batch_stats": ...} of the student alone.
      config: JSON values that rebuild it: "name", "options", "task", "classes", "outputs_per_label", "inputs", "fingerprint".
    """
    arrays = {"/".join(key): np.asarray(value) for key, value in flatten_dict(variables).items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    with atomic_directory(path) as temporary:
        write_bytes(temporary / "parameters.npz", buffer.getvalue())
        write_json(temporary / "config.json", {"schema": SCHEMA, **config, "parameters_sha256": sha256_file(temporary / "parameters.npz")})


def load_student(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a student: its variables and its config.

    Raises:
      ArtefactError: a file is missing or damaged, or is of a newer schema.
    """
    config = read_json(path / "config.json")
    if config.get("schema") != SCHEMA:
        raise ArtefactError(f"{path}/config.json has schema {config.get('schema')!r}, not {SCHEMA}: name the folder student/ of a run, or train again.")
    file = path / "parameters.npz"
    if not file.exists() or sha256_file(file) != config["parameters_sha256"]:
        raise ArtefactError(f"{file} is missing or does not have the checksum in config.json: it is damaged; remove {path} and run with --mode=train.")
    with np.load(file, allow_pickle=False) as arrays:
        variables = unflatten_dict({tuple(key.split("/")): arrays[key] for key in arrays.files})
    return {"batch_stats": {}, **variables}, config
