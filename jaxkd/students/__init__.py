"""Students by name: small networks with a head, and taps on their stages. Trained teachers are built from the same table."""

import math
from typing import Any

from jaxkd.errors import ConfigError
from jaxkd.plugins import check_name, resolve

STUDENTS = {
    "cp_resnet": "jaxkd.students.cp_resnet:cp_resnet",
    "cp_resnet_textbook": "jaxkd.students.cp_resnet:cp_resnet_textbook",
    "cp_resnet_small": "jaxkd.students.cp_resnet:cp_resnet_small",
    "cp_resnet_tiny": "jaxkd.students.cp_resnet:cp_resnet_tiny",
    "mobile_fcn": "jaxkd.students.mobile_fcn:mobile_fcn",
    "bag_of_words_tiny": "jaxkd.students.text:bag_of_words_tiny",
    "bag_of_embeddings": "jaxkd.students.text:bag_of_embeddings",
    "text_cnn": "jaxkd.students.text:text_cnn",
    "text_transformer": "jaxkd.students.text:text_transformer",
    "mlp": "jaxkd.students.features:mlp",
    "linear": "jaxkd.students.features:linear",
    "resnet_tiny": "jaxkd.students.image:resnet_tiny",
    "resnet8": "jaxkd.students.image:resnet8",
    "resnet20": "jaxkd.students.image:resnet20",
    "resnet56": "jaxkd.students.image:resnet56",
    "resnet110": "jaxkd.students.image:resnet110",
    "resnet56_v2": "jaxkd.students.image:resnet56_v2",
    "resnet92_v2": "jaxkd.students.image:resnet92_v2",
    "mobilenet": "jaxkd.students.image:mobilenet",
    "mobilenet_half": "jaxkd.students.image:mobilenet_half",
}

INPUTS = {"audio": "log_mel", "text": "tokens", "image": "image"}
"""What a network takes of a data set of each modality, unless it takes frozen features."""

_TAKES = {
    "log_mel": ("cp_resnet", "cp_resnet_textbook", "cp_resnet_small", "cp_resnet_tiny", "mobile_fcn"),
    "tokens": ("bag_of_words_tiny", "bag_of_embeddings", "text_cnn", "text_transformer"),
    "features": ("mlp", "linear"),
    "image": tuple(name for name, place in STUDENTS.items() if place.startswith("jaxkd.students.image:")),
}

_CP_RESNETS = tuple(name for name, place in STUDENTS.items() if place.startswith("jaxkd.students.cp_resnet:"))
_FEWEST_BANDS = dict.fromkeys(_CP_RESNETS, 16)
_EXACT_BANDS = {"mobile_fcn": (96, 128)}
"""Mel bands that the poolings of a student need."""
_FEWEST_FRAMES = {**dict.fromkeys(_CP_RESNETS, 15), "cp_resnet_textbook": 17, "mobile_fcn": 96}
"""Frames that the poolings of a student need; each takes any number from there on, and its last layer reads their mean."""

STAGE_CHANNELS: dict[str, tuple[int, ...]] = {
    "cp_resnet": (128, 256, 512),
    "cp_resnet_textbook": (128, 256, 512),
    "cp_resnet_small": (32, 64, 128),
    "cp_resnet_tiny": (8, 16, 32),
    "mobile_fcn": (128, 256, 256),
}
"""C_k after each stage of the networks that take log-mel; their data are the ones that take long to prepare."""


def inputs_of(name: str, modality: str) -> str:
    """What a network takes: "log_mel", "tokens", "features" or "image"; a network of your own takes what is usual for the modality."""
    return next((kind for kind, names in _TAKES.items() if name in names), INPUTS[modality])


def options(name: str, config: Any) -> dict[str, Any]:
    """The keywords of `build` that a config sets for a network."""
    chosen = {"vocabulary": config.text.vocabulary} if name in _TAKES["tokens"] else {}
    return chosen | ({"positions": config.text.max_tokens} if name == "text_transformer" else {})


def fitting(modality: str | None) -> tuple[str, ...]:
    """The networks that take the examples of a modality as they are; all for None."""
    return tuple(STUDENTS) if modality is None else _TAKES[INPUTS[modality]]


