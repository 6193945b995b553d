"""Methods by name: the trained parts beside the student, the losses and their weights. Read without importing JAX."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxkd.config import default_config
from jaxkd.errors import ConfigError
from jaxkd.plugins import check_name, resolve

METHODS = {
    "baseline": "jaxkd.methods.baseline:build",
    "east": "jaxkd.methods.east:build",
    "east_kd": "jaxkd.methods.east:east_kd",
    "compressed": "jaxkd.methods.compressed:build",
    "kd": "jaxkd.methods.distillation:kd",
    "dkd": "jaxkd.methods.distillation:dkd",
    "dist": "jaxkd.methods.distillation:dist",
    "standardised_kd": "jaxkd.methods.distillation:standardised_kd",
    "embedding_distillation": "jaxkd.methods.vectors:embedding_distillation",
    "fitnet": "jaxkd.methods.vectors:fitnet",
    "vid": "jaxkd.methods.vectors:vid",
    "rkd": "jaxkd.methods.vectors:rkd",
    "crd": "jaxkd.methods.crd:build",
    "lelp": "jaxkd.methods.pseudo_class:lelp_method",
    "random_directions": "jaxkd.methods.pseudo_class:lelp_method",
    "permuted": "jaxkd.methods.pseudo_class:lelp_method",
    "uniform": "jaxkd.methods.pseudo_class:lelp_method",
    "kmeans": "jaxkd.methods.pseudo_class:lelp_method",
    "agglomerative": "jaxkd.methods.pseudo_class:lelp_method",
    "tsne_kmeans": "jaxkd.methods.pseudo_class:lelp_method",
    "oracle": "jaxkd.methods.pseudo_class:lelp_method",
    "outputs_only": "jaxkd.methods.pseudo_class:outputs_only",
    "subclass_distillation": "jaxkd.methods.pseudo_class:subclass_distillation",
}

REFERENCES = ("probe", "teacher")
"""Rows of a comparison without a student: a linear probe on the teacher's embedding, and the teacher's own classifier."""

NEED_CLASSIFIER = ("teacher", *(name for name in METHODS if name not in ("baseline", "east", "compressed")))
"""Methods that take the logits of the teacher's own classifier."""

DISTANCES = ("east", "east_kd", "compressed")
"""Methods that pull the student's stages to an embedding by `config.distance`."""

BETWEEN_ROWS = ("distance_correlation", "cosine_distance_correlation", "cosine_distance_difference")
"""Values of `config.distance.name` that compare the rows of a group with each other."""

EQUAL_WIDTHS = ("l2", "cosine")
"""Values of `config.distance.name` that compare the channels of a row with the dimensions of its embedding, one by one."""

_READ_BY = {
    "bias_corrected": ("distance_correlation", "cosine_distance_correlation"),
    "difference": ("cosine_distance_difference",),
    "gather": BETWEEN_ROWS,
}
"""Fields of `config.distance` -> the distances that read them, where not all do. `group_size` and `absolute_eps` are for all, since the recipes set them
whatever the distance: of one that compares row by row the mean over groups is that over the batch, and constants are restored where there are any."""

PSEUDO_CLASS = tuple(name for name, place in METHODS.items() if place.endswith(":lelp_method"))
"""Methods whose targets are precomputed subclass probabilities."""

SUBSPACES = ("lelp", "random_directions", "permuted")
"""Pseudo-class methods whose subclasses come from directions in the null space of the teacher's classifier."""

ONE_CLASS = (
    *("dkd", "dist", "standardised_kd", "crd", "subclass_distillation"),
    *(name for name in PSEUDO_CLASS if name not in (*SUBSPACES, "uniform")),
)
"""Methods that need one class an example; the others also take data with many labels an example."""

PRETRAINED_EMBEDDING = (*DISTANCES, "probe")
"""Methods whose embedding is that of the pretrained network, frame by frame, also where a classifier is trained on it; that of the others is what the
classifier's last layer reads. With a fine-tuned network the two are one."""

SUBCLASS_TEACHER = "jaxkd.methods.pseudo_class:subclass_teacher"
"""How the teacher of Subclass Distillation is trained."""


def check(name: str) -> None:
    """Raises ConfigError unless `name` is a method, a reference, or has the plug-in form `package.module:attribute`."""
    check_name("method", name, (*METHODS, *REFERENCES))


def check_distance(config: Any) -> None:
    """Raises ConfigError if a field of `config.distance` is set that the distance of the config's method does not read."""
    settings: Any = config.distance
    defaults: Any = default_config().distance
    for field, readers in _READ_BY.items():
        if config.method in DISTANCES and settings.name not in readers and settings[field] != defaults[field]:
            raise ConfigError(
                f"config.distance.{field} is {settings[field]!r}, but the distance {settings.name!r} does not read it: set it to {defaults[field]!r}, or "
                f"config.distance.name to {' or '.join(readers)}."
            )


def require_stages(config: Any, channels: Sequence[int], dims: Sequence[int]) -> None:
    """Checks `config.distance` against the stages of a student and the embedding that they are compared with.

    Args:
      config: with `distance`.
      channels: C_k of each stage.
      dims: D of each embedding that has a distance of its own, or () where it is not known.

    Raises:
      ConfigError: another number of stages than the student has, or a width that a distance without an adapter cannot compare.
    """
    name, weights = config.distance.name, config.distance.stage_weights
    if weights and len(weights) != len(channels):
        raise ConfigError(f"config.distance.stage_weights has {len(weights)} weights, but the student has {len(channels)} stage(s): give one for each.")
    for stage in [stage for stage, weight in enumerate(weights) if weight] or [len(channels) - 1]:
        if name in EQUAL_WIDTHS and dims and {channels[stage]} != {*dims}:
            raise ConfigError(
                f"config.distance.name is {name!r}, which compares equal widths, but stage {stage} of the student has {channels[stage]} "
                f"channels and the embedding {' and '.join(map(str, dims))} dimensions: use method compressed with "
                "config.compressed.features=0 on the last stage alone, or fitnet, or a distance of correlations."
            )


def require_rows(config: Any, rows: int, *, devices: int = 1) -> None:
    """Raises ConfigError if a batch of this many rows, labelled and unlabelled, on so many devices is too small for the distance of the config's method."""
    settings = config.distance
    if config.method not in DISTANCES or settings.name not in BETWEEN_ROWS:
        return
    rows, batch = (rows // devices, "a device's part of a training batch") if settings.gather == "local" else (rows, "a training batch")
    needed = 4 if settings.bias_corrected else 2
    if rows < needed:
        raise ConfigError(
            f"config.distance.name is {settings.name!r} with bias_corrected={settings.bias_corrected}, which needs {needed} rows, but {batch} has "
            f"{rows}: raise training.batch_size."
        )
    if rows < settings.group_size:
        raise ConfigError(f"config.distance.group_size is {settings.group_size}, but {batch} has {rows} rows: lower it, or set it to 0 for all.")


def build(name: str, config: Any, context: Any) -> Any:
    """Builds a method.

    Args:
      name: a name of METHODS, or `package.module:attribute` of a function f(config, context).
      config: the whole experiment's config.
      context: a `jaxkd.methods.method.Context`: the task, its classes, the training rows.

    Returns:
      A `jaxkd.methods.method.Method`.

    Raises:
      ConfigError: an unknown name, one that cannot be imported, or a method that does not fit the task.
    """
    method = resolve("method", name, METHODS)(config, context)
    return dataclasses.replace(method, sums_over_axis=True) if name in (*METHODS, SUBCLASS_TEACHER) else method
