"""The typed configuration of an experiment: defaults, string arguments, validation and fingerprint. Imports neither JAX nor any table."""

import difflib
import math
import re
from typing import Any

import ml_collections

from jaxkd.errors import ConfigError
from jaxkd.files import sha256_json

INSTRUMENTS = (
    "piano",
    "harpsichord",
    "organ",
    "guitar",
    "bass",
    "violin",
    "cello",
    "harp",
    "choir",
    "trumpet",
    "trombone",
    "sax",
    "clarinet",
    "flute",
    "synth",
    "drums",
)

# Where things lie and what is listed beside a run changes no result: these fields are in no fingerprint.
LOCATION_FIELDS = ("data.scores_archive", "data.train_bank_archive", "data.unseen_bank_archive", "data.tfds_dir", "teacher.archive", "compare")


def default_config() -> ml_collections.ConfigDict:
    """Every field of an experiment with its default; a file in `configs/` sets those that make it that experiment."""
    config = ml_collections.ConfigDict()
    config.name = "experiment"
    config.seed = 0
    config.method = "compressed"

    config.data = ml_collections.ConfigDict(
        {
            "source": "rendered_instruments",
            "folder": "",
            "classes": INSTRUMENTS,
            "sample_rate": 16_000,
            "clip_seconds": 3.0,
            "labelled": 300,
            "unlabelled": 900,
            "valid": 400,
            "test": 400,
            "unseen": 400,
            "seed": 0,
            "unseen_bank": "",
            "scores_archive": "",
            "train_bank_archive": "",
            "unseen_bank_archive": "",
            "tfds_dir": "",
        }
    )
    config.teacher = ml_collections.ConfigDict({"name": "MTT_musicnn", "embedding": "max_mean_pool", "normalisation": "zscore", "archive": ""})
    config.store = ml_collections.ConfigDict({"dtype": "float16", "shard_rows": 512})
    config.frontend = ml_collections.ConfigDict(
        {"kind": "kaldi", "n_fft": 1024, "window": 1024, "hop": 512, "bands": 64, "fmin": 0.0, "fmax": 8000.0, "fmin_jitter": 0, "fmax_jitter": 0}
    )
    config.student = ml_collections.ConfigDict({"name": "cp_resnet_small"})
    config.distance = ml_collections.ConfigDict(
        {"name": "distance_correlation", "bias_corrected": False, "group_size": 0, "features_expand": -1, "embedding_expand": -1}
    )
    config.east = ml_collections.ConfigDict({"weight": 0.8})
    config.compressed = ml_collections.ConfigDict({"weight": 0.5, "transformation": "linear", "features": 0, "teacher_weight": 1.0, "stop_gradient": True})
    config.training = ml_collections.ConfigDict(
        {
            "steps": 1000,
            "batch_size": 16,
            "unlabelled_ratio": 3,
            "optimiser": "adamw",
            "learning_rate": 1e-3,
            "warmup_steps": 50,
            "weight_decay": 1e-4,
            "clip_norm": 1.0,
            "schedule": "cosine",
            "plateau_factor": 0.2,
            "plateau_patience": 8,
            "early_stop_patience": 0,
            "mixup_alpha": 0.3,
            "mixup_mask": "and",
            "frequency_mask": 0,
            "time_mask": 0,
            "eval_every_steps": 100,
            "log_every_steps": 20,
        }
    )
    config.evaluation = ml_collections.ConfigDict({"batch_size": 64, "f1_threshold": 0.4, "bootstrap_resamples": 1000})
    config.parallel = ml_collections.ConfigDict({"mode": "jit"})
    config.compare = ml_collections.ConfigDict({"methods": ("probe", "baseline", "east", "compressed"), "seeds": (0, 1, 2)})
    return config


def parse_arg(arg: str | None, **defaults: Any) -> ml_collections.ConfigDict:
    """Parses the string argument of a config file: `configs/audio.py:method=east,runlocal`.

    Args:
      arg: comma-separated `name=value` pairs; a bare `name` sets a boolean.
      **defaults: the names allowed, each with a default that fixes its type (str, bool, int or float).

    Returns:
      The values, as a ConfigDict.

    Raises:
      ConfigError: an unknown name, or a value of the wrong type.
    """
    values = ml_collections.ConfigDict(defaults)
    for part in filter(None, (arg or "").split(",")):
        name, equals, text = part.partition("=")
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"unknown config argument {name!r}.{hint} Valid: {', '.join(sorted(defaults))}.")
        wanted = type(defaults[name])
        if wanted is bool:
            lowered = (text if equals else "true").lower()
            if lowered not in ("true", "false", "1", "0"):
                raise ConfigError(f"config argument {name}={text!r} is not a boolean: write {name}, {name}=true or {name}=false.")
            values[name] = lowered in ("true", "1")
        elif not equals:
            raise ConfigError(f"config argument {name!r} needs a value: {name}=...")
        else:
            try:
                values[name] = wanted(text)
            except ValueError as error:
                raise ConfigError(f"config argument {name}={text!r} is not of type {wanted.__name__}.") from error
    return values