def check(name: str, *, modality: str | None = None, features: str = "", bands: int | None = None, field: str = "student.name") -> None:
    """Checks the name of a student without importing JAX.

    Args:
      name: in the table, or `package.module:attribute`.
      modality: of the data, or None where it is not known yet.
      features: the frozen encoder whose vectors are the inputs of a network that takes features.
      bands: mel bands of the front end, for a network that takes log-mel.
      field: of the config, where the name comes from.

    Raises:
      ConfigError: an unknown name, or a student that cannot take the data; the message lists those that can, or the numbers of bands.
    """
    check_name("student", name, STUDENTS)
    kind = inputs_of(name, modality or "audio")
    if name in STUDENTS and modality is not None and kind not in (INPUTS[modality], "features"):
        raise ConfigError(f"config.{field} is {name!r}, which takes {kind}, but the data is {modality}: choose one of {', '.join(fitting(modality))}.")
    if name in STUDENTS and (kind == "features") != bool(features):
        if features:
            raise ConfigError(f"config.student.features is {features!r}, but the student {name!r} takes {kind}: set it to '', or take mlp or linear.")
        raise ConfigError(f"the student {name!r} takes frozen features: name their encoder with --config.student.features=NAME, for example wordllama.")
    if kind == "log_mel" and bands is not None:
        _check_bands(name, bands)


def check_clips(name: str, frontend: Any, *, sample_rate: int, clip_seconds: float, field: str = "data.clip_seconds") -> None:
    """Checks the length of the clips that a network which takes log-mel is given, without importing JAX; others pass.

    Args:
      name: in the table, or `package.module:attribute`.
      frontend: `config.frontend`.
      sample_rate: of the clips, in Hz.
      clip_seconds: their length.
      field: of the config, where the length comes from.

    Raises:
      ConfigError: they are too short for the front end, or give fewer frames than the network needs.
    """
    if inputs_of(name, "audio") != "log_mel":
        return
    lost = frontend.kind == "kaldi"  # by pre-emphasis
    samples, fewest = round(clip_seconds * sample_rate), _FEWEST_FRAMES.get(name, 1)
    needed = lost + max((fewest - 1) * frontend.hop, frontend.n_fft // 2 + 1)
    if samples < needed:
        raise ConfigError(
            f"config.{field} is {clip_seconds}, but the student {name!r} needs clips of at least {math.ceil(1000 * needed / sample_rate) / 1000} s "
            f"({needed} samples, {fewest} frames of the front end): raise it, or lower frontend.hop."
        )


def _check_bands(name: str, bands: int) -> None:
    exact, fewest = _EXACT_BANDS.get(name), _FEWEST_BANDS.get(name, 1)
    if exact and bands not in exact:
        raise ConfigError(f"config.frontend.bands is {bands}, but the student {name!r} takes {' or '.join(map(str, exact))} mel bands: set it to {exact[0]}.")
    if bands < fewest:
        raise ConfigError(f"config.frontend.bands is {bands}, but the student {name!r} needs at least {fewest} mel bands: raise it.")


def build(name: str, *, num_outputs: int, axis_name: str | None = None, compute_dtype: str = "float32", **options: Any) -> Any:
    """Builds a network.

    Args:
      name: a name of STUDENTS, or `package.module:attribute` of a function with the keywords below.
      num_outputs: K, the size of the head.
      axis_name: the pmap axis that BatchNorm averages over, or None.
      compute_dtype: "float32", or "bfloat16" for `jaxkd.models.mixed_precision.MixedPrecision`.
      **options: further keywords of the function.

    Returns:
      A `flax.linen.Module`, or what has its `init`, `apply` and `clone`, whose `__call__(inputs, train)` gives `jaxkd.types.StudentOutputs`. Inputs are
      log-mel [B, T, F], tokens int32 [B, L], images float32 [B, H, W, channels] or features [B, D].

    Raises:
      ConfigError: an unknown name, or one that cannot be imported.
    """
    network = resolve("student", name, STUDENTS)(num_outputs=num_outputs, axis_name=axis_name, **options)
    if compute_dtype == "float32":
        return network
    from jaxkd.models.mixed_precision import MixedPrecision

    return MixedPrecision(network, compute_dtype)
