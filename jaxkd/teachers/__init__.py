"""Pretrained teachers: a table of names that is read without importing JAX, and the protocol that all of them keep."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxkd.data.fetch import check_local_file
from jaxkd.data.packages import PACKAGES
from jaxkd.errors import ConfigError, unknown_name
from jaxkd.plugins import check_name, resolve
from jaxkd.recipes import EAST_TEACHERS
from jaxkd.teachers import choice as choosing
from jaxkd.teachers import hear, precomputed
from jaxkd.teachers.choice import Choice

TEACHERS = {
    "MTT_musicnn": "jaxkd.teachers.musicnn:build",
    "MSD_musicnn": "jaxkd.teachers.musicnn:build",
    "MTT_vgg": "jaxkd.teachers.musicnn:build",
    "MSD_vgg": "jaxkd.teachers.musicnn:build",
    "aisfx": "jaxkd.teachers.aisfx:build",
    "minilm": "jaxkd.teachers.sentence_encoder:build",
    "precomputed": "jaxkd.teachers.precomputed:build",
    "wordllama": "jaxkd.teachers.wordllama:build",
}
"""Beside these, "hear:PACKAGE.MODULE" is any module of the HEAR interface (see `jaxkd.teachers.hear`)."""

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
"""Dimension D of each embedding that a teacher offers; the first is its default. Precomputed embeddings have no name."""

_MUSICNN = ("MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg")

TEACHER_PACKAGES: dict[str, str] = {**dict.fromkeys(_MUSICNN, "musicnn"), "aisfx": "aisfx", "minilm": "minilm", "wordllama": "wordllama"}
"""The package in `jaxkd.data.packages` whose archive `build` takes."""

TEACHER_MODALITY: dict[str, str] = {**dict.fromkeys(_MUSICNN, "audio"), "aisfx": "audio", "minilm": "text", "wordllama": "text"}
"""What a pretrained teacher embeds."""

TEACHER_AUDIO: dict[str, tuple[int | None, float]] = {**dict.fromkeys(_MUSICNN, (16_000, 2.976)), "aisfx": (None, 1.14)}
"""Sample rate in Hz (None: any, clips are resampled) and shortest clip in seconds that a teacher takes."""

_TWO_FRAMES = {**dict.fromkeys(_MUSICNN, 95_488 / 16_000), "aisfx": 151_553 / 44_100}
"""Shortest clip in seconds of which a teacher's embedding has two frames."""

FINETUNED = ("minilm", *_MUSICNN)
"""Pretrained networks that `teacher.classifier="finetuned"` trains on the task; other names are networks of the students' table, trained from scratch."""

ON_FROZEN = ("linear", "mlp", "probe")
"""Values of `teacher.classifier` that are trained on the embedding of a frozen teacher."""

BFLOAT16 = (*_MUSICNN, "aisfx", "minilm")
"""Teachers that can compute in bfloat16; wordllama has no products, and the others are not computed here."""


class Teacher(Protocol):
    """A frozen network that maps examples to embeddings; audio int16 [B, samples], or a list of B texts.

    Attributes:
      name: in the table.
      embedding: which of its embeddings `embed` returns.
      dim: dimension D of that embedding.
      sample_rate: of the audio it takes, in Hz; None for text.
      hop_seconds: distance of two frames of its output, in seconds; 0 for text, and for one frame.
      weight_hash: hex sha256 of the weights' bytes.
      preprocessing: all that is done to the audio before the network, as JSON values.
      parameters: number of trained parameters, or None where it is not known.
    """

    name: str
    embedding: str
    dim: int
    sample_rate: int | None
    hop_seconds: float
    weight_hash: str
    preprocessing: dict[str, Any]
    parameters: int | None

    def macs_of(self, examples: Any) -> int | None:
        """Multiply-accumulates of the network for one of these examples (their mean where they differ in length), front end not counted; None: unknown."""
        ...

    def embed(self, examples: Any) -> np.ndarray:
        """Examples -> float32 [B, T, D]."""
        ...


def check(name: str, embedding: str = "", *, modality: str | None = None) -> str:
    """Checks the names of a teacher and its embedding without importing JAX.

    Args:
      name: in TEACHERS, "hear:PACKAGE.MODULE", or "package.module:attribute" of a build function of your own.
      embedding: one of the teacher's embeddings; "" for its default.
      modality: of the data, whose teachers alone are valid; None for any.

    Returns:
      The name of the embedding, with the default filled in.

    Raises:
      ConfigError: a name is unknown, or of a teacher for another modality; the message lists the valid ones and shows the nearest.
    """
    takes, valid = modality_of(name), _fitting(TEACHERS, modality)
    if modality is not None and takes not in (None, modality):
        own = [other for other in valid if other in TEACHER_MODALITY]
        advice = f"choose one of {', '.join(own)}" if own else "train a network: --config.teacher.classifier=finetuned --config.teacher.name=resnet20"
        raise ConfigError(f"the teacher {name} takes {takes}, but the data is {modality}: {advice}.")
    if name.startswith(hear.PREFIX):
        return hear.check(name, embedding)
    if name in EAST_TEACHERS:
        raise ConfigError(
            f"the teacher {name!r} is not one that runs here: configs/openmic.py and configs/magnatagatune.py read its stored embeddings (teacher={name}); "
            f"to embed audio by it, install a module of the HEAR interface and name that, {hear.PREFIX}PACKAGE.MODULE. Valid: {', '.join(sorted(valid))}."
        )
    check_name("teacher", name, valid)
    if name not in TEACHERS:
        return embedding
    if name == precomputed.NAME:
        if embedding:
            raise ConfigError(f"config.teacher.embedding is {embedding!r}, but precomputed embeddings have no name: set it to ''.")
        return embedding
    offered = TEACHER_EMBEDDINGS[name]
    if embedding and embedding not in offered:
        raise unknown_name(f"embedding of teacher {name}", embedding, offered)
    return embedding or next(iter(offered))


