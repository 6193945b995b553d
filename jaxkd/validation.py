"""Checks of a config that need neither a table nor a device: types, ranges, combinations."""

import difflib
import math
import re
from typing import Any

import ml_collections

from jaxkd.config import count_steps, default_config, flatten
from jaxkd.errors import ConfigError
from jaxkd.members import variants


def _require(condition: bool, field: str, value: Any, rule: str) -> None:
    if not condition:
        raise ConfigError(f"config.{field} is {value!r}, but must be {rule}.")


_TRAININGS = ("training", "teacher_training")


def _of_training(names: str) -> list[str]:
    return [f"{part}.{name}" for part in _TRAININGS for name in names.split()]


_POSITIVE_INTEGERS = [
    *(
        "data.sample_rate data.views store.shard_rows frontend.n_fft frontend.window frontend.hop frontend.bands text.max_tokens teacher.hidden "
        "teacher.max_tokens lelp.subclasses crd.negatives crd.width evaluation.batch_size evaluation.bootstrap_resamples parallel.prefetch"
    ).split(),
    *_of_training("steps batch_size length_pool steps_per_dispatch eval_every_steps log_every_steps"),
]
_NON_NEGATIVE_INTEGERS = [
    *(
        "seed data.labelled data.valid data.test data.seed data.image_size other.seed data.view_pad frontend.fmin_jitter frontend.fmax_jitter "
        "distance.group_size compressed.features rkd.group_size"
    ).split(),
    *_of_training("unlabelled_ratio warmup_steps plateau_patience early_stop_patience frequency_mask time_mask"),
]
_FRACTIONS = [
    *"east.weight east_kd.kd_weight compressed.weight distillation.alpha evaluation.f1_threshold".split(),
    *_of_training("plateau_factor"),
]
_NON_NEGATIVE_NUMBERS = [
    *(
        "other.clip_seconds teacher.hop_seconds compressed.teacher_weight frontend.fmin lelp.weight dkd.alpha dkd.beta dist.beta dist.gamma "
        "embedding_distillation.weight fitnet.weight vid.weight rkd.weight crd.weight subclass_distillation.auxiliary_weight"
    ).split(),
    *_of_training("weight_decay mixup_alpha"),
]
_POSITIVE_NUMBERS = [
    *(
        "data.clip_seconds frontend.fmax evaluation.probe_learning_rate compressed.staged_steps east_kd.temperature distillation.temperature "
        "lelp.subclass_temperature crd.temperature "
        "subclass_distillation.auxiliary_temperature"
    ).split(),
    *_of_training("learning_rate clip_norm"),
]
_CHOICES = {
    "store.dtype": ("float16", "bfloat16", "float32"),
    "frontend.kind": ("kaldi", "slaney"),
    "teacher.normalisation": ("none", "zscore", "vggish", "openl3"),
    "teacher.combine": ("concatenate", "separate"),
    "teacher.compute_dtype": ("float32", "bfloat16"),
    "distance.name": ("distance_correlation", "cosine_distance_correlation", "cosine_distance_difference", "fitnet", "l2", "cosine"),
    "distance.difference": ("absolute", "squared"),
    "distance.gather": ("global", "local"),
    "distance.rows": ("gathered", "own"),
    "distance.alignment": ("repeat", "pool", "interpolate"),
    "compressed.transformation": ("linear", "linear_norm", "mlp", "attention", "random", "pca", "identity"),
    "compressed.training": ("joint", "staged"),
    "compressed.head_bias": ("zero", "log_odds"),
    "data.view_targets": ("augmented", "clean"),
    "teacher.classifier": ("none", "linear", "mlp", "probe", "finetuned"),
    "lelp.null_space": ("rows", "differences", "off"),
    "lelp.rotation": ("haar", "equal", "off"),
    "lelp.scale": ("class", "whiten", "off"),
    "lelp.solver": ("auto", "covariance", "svd", "randomized"),
    "lelp.classes_from": ("label", "teacher"),
    "lelp.temperature_on": ("both", "teacher"),
    "crd.form": ("memory", "in_batch"),
    "evaluation.probe_solver": ("lbfgs", "sgd"),
    "parallel.mode": ("jit", "pmap"),
    "parallel.parameters": ("replicated", "sharded"),
    "student.compute_dtype": ("float32", "bfloat16"),
    **dict.fromkeys(_of_training("optimiser"), ("adam", "adamw")),
    **dict.fromkeys(_of_training("schedule"), ("cosine", "plateau", "constant")),
    **dict.fromkeys(_of_training("mixup_mask"), ("and", "or")),
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
    _require(flat["data.unlabelled"] >= -1, "data.unlabelled", flat["data.unlabelled"], "an integer of at least 0, or -1 for all rows that are left")
    _require(flat["data.unseen"] >= -1, "data.unseen", flat["data.unseen"], "an integer of at least 0, or -1 for all rows of the unseen part, if there is one")
    for key, value in flat.items():
        _require(not isinstance(value, float) or math.isfinite(value), key, value, "finite")
    for key in _FRACTIONS:
        _require(0.0 <= flat[key] <= 1.0, key, flat[key], "between 0 and 1")
    for key in _NON_NEGATIVE_NUMBERS:
        _require(flat[key] >= 0, key, flat[key], "at least 0")
    for key in _POSITIVE_NUMBERS:
        _require(flat[key] > 0, key, flat[key], "above 0")
    _require(0 < flat["data.label_share"] <= 1, "data.label_share", flat["data.label_share"], "above 0 and at most 1")
    for key, choices in _CHOICES.items():
        _require(flat[key] in choices, key, flat[key], f"one of {', '.join(choices)}")
    _validate_combinations(flat)
    variants(config)


def _validate_combinations(flat: dict[str, Any]) -> None:
    _require_folder_name("name", flat["name"])
    if flat["data.source"] == "rendered_instruments":
        _validate_rendered(flat)
    _validate_other(flat)
    _validate_frontend(flat)
    _validate_distance(flat)
    if flat["method"] == "compressed":
        _validate_compressed(flat)
    for part in _TRAININGS:
        _validate_training(flat, part)
    _require(flat["text.vocabulary"] >= 2, "text.vocabulary", flat["text.vocabulary"], "an integer of at least 2: padding and a word")
    _require(flat["rkd.group_size"] != 1, "rkd.group_size", flat["rkd.group_size"], "at least 2 rows, or 0 for the whole batch")
    _require(flat["crd.temperature"] >= 0.02, "crd.temperature", flat["crd.temperature"], "at least 0.02, so that its constant stays within float32")
    if flat["lelp.simplex"] and flat["lelp.scale"] == "whiten":
        raise ConfigError("config.lelp.simplex needs one scale for each class: set lelp.scale='class' or 'off', or lelp.simplex=False.")
    if flat["lelp.simplex"] and flat["method"] == "random_directions":
        raise ConfigError(
            "config.lelp.simplex is True, but method 'random_directions' draws one direction for each subclass, one more than LELP then has: it would be no "
            "control of it. Set lelp.simplex=False, or leave the method out."
        )
    if flat["parallel.parameters"] == "sharded" and flat["parallel.mode"] == "pmap":
        raise ConfigError("config.parallel.parameters is 'sharded', but with parallel.mode='pmap' every device holds them whole: set parallel.mode='jit'.")
    if flat["teacher.classifier"] == "probe" and flat["method"] == "subclass_distillation":
        raise ConfigError(
            "config.teacher.classifier is 'probe', which tells classes alone, but method 'subclass_distillation' trains a teacher of subclasses: set it to "
            "linear, mlp or finetuned."
        )
    _validate_comparison(flat)


def _require_folder_name(field: str, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", value):
        raise ConfigError(f"config.{field} is {value!r}, but it names a folder: use letters, digits, '_', '-' and '.' only, no '.' at the start.")


def _validate_rendered(flat: dict[str, Any]) -> None:
    for key in ("data.valid", "data.test"):
        _require(flat[key] >= 2, key, flat[key], "an integer of at least 2: a metric needs clips with and without a class")
    _require(flat["data.labelled"] >= 1, "data.labelled", flat["data.labelled"], "an integer of at least 1")
    labelled = round(flat["data.labelled"] * flat["data.label_share"])
    for key in ("data.unlabelled", "data.unseen"):
        _require(flat[key] >= 0, key, flat[key], "an integer of at least 0")
    classes = flat["data.classes"]
    if len(classes) < 2 or len(set(classes)) != len(classes) or not all(isinstance(name, str) for name in classes):
        raise ConfigError(f"config.data.classes has {len(classes)} entries, but must be at least 2 different names.")
    if flat["training.batch_size"] > labelled:
        raise ConfigError(
            f"config.training.batch_size is {flat['training.batch_size']}, larger than the data set of {labelled} labelled clips: "
            "lower training.batch_size or raise data.labelled or data.label_share."
        )
    per_step = flat["training.batch_size"] * flat["training.unlabelled_ratio"]
    if 0 < flat["data.unlabelled"] < per_step:
        raise ConfigError(
            f"config.training.unlabelled_ratio is {flat['training.unlabelled_ratio']}: {per_step} unlabelled clips a batch, more than the "
            f"{flat['data.unlabelled']} there are: lower training.unlabelled_ratio or training.batch_size, or raise data.unlabelled."
        )


def _validate_other(flat: dict[str, Any]) -> None:
    if not re.fullmatch(r"\w*(?<!probe)", flat["other.name"]):
        raise ConfigError(f"config.other.name is {flat['other.name']!r}, but it names a split: use letters, digits and '_', and no 'probe' at the end.")
    if not flat["other.source"]:
        for key in ("other.name", "other.folder", "other.classes", "other.clip_seconds", "other.archives"):
            _require(not flat[key], key, flat[key], "left alone where there is no other data set: config.other.source is ''")


def _validate_frontend(flat: dict[str, Any]) -> None:
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


def _validate_distance(flat: dict[str, Any]) -> None:
    if flat["distance.group_size"] and flat["distance.group_size"] < (4 if flat["distance.bias_corrected"] else 2):
        raise ConfigError(
            f"config.distance.group_size is {flat['distance.group_size']}, but a group needs at least 2 rows (4 if bias_corrected); 0 is the batch."
        )
    _validate_split(flat)
    _validate_stages(flat)
    expands = [(flat["distance.features_expand"], flat["distance.embedding_expand"])]
    per_stage = [flat[f"distance.stage_{side}_expand"] for side in ("features", "embedding")]
    if flat["distance.alignment"] != "repeat" and (any(per_stage) or expands[0] not in ((-1, -1), (1, 1))):
        raise ConfigError(f"config.distance.alignment is {flat['distance.alignment']!r}, which repeats no frame: leave the fields that end in expand alone.")
    if flat["distance.stage_weights"]:
        filled = [stage or [whole] * len(flat["distance.stage_weights"]) for stage, whole in zip(per_stage, expands[0], strict=True)]
        expands = list(zip(*filled, strict=True))
    for pair in expands:
        if min(pair) < -1 or 0 in pair or (-1 in pair and pair != (-1, -1)):
            raise ConfigError(f"config.distance.features_expand and embedding_expand are {pair}: both -1 (mean over time), or both a number of repeats.")


def _validate_split(flat: dict[str, Any]) -> None:
    for field, value, instead in (
        ("gather", "local", "or, for the same objective, set distance.group_size to the rows of one device"),
        ("rows", "own", "or leave it at 'gathered'"),
    ):
        if flat[f"distance.{field}"] == value and flat["parallel.mode"] != "pmap":
            raise ConfigError(
                f"config.distance.{field} is {value!r}, but with parallel.mode={flat['parallel.mode']!r} the step sees the whole batch, not the rows of a "
                f"device: set parallel.mode='pmap', {instead}."
            )
    if flat["distance.rows"] != "own":
        return
    for field, value in (("name", "distance_correlation"), ("group_size", 0), ("gather", "global")):
        if flat[f"distance.{field}"] != value:
            raise ConfigError(
                f"config.distance.{field} is {flat[f'distance.{field}']!r}, but distance.rows='own' is a form of the distance correlation of the whole batch: "
                f"set distance.{field} to {value!r}, or distance.rows to 'gathered'."
            )


def _validate_stages(flat: dict[str, Any]) -> None:
    weights = flat["distance.stage_weights"]
    good = all(isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight < math.inf for weight in weights)
    _require(good and (not weights or sum(weights) > 0), "distance.stage_weights", weights, "one weight of at least 0 for each stage, not all 0, or empty")
    for field in ("distance.stage_features_expand", "distance.stage_embedding_expand"):
        values = flat[field]
        good = all(isinstance(value, int) and not isinstance(value, bool) for value in values) and len(values) in (0, len(weights))
        _require(good, field, values, "one integer for each of distance.stage_weights, or empty")


def _validate_compressed(flat: dict[str, Any]) -> None:
    kind, staged, steps = flat["compressed.transformation"], flat["compressed.training"] == "staged", flat["training.steps"]
    if kind in ("random", "pca", "identity") and (staged or not flat["compressed.stop_gradient"]):
        field = "training='staged'" if staged else "stop_gradient=False"
        raise ConfigError(f"config.compressed.{field} trains the transformation, but {kind!r} is not trained: take another, or leave the field as it is.")
    if not staged:
        return
    for field, value, why in (
        ("compressed.stop_gradient", True, "the distance cannot train a transformation that is frozen"),
        ("compressed.shared_optimiser", False, "its sides are trained one after the other"),
    ):
        if flat[field] != value:
            raise ConfigError(f"config.{field} is {flat[field]} with compressed.training='staged', but {why}: set it to {value}.")
    _require(
        flat["compressed.teacher_weight"] > 0, "compressed.teacher_weight", flat["compressed.teacher_weight"], "above 0: the first stage has no other loss"
    )
    first, warmup = count_steps(flat["compressed.staged_steps"], steps), flat["training.warmup_steps"]
    if not warmup < min(first, steps - first):
        raise ConfigError(
            f"config.compressed.staged_steps gives the transformation {first} of {steps} steps and the student {steps - first}, but each needs more than "
            f"training.warmup_steps, {warmup}: change staged_steps, or raise training.steps."
        )
    if flat["training.schedule"] == "plateau":
        raise ConfigError("config.training.schedule is 'plateau', which watches one loss, but compressed.training='staged' has two in turn: take cosine.")


def _validate_training(flat: dict[str, Any], part: str) -> None:
    if flat[f"{part}.early_stop_patience"] and flat[f"{part}.schedule"] != "plateau":
        raise ConfigError(f"config.{part}.early_stop_patience needs {part}.schedule='plateau': set it to 0, or change the schedule.")
    if flat[f"{part}.warmup_steps"] >= flat[f"{part}.steps"]:
        raise ConfigError(f"config.{part}.warmup_steps is {flat[f'{part}.warmup_steps']}, not below {part}.steps {flat[f'{part}.steps']}: lower it.")
    together = flat[f"{part}.steps_per_dispatch"]
    for name in ("steps", "eval_every_steps", "log_every_steps"):
        value = flat[f"{part}.{name}"]
        if value % together:
            raise ConfigError(
                f"config.{part}.{name} is {value}, but {together} steps go together (config.{part}.steps_per_dispatch), and nothing is done between them: "
                f"set it to {-(-value // together) * together}."
            )


def _validate_comparison(flat: dict[str, Any]) -> None:
    if not (flat["compare.methods"] or flat["compare.variants"]) or not flat["compare.seeds"]:
        raise ConfigError("config.compare.methods (or compare.variants) and compare.seeds must each name at least one.")
    for name in flat["compare.methods"]:
        if not isinstance(name, str):
            raise ConfigError(f"config.compare.methods has {name!r}, but an entry is the name of a method.")
    if flat["compare.name"]:
        _require_folder_name("compare.name", flat["compare.name"])
    for entry in flat["compare.settings"]:
        if not isinstance(entry, str) or not entry.strip():
            raise ConfigError(f"config.compare.settings has {entry!r}, but an entry is the name of a method, then FIELD=VALUE pairs.")
    for field in ("compare.methods", "compare.seeds"):
        if len(set(flat[field])) != len(flat[field]):
            raise ConfigError(f"config.{field} is {flat[field]!r}, but names one twice: name each once.")
    if any(not isinstance(seed, int) or seed < 0 for seed in flat["compare.seeds"]):
        raise ConfigError(f"config.compare.seeds is {flat['compare.seeds']!r}, but must be integers of at least 0.")
