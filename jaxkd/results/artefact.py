"""The durable student: parameters and config in a folder, nothing of the teacher. Every export is built from it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxkd import students
from jaxkd.data.transforms import audio_transform
from jaxkd.errors import ArtefactError
from jaxkd.files import atomic_directory, read_json, sha256_file, write_bytes, write_json
from jaxkd.frontend import LogMel
from jaxkd.metrics import sigmoid

SCHEMA = 1


def save_student(path: Path, variables: dict[str, Any], config: dict[str, Any]) -> None:
    """Writes a student.

    Args:
      path: folder to make.
      variables: {"params": ..., "batch_stats": ...} of the student alone.
      config: JSON values that rebuild it: "name", "classes", "sample_rate", "clip_samples", "frontend", "fingerprint".
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
        raise ArtefactError(f"{path}/config.json has schema {config.get('schema')!r}; this version of jaxkd reads {SCHEMA}.")
    file = path / "parameters.npz"
    if not file.exists() or sha256_file(file) != config["parameters_sha256"]:
        raise ArtefactError(f"{file} is missing or does not have the checksum in config.json: it is damaged; remove {path} and run with --mode=train.")
    with np.load(file, allow_pickle=False) as arrays:
        return unflatten_dict({tuple(key.split("/")): arrays[key] for key in arrays.files}), config


def load_predictor(path: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """The student of a run as a function.

    Args:
      path: its folder, `WORKDIR/student`.

    Returns:
      f(audio): int16 [B, samples], mono at the rate and of the length in its config.json -> scores in (0, 1), float32 [B, K], columns in
      the order of "classes" there.

    Raises:
      ArtefactError: as `load_student`.
    """
    variables, config = load_student(Path(path))
    student = students.build(config["name"], num_outputs=len(config["classes"]))
    names = ("kind", "n_fft", "window", "hop", "bands", "fmin", "fmax")
    transform = audio_transform(LogMel(sample_rate=config["sample_rate"], **{name: config["frontend"][name] for name in names}))
    logits = jax.jit(lambda variables, audio: student.apply(variables, transform(None, audio), train=False).logits)
    return lambda audio: sigmoid(np.asarray(logits(variables, audio)))