def check_audio(name: str, *, sample_rate: int, clip_seconds: float, field: str = "data.clip_seconds") -> None:
    """Raises ConfigError if a teacher of the table cannot take clips of this rate (Hz) and length (seconds), which comes from this field of the config."""
    rate, shortest = TEACHER_AUDIO.get(name, (None, 0.0))
    if rate is not None and sample_rate != rate:
        raise ConfigError(f"config.data.sample_rate is {sample_rate} Hz, but the teacher {name} takes {rate} Hz: set it to {rate}.")
    if clip_seconds < shortest:
        raise ConfigError(f"config.{field} is {clip_seconds}, but the teacher {name} needs clips of at least {shortest} s: raise it.")


def check_config(config: Any, *, modality: str | None, networks: Iterable[str]) -> None:
    """Checks `config.teacher` against the data without importing JAX.

    Args:
      config: of the experiment.
      modality: of the data, or None where it is not known yet.
      networks: names of the networks that can be trained from scratch on the data.

    Raises:
      ConfigError: an unknown name, or a teacher that cannot take the data or cannot be trained as asked.
    """
    settings, kind = config.teacher, config.teacher.classifier
    trainable = (*_fitting(FINETUNED, modality), *networks)
    if settings.others and kind != "none":
        raise ConfigError(f"config.teacher.others is {tuple(settings.others)}, but a trained classifier ({kind!r}) has one teacher: set others to ().")
    if kind == "finetuned" and settings.compute_dtype != "float32":
        raise ConfigError(f"config.teacher.compute_dtype is {settings.compute_dtype!r}, but a teacher that is trained here computes in float32: leave it out.")
    if kind == "finetuned" and settings.name not in TEACHERS:
        check_name("teacher to train", settings.name, trainable)
        return
    if kind == "finetuned" and settings.name not in FINETUNED:
        raise ConfigError(f"config.teacher.classifier is 'finetuned', but {settings.name} cannot be trained here: choose one of {', '.join(trainable)}.")
    if kind == "finetuned" and modality_of(settings.name) == "text" and settings.max_tokens < 3:
        raise ConfigError(f"config.teacher.max_tokens is {settings.max_tokens}, but must be at least 3: the first and last special token, and one of the text.")
    named = []
    for choice in choices(settings):
        named.append((choice.name, check_frozen(choice, config.data, modality=modality), choice.archive))
    if len(set(named)) < len(named):
        raise ConfigError(f"config.teacher.others is {tuple(settings.others)}, but names a teacher's embedding twice: name each once.")
    if settings.combine == "separate" and not settings.others:
        raise ConfigError("config.teacher.combine is 'separate', but there is one teacher: name more with config.teacher.others, or set it to 'concatenate'.")


def lacks_archive(settings: Any) -> bool:
    """Whether `config.teacher` is read from disk and does not say where."""
    return settings.name == "precomputed" and not settings.archive


def choices(settings: Any) -> tuple[Choice, ...]:
    """The frozen teachers that `config.teacher` names, the main one first; see `jaxkd.teachers.choice`."""
    return choosing.choices(settings, TEACHERS)


def check_frozen(choice: Choice, data: Any, *, modality: str | None) -> str:
    """Checks one frozen teacher against `config.data`, of this modality (None: not known yet); raises ConfigError. Returns the name of its embedding."""
    embedding = check(choice.name, choice.embedding, modality=modality)
    if choice.name == precomputed.NAME:
        precomputed.check_archive(choice.archive)
    elif choice.hop_seconds:
        raise ConfigError(f"hop_seconds is {choice.hop_seconds} for the teacher {choice.name}, which knows its own: it is for precomputed embeddings.")
    elif choice.archive:
        check_weights(choice.name, choice.archive)
    if choice.compute_dtype != "float32" and choice.name not in BFLOAT16:
        raise ConfigError(
            f"config.teacher.compute_dtype is {choice.compute_dtype!r}, which {choice.name} cannot: only {', '.join(BFLOAT16)}. Set it to float32."
        )
    if modality == "audio":
        check_audio(choice.name, sample_rate=data.sample_rate, clip_seconds=data.clip_seconds)
    return embedding


