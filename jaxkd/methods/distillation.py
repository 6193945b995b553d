"""Methods on the teacher's logits: knowledge distillation and its decoupled, correlated and standardised forms."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxkd import losses as lib
from jaxkd.errors import ConfigError
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.types import Array, Batch, StudentOutputs

KD_EPS = 1e-9
"""What the authors of EAsT add to both probabilities inside the logarithm."""

Divergence = Callable[[Array, Batch, str | None], Array]
"""f(student logits [B, C], batch, axis_name) -> scalar."""


def require_multiclass(name: str, context: Context) -> None:
    """Raises ConfigError for a method whose loss is a divergence of class probabilities where the task is not multi-class."""
    if context.task != "multiclass":
        raise ConfigError(f"method {name!r} compares class probabilities, but the data is {context.task}: use kd or lelp, or multi-class data.")


def entry_mask(config: Any, batch: Batch) -> Array | None:
    """Entries of multi-label data that distillation counts, bool [B, K]; None for all.

    With `config.distillation.masked` the labels that are unknown in a row with others known are left out (EAsT, arXiv 2306.17424); of a row without any label,
    an unlabelled example, the teacher is asked for all.
    """
    if not config.distillation.masked:
        return None
    mask = jnp.asarray(batch.label_mask, bool)
    return mask | ~jnp.any(mask, axis=-1, keepdims=True)


def kd_divergence(config: Any, context: Context, *, section: str = "distillation") -> Divergence:
    """Plain knowledge distillation at `config[section].temperature`: of class probabilities, or label by label (arXiv 2306.17424).

    `config.distance.absolute_eps` adds the authors' constant, which the form label by label has.
    """
    temperature, eps = config[section].temperature, KD_EPS if config.distance.absolute_eps else None

    def of_labels(logits: Array, batch: Batch, axis_name: str | None) -> Array:
        options = {"temperature": temperature, "where": batch.where, "axis_name": axis_name, "eps": eps}
        return lib.bernoulli_kd(logits, batch.teacher_logits, entry_mask(config, batch), **options)

    if context.task == "multilabel":
        return of_labels
    return lambda logits, batch, axis_name: lib.kd(logits, batch.teacher_logits, temperature=temperature, where=batch.where, axis_name=axis_name)


def _method(name: str, config: Any, context: Context, divergence: Divergence) -> Method:
    """L = alpha * label loss + (1 - alpha) * divergence, with alpha = `config.distillation.alpha`."""
    if name != "kd":
        require_multiclass(name, context)
    alpha = config.distillation.alpha

    def losses(outputs: StudentOutputs, auxiliary: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        apart = divergence(outputs.logits, batch, axis_name)
        return {"loss": alpha * label + (1 - alpha) * apart, "label_loss": label, "distillation": apart}

    return Method(losses, needs=("logits",), warning=lib.degeneracy(name, context.num_labels) or "")


def kd(config: Any, context: Context) -> Method:
    """Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531)."""
    return _method("kd", config, context, kd_divergence(config, context))


def dkd(config: Any, context: Context) -> Method:
    """Decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679); an unlabelled row takes the teacher's class as its target."""
    settings = dict(alpha=config.dkd.alpha, beta=config.dkd.beta, temperature=config.distillation.temperature)

    def divergence(logits: Array, batch: Batch, axis_name: str | None) -> Array:
        classes = lib.target_classes(batch.labels, batch.label_mask, batch.teacher_logits)
        return lib.dkd(logits, batch.teacher_logits, classes, where=batch.where, axis_name=axis_name, **settings)

    return _method("dkd", config, context, divergence)


def dist(config: Any, context: Context) -> Method:
    """DIST: correlation of probabilities within rows and within classes (Huang et al. 2022, arXiv 2205.10536)."""
    settings = dict(inter_weight=config.dist.beta, intra_weight=config.dist.gamma, temperature=config.distillation.temperature)

    def divergence(logits: Array, batch: Batch, axis_name: str | None) -> Array:
        return lib.dist(logits, batch.teacher_logits, where=batch.where, axis_name=axis_name, **settings)

    return _method("dist", config, context, divergence)


def standardised_kd(config: Any, context: Context) -> Method:
    """Knowledge distillation on standardised logits (Sun et al. 2024, arXiv 2403.01427)."""
    temperature = config.distillation.temperature

    def divergence(logits: Array, batch: Batch, axis_name: str | None) -> Array:
        return lib.standardised_kd(logits, batch.teacher_logits, temperature=temperature, where=batch.where, axis_name=axis_name)

    return _method("standardised_kd", config, context, divergence)
