"""Pretrained teachers: a table of names that is read without importing JAX, and the protocol that all of them keep."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxkd.errors import ConfigError, unknown_name
from jaxkd.plugins import check_name, resolve

TEACHERS = {
    "MTT_musicnn": "jaxkd.teachers.musicnn:build",
    "MSD_musicnn": "jaxkd.teachers.musicnn:build",
    "MTT_vgg": "jaxkd.teachers.musicnn:build",
    "MSD_vgg": "jaxkd.teachers.musicnn:build",
}

_MUSICNN_EMBEDDINGS = {"max_mean_pool": 1506, "max_pool": 753, "mean_pool": 753, "penultimate": 200, "logits": 50}
_VGG_EMBEDDINGS = {"pool5": 256, "logits": 50}

TEACHER_EMBEDDINGS: dict[str, dict[str, int]] = {
    "MTT_musicnn": _MUSICNN_EMBEDDINGS,
    "MSD_musicnn": _MUSICNN_EMBEDDINGS,
    "MTT_vgg": _VGG_EMBEDDINGS,
    "MSD_vgg": _VGG_EMBEDDINGS,
}
"""Dimension D of each embedding that a teacher offers; the first is its default."""

TEACHER_PACKAGES = dict.fromkeys(TEACHERS, "musicnn")
"""The package in `jaxkd.data.packages` whose archive `build` takes."""

TEACHER_AUDIO = dict.fromkeys(TEACHERS, (16_000, 2.976))
"""Sample rate in Hz and shortest clip in seconds that a teacher takes."""


class Teacher(Protocol):
    """A frozen network that maps audio to embeddings.

    Attributes:
      name: in the table.
      embedding: which of its embeddings `embed` returns.
      dim: dimension D of that embedding.
      sample_rate: of the audio it takes, in Hz.
      hop_seconds: distance of two frames of its output, in seconds.
      weight_hash: hex sha256 of the weights' bytes.
      preprocessing: all that is done to the audio before the network, as JSON values.
      parameters: number of trained parameters.
      tags: names of the columns of `logits`.
    """

    name: str
    embedding: str
    dim: int
    sample_rate: int
    hop_seconds: float
    weight_hash: str
    preprocessing: dict[str, Any]
    parameters: int
    tags: tuple[str, ...]

    def frames(self, samples: int) -> int:
        """Number of frames T for a clip of `samples` samples."""
        ...

    def macs_per_example(self, samples: int) -> int:
        """Multiply-accumulates of the network for a clip of `samples` samples, front end not counted."""
        ...

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """int16 [B, samples] -> float32 [B, T, D]."""
        ...

    def logits(self, audio: np.ndarray) -> np.ndarray:
        """int16 [B, samples] -> the teacher's own outputs before the sigmoid, float32 [B, T, K]."""
        ...


def check(name: str, embedding: str = "") -> str:
    """Checks the names of a teacher and its embedding without importing JAX.

    Args:
      name: in TEACHERS, or "package.module:attribute" of a build function of your own.
      embedding: one of the teacher's embeddings; "" for its default.

    Returns:
      The name of the embedding, with the default filled in.

    Raises:
      ConfigError: a name is unknown; the message lists the valid ones and shows the nearest.
    """
    check_name("teacher", name, TEACHERS)
    if name not in TEACHERS:
        return embedding
    offered = TEACHER_EMBEDDINGS[name]
    if embedding and embedding not in offered:
        raise unknown_name(f"embedding of teacher {name}", embedding, offered)
    return embedding or next(iter(offered))


def check_audio(name: str, *, sample_rate: int, clip_seconds: float) -> None:
    """Raises ConfigError if a teacher of the table cannot take clips of this rate (Hz) and length (seconds)."""
    rate, shortest = TEACHER_AUDIO.get(name, (sample_rate, 0.0))
    if sample_rate != rate:
        raise ConfigError(f"config.data.sample_rate is {sample_rate} Hz, but the teacher {name} takes {rate} Hz: set it to {rate}.")
    if clip_seconds < shortest:
        raise ConfigError(f"config.data.clip_seconds is {clip_seconds}, but the teacher {name} needs clips of at least {shortest} s: raise it.")


def build(name: str, *, embedding: str = "", archive: Path) -> Teacher:
    """Loads a teacher.

    Args:
      name: in TEACHERS, or "package.module:attribute" of a build function of your own that takes the same arguments.
      embedding: one of TEACHER_EMBEDDINGS[name]; "" for its default.
      archive: file with the weights (for the musicnn family, the wheel of that package).

    Raises:
      ConfigError: a name is unknown.
      ArtefactError: the archive is missing, truncated or altered.
    """
    embedding = check(name, embedding)
    return resolve("teacher", name, TEACHERS)(name, embedding=embedding, archive=Path(archive))
