"""The typed configuration of an experiment: defaults, string arguments and fingerprint. Imports neither JAX nor any table."""

import difflib
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

# Where things lie, how far ahead batches are read and what is listed beside a run changes no result: these fields are in no fingerprint.
NO_RESULT_FIELDS = (
    "data.archive",
    "data.scores_archive",
    "data.train_bank_archive",
    "data.unseen_bank_archive",
    "data.tfds_dir",
    "data.tfds_data_dir",
    "teacher.archive",
    "other.archives",
    "parallel.prefetch",
    "compare",
)


def _training(**overrides: Any) -> ml_collections.ConfigDict:
    """How a network is trained; the same fields for a student and for a teacher's classifier."""
    defaults = {
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
        "length_pool": 1,
        "steps_per_dispatch": 1,
        "frequency_mask": 0,
        "time_mask": 0,
        "eval_every_steps": 100,
        "log_every_steps": 20,
    }
    return ml_collections.ConfigDict(defaults | overrides)


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
            "archive": "",
            "classes": INSTRUMENTS,
            "sample_rate": 16_000,
            "clip_seconds": 3.0,
            "labelled": 300,
            "unlabelled": 900,
            "label_share": 1.0,
            "valid": 400,
            "test": 400,
            "unseen": 400,
            "seed": 0,
            "unseen_bank": "",
            "scores_archive": "",
            "train_bank_archive": "",
            "unseen_bank_archive": "",
            "tfds_dir": "",
            "tfds_name": "",
            "tfds_data_dir": "",
            "text_column": "",
            "label_column": "",
            "image_size": 0,
            "binary": False,
            "views": 1,
            "view_pad": 2,
            "view_flip": True,
            "view_targets": "augmented",
        }
    )
    config.other = ml_collections.ConfigDict({"source": "", "name": "", "folder": "", "classes": (), "clip_seconds": 0.0, "archives": (), "seed": 0})
    config.text = ml_collections.ConfigDict({"vocabulary": 1024, "max_tokens": 256})
    config.teacher = ml_collections.ConfigDict(
        {
            "name": "MTT_musicnn",
            "embedding": "max_mean_pool",
            "normalisation": "zscore",
            "archive": "",
            "hop_seconds": 0.0,
            "compute_dtype": "float32",
            "others": (),
            "combine": "concatenate",
            "classifier": "none",
            "hidden": 256,
            "max_tokens": 128,
        }
    )
    config.teacher_training = _training(unlabelled_ratio=0, mixup_alpha=0.0)
    config.store = ml_collections.ConfigDict({"dtype": "float16", "shard_rows": 512})
    config.frontend = ml_collections.ConfigDict(
        {"kind": "kaldi", "n_fft": 1024, "window": 1024, "hop": 512, "bands": 64, "fmin": 0.0, "fmax": 8000.0, "fmin_jitter": 0, "fmax_jitter": 0}
    )
    config.student = ml_collections.ConfigDict({"name": "cp_resnet_small", "features": "", "compute_dtype": "float32"})
    config.distance = ml_collections.ConfigDict(
        {
            "name": "distance_correlation",
            "bias_corrected": False,
            "difference": "absolute",
            "absolute_eps": False,
            "group_size": 0,
            "gather": "global",
            "rows": "gathered",
            "stage_weights": (),
            "alignment": "repeat",
            "features_expand": -1,
            "embedding_expand": -1,
            "stage_features_expand": (),
            "stage_embedding_expand": (),
        }
    )
    config.east = ml_collections.ConfigDict({"weight": 0.8})
    config.east_kd = ml_collections.ConfigDict({"kd_weight": 0.3, "temperature": 2.0})
    config.compressed = ml_collections.ConfigDict(
        {
            "weight": 0.5,
            "transformation": "linear",
            "features": 0,
            "teacher_weight": 1.0,
            "head_bias": "zero",
            "stop_gradient": True,
            "shared_optimiser": False,
            "training": "joint",
            "staged_steps": 0.5,
        }
    )
    config.distillation = ml_collections.ConfigDict({"alpha": 0.0, "temperature": 1.0, "masked": True})
    config.lelp = ml_collections.ConfigDict(
        {
            "subclasses": 10,
            "subclass_temperature": 1.0,
            "null_space": "rows",
            "rotation": "haar",
            "scale": "class",
            "solver": "auto",
            "classes_from": "label",
            "simplex": False,
            "weight": 1.0,
            "temperature_on": "both",
            "tau_squared": True,
        }
    )
    config.dkd = ml_collections.ConfigDict({"alpha": 1.0, "beta": 8.0})
    config.dist = ml_collections.ConfigDict({"beta": 1.0, "gamma": 1.0})
    config.embedding_distillation = ml_collections.ConfigDict({"weight": 1.0})
    config.fitnet = ml_collections.ConfigDict({"weight": 1.0, "tap": -1})
    config.vid = ml_collections.ConfigDict({"weight": 1.0})
    config.rkd = ml_collections.ConfigDict({"weight": 1.0, "group_size": 0})
    config.crd = ml_collections.ConfigDict({"weight": 0.8, "form": "memory", "negatives": 1024, "width": 128, "temperature": 0.07})
    config.subclass_distillation = ml_collections.ConfigDict({"auxiliary_weight": 1.0, "auxiliary_temperature": 1.0})
    config.training = _training()
    config.evaluation = ml_collections.ConfigDict(
        {"batch_size": 64, "f1_threshold": 0.4, "bootstrap_resamples": 1000, "probe_solver": "lbfgs", "probe_learning_rate": 0.1}
    )
    config.parallel = ml_collections.ConfigDict({"mode": "jit", "parameters": "replicated", "prefetch": 2})
    config.compare = ml_collections.ConfigDict(
        {"name": "", "methods": ("probe", "baseline", "east", "compressed"), "variants": (), "seeds": (0, 1, 2), "settings": ()}
    )
    return config


def count_steps(value: float, steps: int) -> int:
    """A number of steps that a config gives as such (from 1 on), or as a fraction of `steps` (below 1)."""
    return int(value) if value >= 1 else round(value * steps)


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
    return {key: value for key, value in flatten(config).items() if not any(key == field or key.startswith(f"{field}.") for field in NO_RESULT_FIELDS)}


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