def flatten(config: ml_collections.ConfigDict | dict, prefix: str = "") -> dict[str, Any]:
    """A nested config as {"data.seed": 0, ...}; tuples become lists, as JSON has them."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict | dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple | list) else value
    return flat


def result_fields(config: ml_collections.ConfigDict | dict) -> dict[str, Any]:
    """The flat fields that a result depends on: all but locations and the list of a comparison."""
    return {key: value for key, value in flatten(config).items() if not any(key == field or key.startswith(f"{field}.") for field in LOCATION_FIELDS)}


def fingerprint(config: ml_collections.ConfigDict | dict) -> str:
    """12 hex digits that name the result of a config."""
    return sha256_json(result_fields(config))[:12]


def differing_fields(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The fields in which two flat configs differ, each as `field: ours here, theirs there`."""
    missing = object()
    lines = []
    for key in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(key, missing), theirs.get(key, missing)
        if here != there:
            lines.append(f"{key}: {'absent' if here is missing else repr(here)} here, {'absent' if there is missing else repr(there)} there")
    return lines


def _require(condition: bool, field: str, value: Any, rule: str) -> None:
    if not condition:
        raise ConfigError(f"config.{field} is {value!r}, but must be {rule}.")


_POSITIVE_INTEGERS = (
    "data.sample_rate data.labelled store.shard_rows frontend.n_fft frontend.window frontend.hop frontend.bands "
    "training.steps training.batch_size training.eval_every_steps training.log_every_steps evaluation.batch_size evaluation.bootstrap_resamples"
).split()
_NON_NEGATIVE_INTEGERS = (
    "seed data.unlabelled data.unseen data.seed frontend.fmin_jitter frontend.fmax_jitter distance.group_size compressed.features training.unlabelled_ratio "
    "training.warmup_steps training.plateau_patience training.early_stop_patience training.frequency_mask training.time_mask"
).split()
_FRACTIONS = "east.weight compressed.weight training.plateau_factor evaluation.f1_threshold".split()
_NON_NEGATIVE_NUMBERS = "compressed.teacher_weight training.weight_decay training.mixup_alpha frontend.fmin".split()
_POSITIVE_NUMBERS = "data.clip_seconds training.learning_rate training.clip_norm frontend.fmax".split()
_CHOICES = {
    "store.dtype": ("float16", "float32"),
    "frontend.kind": ("kaldi", "slaney"),
    "teacher.normalisation": ("none", "zscore"),
    "distance.name": ("distance_correlation", "fitnet"),
    "compressed.transformation": ("linear", "mlp", "identity"),
    "training.optimiser": ("adam", "adamw"),
    "training.schedule": ("cosine", "plateau", "constant"),
    "training.mixup_mask": ("and", "or"),
    "parallel.mode": ("jit", "pmap"),
}


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks types, ranges and combinations of a config without touching a device.

    Raises:
      ConfigError: names the field, its value, the limit and the fix.
    """
    flat = flatten(config)
    expected = flatten(default_config())
    for key in flat:
        if key not in expected:
            near = difflib.get_close_matches(key, expected, n=1, cutoff=0.5)
            raise ConfigError(f"unknown config field {key!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
    for key in expected:
        if key not in flat:
            raise ConfigError(f"config field {key!r} is missing: start from jaxkd.config.default_config().")
        kind = float if isinstance(expected[key], float) else type(expected[key])
        allowed = (int, float) if kind is float else kind
        value = flat[key]
        _require(isinstance(value, allowed) and (kind is bool or not isinstance(value, bool)), key, value, f"of type {kind.__name__}")
    for key in _POSITIVE_INTEGERS:
        _require(flat[key] >= 1, key, flat[key], "an integer of at least 1")
    for key in _NON_NEGATIVE_INTEGERS:
        _require(flat[key] >= 0, key, flat[key], "an integer of at least 0")
    for key in ("data.valid", "data.test"):
        _require(flat[key] >= 2, key, flat[key], "an integer of at least 2: a metric needs clips with and without a class")
    for key, value in flat.items():
        _require(not isinstance(value, float) or math.isfinite(value), key, value, "finite")
    for key in _FRACTIONS:
        _require(0.0 <= flat[key] <= 1.0, key, flat[key], "between 0 and 1")
    for key in _NON_NEGATIVE_NUMBERS:
        _require(flat[key] >= 0, key, flat[key], "at least 0")
    for key in _POSITIVE_NUMBERS:
        _require(flat[key] > 0, key, flat[key], "above 0")
    for key, choices in _CHOICES.items():
        _require(flat[key] in choices, key, flat[key], f"one of {', '.join(choices)}")
    _validate_combinations(flat)


def _validate_combinations(flat: dict[str, Any]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", flat["name"]):
        raise ConfigError(f"config.name is {flat['name']!r}, but it names a folder: use letters, digits, '_', '-' and '.' only, no '.' at the start.")
    classes = flat["data.classes"]
    if len(classes) < 2 or len(set(classes)) != len(classes) or not all(isinstance(name, str) for name in classes):
        raise ConfigError(f"config.data.classes has {len(classes)} entries, but must be at least 2 different names.")
    if flat["data.source"] == "rendered_instruments":
        if flat["training.batch_size"] > flat["data.labelled"]:
            raise ConfigError(
                f"config.training.batch_size is {flat['training.batch_size']}, larger than the data set of {flat['data.labelled']} labelled clips: "
                "lower training.batch_size or raise data.labelled."
            )
        per_step = flat["training.batch_size"] * flat["training.unlabelled_ratio"]
        if 0 < flat["data.unlabelled"] < per_step:
            raise ConfigError(
                f"config.training.unlabelled_ratio is {flat['training.unlabelled_ratio']}: {per_step} unlabelled clips a batch, more than the "
                f"{flat['data.unlabelled']} there are: lower training.unlabelled_ratio or training.batch_size, or raise data.unlabelled."
            )
    nyquist = flat["data.sample_rate"] / 2
    if flat["frontend.fmax"] > nyquist:
        raise ConfigError(f"config.frontend.fmax is {flat['frontend.fmax']} Hz, above half the sample rate ({nyquist} Hz): lower it.")
    if flat["frontend.fmin"] + flat["frontend.fmin_jitter"] >= flat["frontend.fmax"] - flat["frontend.fmax_jitter"]:
        raise ConfigError(f"config.frontend.fmin is {flat['frontend.fmin']} Hz, not below fmax {flat['frontend.fmax']} Hz with their jitters: lower it.")
    if flat["frontend.n_fft"] % 2:
        raise ConfigError(f"config.frontend.n_fft is {flat['frontend.n_fft']}, but must be even.")
    if flat["frontend.window"] > flat["frontend.n_fft"]:
        raise ConfigError(f"config.frontend.window is {flat['frontend.window']}, above n_fft {flat['frontend.n_fft']}: lower it.")
    if flat["frontend.kind"] == "slaney" and flat["frontend.fmin_jitter"] + flat["frontend.fmax_jitter"] > 0:
        raise ConfigError("config.frontend.fmin_jitter and fmax_jitter need frontend.kind='kaldi': set them to 0.")
    if flat["distance.group_size"] and flat["distance.group_size"] < (4 if flat["distance.bias_corrected"] else 2):
        raise ConfigError(
            f"config.distance.group_size is {flat['distance.group_size']}, but a group needs at least 2 rows (4 if bias_corrected); 0 is the batch."
        )
    expands = flat["distance.features_expand"], flat["distance.embedding_expand"]
    if min(expands) < -1 or 0 in expands or (-1 in expands and expands != (-1, -1)):
        raise ConfigError(f"config.distance.features_expand and embedding_expand are {expands}: both -1 (mean over time), or both a number of repeats.")
    if flat["training.early_stop_patience"] and flat["training.schedule"] != "plateau":
        raise ConfigError("config.training.early_stop_patience needs training.schedule='plateau': set it to 0, or change the schedule.")
    if flat["training.warmup_steps"] >= flat["training.steps"]:
        raise ConfigError(f"config.training.warmup_steps is {flat['training.warmup_steps']}, not below training.steps {flat['training.steps']}: lower it.")
    if not flat["compare.methods"] or not flat["compare.seeds"]:
        raise ConfigError("config.compare.methods and compare.seeds must each name at least one.")
    for field in ("compare.methods", "compare.seeds"):
        if len(set(flat[field])) != len(flat[field]):
            raise ConfigError(f"config.{field} is {flat[field]!r}, but names one twice: name each once.")
    if any(not isinstance(seed, int) or seed < 0 for seed in flat["compare.seeds"]):
        raise ConfigError(f"config.compare.seeds is {flat['compare.seeds']!r}, but must be integers of at least 0.")