def check_weights(name: str, archive: str) -> None:
    """Checks that the local weights of a pretrained teacher are there, before they are read; those of a teacher of your own are not looked at.

    Raises:
      ConfigError: no such file or folder of weights of a HEAR module.
      FetchError: no such copy of the archive that is fetched otherwise, or one of another size.
    """
    path = Path(archive).expanduser()
    if name.startswith(hear.PREFIX):
        hear.check_weights(path)
    elif name in TEACHER_PACKAGES and not (TEACHER_MODALITY[name] == "text" and path.is_dir()):
        check_local_file(PACKAGES[TEACHER_PACKAGES[name]], path)


def check_other_archives(config: Any) -> None:
    """Checks `config.other.archives`, the embeddings of the other data set, against the frozen teachers.

    Raises:
      ConfigError: not one for each teacher that is precomputed, or no such folder or file.
    """
    archives, stored = config.other.archives, [choice for choice in choices(config.teacher) if choice.name == precomputed.NAME]
    if archives and len(archives) != len(stored):
        raise ConfigError(
            f"config.other.archives is {tuple(archives)}, but {len(stored)} of the teachers are read from disk: name one archive for each teacher "
            "'precomputed', in their order, or none if each teacher's own archive holds the embeddings of both data sets."
        )
    for archive in archives:
        precomputed.check_archive(str(archive), field="other.archives")


def other_choices(config: Any) -> tuple[Choice, ...]:
    """The frozen teachers of a config for the other data set: those that are precomputed read `config.other.archives`, where it names any."""
    archives = iter(config.other.archives)
    return tuple(
        choice._replace(archive=str(next(archives))) if config.other.archives and choice.name == precomputed.NAME else choice
        for choice in choices(config.teacher)
    )


def dims(settings: Any) -> tuple[int, ...]:
    """Dimension D of the embedding of each frozen teacher of `config.teacher`; empty where one is not known before it is loaded, as of a text archive."""
    offered = [
        ({} if choice.archive and modality_of(choice.name) == "text" else TEACHER_EMBEDDINGS.get(choice.name, {}), choice.embedding)
        for choice in choices(settings)
    ]
    found = [dims.get(embedding or next(iter(dims), "")) for dims, embedding in offered]
    return () if None in found else tuple(found)  # type: ignore[return-value]


def single_frame(settings: Any, *, clip_seconds: float) -> bool:
    """Whether the embedding of `config.teacher` is known to have one frame, T = 1, for clips of this length."""
    named = choices(settings)
    return all(choice.embedding != "timestamp" if choice.name.startswith(hear.PREFIX) else clip_seconds < _TWO_FRAMES.get(choice.name, 0.0) for choice in named)


def resamples(name: str) -> bool:
    """Whether a teacher takes clips of any rate, and is built for those it is to embed (`clips`)."""
    return name == "aisfx" or name.startswith(hear.PREFIX)


def modality_of(name: str) -> str | None:
    """What a frozen teacher embeds; None where it is not known."""
    return "audio" if name.startswith(hear.PREFIX) else TEACHER_MODALITY.get(name)


def _fitting(names: Iterable[str], modality: str | None) -> list[str]:
    """Those of the names whose teachers take data of a modality, or of which it is not known; all for None."""
    return [name for name in names if modality is None or modality_of(name) in (None, modality)]


def check_features(name: str, *, modality: str | None) -> None:
    """Raises ConfigError unless `name` is a frozen teacher whose embeddings can be a student's inputs on data of this modality (None: not known yet)."""
    if name == precomputed.NAME:
        raise ConfigError("config.student.features is 'precomputed', but a student's inputs must be made anew for new examples: name an encoder.")
    takes = modality_of(name)
    if modality is not None and takes is not None and takes != modality:
        fitting = ", ".join(other for other, kind in TEACHER_MODALITY.items() if kind == modality) or "none of these teachers"
        raise ConfigError(f"config.student.features is {name!r}, which takes {takes}, but the data is {modality}: choose {fitting}.")
    check(name, modality=modality)


def build(name: str, *, embedding: str = "", archive: Path, **options: Any) -> Teacher:
    """Loads a teacher.

    Args:
      name: in TEACHERS, "hear:PACKAGE.MODULE", or "package.module:attribute" of a build function of your own that takes name, embedding and archive.
      embedding: one of the teacher's embeddings; "" for its default.
      archive: file with the weights (for the musicnn family, the wheel of that package); `Path()` for none.
      **options: `compute_dtype`, "float32" or "bfloat16", for those of BFLOAT16; and what some teachers know of the data they are built for: `clips`, a
        `jaxkd.teachers.resampling.Clips`, for those that resample; `splits` (ids) and `hop_seconds` for precomputed embeddings.

    Raises:
      ConfigError: a name is unknown.
      ArtefactError: the archive is missing, truncated or altered.
    """
    embedding = check(name, embedding)
    make: Any = hear.build if name.startswith(hear.PREFIX) else resolve("teacher", name, TEACHERS)
    return make(name, embedding=embedding, archive=Path(archive), **options)
