"""Pretrained teachers: a table of names that is read without importing JAX, and the protocol that all of them keep."""

from collections.abc import Iterable
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
    "aisfx": "jaxkd.teachers.aisfx:build",
    "minilm": "jaxkd.teachers.sentence_encoder:build",
    "wordllama": "jaxkd.teachers.wordllama:build",
}

_MUSICNN_EMBEDDINGS = {"max_mean_pool": 1506, "max_pool": 753, "mean_pool": 753, "penultimate": 200, "logits": 50}
_VGG_EMBEDDINGS = {"pool5": 256, "logits": 50}

TEACHER_EMBEDDINGS: dict[str, dict[str, int]] = {
    "MTT_musicnn": _MUSICNN_EMBEDDINGS,
    "MSD_musicnn": _MUSICNN_EMBEDDINGS,
    "MTT_vgg": _VGG_EMBEDDINGS,
    "MSD_vgg": _VGG_EMBEDDINGS,
    "aisfx": {"embedding": 512},
    "minilm": {"mean": 384, "cls": 384},
    "wordllama": {"mean": 256},
}
"""Dimension D of each embedding that a teacher offers; the first is its default."""

_MUSICNN = ("MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg")

TEACHER_PACKAGES: dict[str, str] = {**dict.fromkeys(_MUSICNN, "musicnn"), "aisfx": "aisfx", "minilm": "minilm", "wordllama": "wordllama"}
"""The package in `jaxkd.data.packages` whose archive `build` takes."""

TEACHER_MODALITY: dict[str, str] = {**dict.fromkeys(_MUSICNN, "audio"), "aisfx": "audio", "minilm": "text", "wordllama": "text"}
"""What a pretrained teacher embeds."""

TEACHER_AUDIO: dict[str, tuple[int | None, float]] = {**dict.fromkeys(_MUSICNN, (16_000, 2.976)), "aisfx": (None, 1.14)}
"""Sample rate in Hz (None: any, clips are resampled) and shortest clip in seconds that a teacher takes."""

RESAMPLING = ("aisfx",)
"""Teachers that are built for the clips they are to embed: their `build` also takes `clips`."""

FINETUNED = ("minilm",)
"""Pretrained networks that `teacher.classifier="finetuned"` trains on the task; other names are networks of the students' table, trained from scratch."""


class Teacher(Protocol):
    """A frozen network that maps examples to embeddings; audio int16 [B, samples], or a list of B texts.

    Attributes:
      name: in the table.
      embedding: which of its embeddings `embed` returns.
      dim: dimension D of that embedding.
      sample_rate: of the audio it takes, in Hz; None for text.
      hop_seconds: distance of two frames of its output, in seconds; 0 for text.
      weight_hash: hex sha256 of the weights' bytes.
      preprocessing: all that is done to the audio before the network, as JSON values.
      parameters: number of trained parameters.
    """

    name: str
    embedding: str
    dim: int
    sample_rate: int | None
    hop_seconds: float
    weight_hash: str
    preprocessing: dict[str, Any]
    parameters: int

    def macs_of(self, examples: Any) -> int:
        """Multiply-accumulates of the network for one of these examples (their mean where they differ in length), front end not counted."""
        ...

    def embed(self, examples: Any) -> np.ndarray:
        """Examples -> float32 [B, T, D]."""
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
    rate, shortest = TEACHER_AUDIO.get(name, (None, 0.0))
    if rate is not None and sample_rate != rate:
        raise ConfigError(f"config.data.sample_rate is {sample_rate} Hz, but the teacher {name} takes {rate} Hz: set it to {rate}.")
    if clip_seconds < shortest:
        raise ConfigError(f"config.data.clip_seconds is {clip_seconds}, but the teacher {name} needs clips of at least {shortest} s: raise it.")


def check_config(config: Any, *, modality: str | None, networks: Iterable[str]) -> None:
    """Checks `config.teacher` against the data without importing JAX.

    Args:
      config: of the experiment.
      modality: of the data, or None where it is not known yet.
      networks: names of the networks that can be trained from scratch.

    Raises:
      ConfigError: an unknown name, or a teacher that cannot take the data or cannot be trained as asked.
    """
    settings, kind = config.teacher, config.teacher.classifier
    if kind == "finetuned" and settings.name not in TEACHERS:
        check_name("teacher to train", settings.name, (*FINETUNED, *networks))
        return
    if kind == "finetuned" and settings.name not in FINETUNED:
        raise ConfigError(f"config.teacher.classifier is 'finetuned', but {settings.name} cannot be trained here: choose one of {', '.join(FINETUNED)}.")
    check(settings.name, settings.embedding)
    takes = TEACHER_MODALITY.get(settings.name)
    if modality is not None and takes is not None and takes != modality:
        fitting = [name for name, other in TEACHER_MODALITY.items() if other == modality]
        advice = f"choose one of {', '.join(fitting)}" if fitting else "train a network: --config.teacher.classifier=finetuned --config.teacher.name=resnet20"
        raise ConfigError(f"the teacher {settings.name} takes {takes}, but the data is {modality}: {advice}.")
    if modality == "audio":
        check_audio(settings.name, sample_rate=config.data.sample_rate, clip_seconds=config.data.clip_seconds)


def check_features(name: str, *, modality: str | None) -> None:
    """Raises ConfigError unless `name` is a frozen teacher whose embeddings can be a student's inputs on data of this modality (None: not known yet)."""
    check(name, "")
    takes = TEACHER_MODALITY.get(name)
    if modality is not None and takes is not None and takes != modality:
        fitting = ", ".join(other for other, kind in TEACHER_MODALITY.items() if kind == modality) or "none of these teachers"
        raise ConfigError(f"config.student.features is {name!r}, which takes {takes}, but the data is {modality}: choose {fitting}.")


def build(name: str, *, embedding: str = "", archive: Path, clips: Any = None) -> Teacher:
    """Loads a teacher.

    Args:
      name: in TEACHERS, or "package.module:attribute" of a build function of your own that takes the same arguments.
      embedding: one of TEACHER_EMBEDDINGS[name]; "" for its default.
      archive: file with the weights (for the musicnn family, the wheel of that package).
      clips: what it is to embed, a `jaxkd.teachers.resampling.Clips`; for the teachers of RESAMPLING.

    Raises:
      ConfigError: a name is unknown.
      ArtefactError: the archive is missing, truncated or altered.
    """
    embedding = check(name, embedding)
    options = {"clips": clips} if name in RESAMPLING else {}
    return resolve("teacher", name, TEACHERS)(name, embedding=embedding, archive=Path(archive), **options)
