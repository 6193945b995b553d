"""The training recipes of EAsT (arXiv 2306.17424) as config fields: front end, student, training, distance, distillation and evaluation.

Distillation has the published temperature, and alpha = 1 - lambda with the lambda of the teacher's distance: that of the published KD row is unpublished.
"""

import math
from collections.abc import Callable, Container
from typing import Any

import ml_collections

from jaxkd.config import default_config, parse_arg
from jaxkd.errors import ConfigError, unknown_name

OPENMIC_TRAIN_CLIPS = 12_692
MAGNATAGATUNE_TRAIN_CLIPS = 15_244

EAST_TEACHERS = ("vggish", "openl3", "passt", "panns")
"""Networks whose stored embeddings taught EAsT's students."""

_FRAME_SECONDS = {"vggish": 0.96, "openl3": 0.96, "passt": 0.96, "panns": 0.0}
_NORMALISATIONS = {"vggish": "vggish", "openl3": "openl3", "passt": "none", "panns": "none"}
_OPENMIC_WEIGHTS = {"vggish": 0.8, "openl3": 0.8, "passt": 0.9, "panns": 0.9}
# of gradient descent on the teacher's probe
_OPENMIC_PROBE_RATES = {"vggish": 0.2, "openl3": 0.1, "passt": 0.1, "panns": 0.1}
_MAGNATAGATUNE_PROBE_RATES = {"vggish": 0.1, "openl3": 0.1, "passt": 0.2, "panns": 0.1}
# repeats of a student's frame and of a teacher's, for each stage
_OPENMIC_EXPANDS = {**dict.fromkeys(("vggish", "openl3", "passt"), ((1, 1, 1), (6, 6, 6))), "panns": ((1, 1, 1), (60, 60, 60))}
_MAGNATAGATUNE_EXPANDS = {**dict.fromkeys(("vggish", "openl3", "passt"), ((1, 2, 2), (1, 1, 1))), "panns": ((1, 1, 1), (30, 15, 15))}

_TRAINING = {
    "batch_size": 16,
    "unlabelled_ratio": 0,
    "optimiser": "adam",
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "weight_decay": 1e-4,
    "clip_norm": 1.0,
    "schedule": "plateau",
    "plateau_factor": 0.2,
    "mixup_mask": "or",
}


def east_experiment(
    arg: str | None, *, source: str, clip_seconds: float, recipe: Callable[..., None], need_classifier: Container[str]
) -> ml_collections.ConfigDict:
    """An experiment of EAsT on a released data set, as its config file gives it.

    Args:
      arg: teacher (stored embeddings) or hear (PACKAGE.MODULE that embeds the audio in their place), method, student, all_stages.
      source: of the data.
      clip_seconds: of the clips.
      recipe: `east_openmic` or `east_magnatagatune`.
      need_classifier: methods that take the logits of a classifier, which is the probe.

    Raises:
      ConfigError: another teacher, or teacher and hear at once.
    """
    values: Any = parse_arg(arg, teacher="", method="east", student="", hear="", all_stages=False)
    if values.teacher and values.hear:
        raise ConfigError(f"config arguments teacher={values.teacher} and hear={values.hear} both name the teacher: give one of them.")
    teacher = values.teacher or ("panns" if values.hear else "passt")
    config: Any = default_config()
    config.name = source
    config.method = values.method
    config.data.update({"source": source, "classes": (), "clip_seconds": clip_seconds})
    recipe(config, teacher=teacher, all_stages=values.all_stages)
    config.student.name = values.student or config.student.name
    if values.hear:
        config.teacher.update({"name": f"hear:{values.hear}", "embedding": "scene"})
    else:
        config.teacher.update({"name": "precomputed", "embedding": "", "hop_seconds": _FRAME_SECONDS[teacher]})
    if values.method in need_classifier:
        config.teacher.classifier = "probe"
        # of linear and mlp in its place
        config.teacher_training.update({"steps": 8000, "batch_size": 64, "eval_every_steps": 400})
    config.compressed.weight = config.east.weight
    config.store.update({"dtype": "float32", "shard_rows": 4096})
    config.compare.seeds = (1223, 1224, 1225)
    return config


def east_openmic(config: Any, *, teacher: str, all_stages: bool = False, train_clips: int = OPENMIC_TRAIN_CLIPS) -> None:
    """Sets the recipe for OpenMIC-2018: CP-ResNet, mixup, SpecAugment and filter jitter, 80,000 steps.

    An epoch is as many steps as its clips fill batches; every batch has 16 rows, since the last clips of an epoch share theirs with the first of the next.

    Args:
      config: changed in place.
      teacher: "vggish", "openl3", "passt" or "panns", for the weight of the distance, the repeats of the frames and the learning rate of the probe.
      all_stages: the distance on all three stages alike ("All") in place of the last alone ("Final").
      train_clips: rows of the training split, whose passes set when the run is validated.

    Raises:
      ConfigError: another teacher.
    """
    _require_teacher(teacher)
    _set(config, teacher, bands=128, sample_rate=32_000, student="cp_resnet", weight=_OPENMIC_WEIGHTS[teacher])
    config.evaluation.probe_learning_rate = _OPENMIC_PROBE_RATES[teacher]
    _set_distance(config, _OPENMIC_EXPANDS[teacher], all_stages)
    config.frontend.update({"fmin_jitter": 20, "fmax_jitter": 2000})
    config.training.update({"steps": 80_000, "plateau_patience": 8, "early_stop_patience": 15, "mixup_alpha": 0.3})
    config.training.update({"frequency_mask": 48, "time_mask": 192, "eval_every_steps": _epoch(train_clips)})


def east_magnatagatune(config: Any, *, teacher: str, all_stages: bool = False, train_clips: int = MAGNATAGATUNE_TRAIN_CLIPS) -> None:
    """Sets the recipe for MagnaTagATune: Mobile FCN, no augmentation, 100,000 steps; the rest as in `east_openmic`."""
    _require_teacher(teacher)
    _set(config, teacher, bands=96, sample_rate=16_000, student="mobile_fcn", weight=0.6)
    config.evaluation.probe_learning_rate = _MAGNATAGATUNE_PROBE_RATES[teacher]
    _set_distance(config, _MAGNATAGATUNE_EXPANDS[teacher], all_stages)
    config.frontend.update({"fmin_jitter": 0, "fmax_jitter": 0})
    config.training.update({"steps": 100_000, "plateau_patience": 5, "early_stop_patience": 12, "mixup_alpha": 0.0})
    config.training.update({"frequency_mask": 0, "time_mask": 0, "eval_every_steps": _epoch(train_clips)})


def _require_teacher(teacher: str) -> None:
    if teacher not in EAST_TEACHERS:
        raise unknown_name("teacher of EAsT's recipes", teacher, EAST_TEACHERS)


def _epoch(train_clips: int) -> int:
    return math.ceil(train_clips / _TRAINING["batch_size"])


def _set(config: Any, teacher: str, *, bands: int, sample_rate: int, student: str, weight: float) -> None:
    """What the two recipes share; the validation loss is that of batches of 16 in the order of the split, as the schedule saw it."""
    config.seed = 1223
    config.data.sample_rate = sample_rate
    config.frontend.update({"kind": "kaldi", "n_fft": 1024, "window": 800, "hop": 320, "bands": bands, "fmin": 0.0, "fmax": sample_rate / 2})
    config.student.name = student
    config.teacher.normalisation = _NORMALISATIONS[teacher]
    config.east.weight = weight
    config.east_kd.update({"kd_weight": 0.3, "temperature": 2.0})
    config.distillation.update({"temperature": 2.0, "alpha": round(1 - weight, 2), "masked": True})
    config.training.update(_TRAINING)
    config.evaluation.update({"batch_size": 16, "f1_threshold": 0.4, "probe_solver": "sgd"})


def _set_distance(config: Any, expands: tuple[tuple[int, ...], tuple[int, ...]], all_stages: bool) -> None:
    config.distance.update({"name": "distance_correlation", "bias_corrected": False, "absolute_eps": True, "group_size": 16, "alignment": "repeat"})
    config.distance.update({"features_expand": expands[0][-1], "embedding_expand": expands[1][-1]})
    config.distance.stage_weights = (1.0, 1.0, 1.0) if all_stages else ()
    config.distance.stage_features_expand, config.distance.stage_embedding_expand = expands if all_stages else ((), ())
