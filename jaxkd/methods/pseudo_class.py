"""Pseudo-class methods: the student learns S subclasses of each class (LELP, arXiv 2409.20449, its clustering variants and controls; arXiv 2002.03936).

Which subclass a row belongs to is precomputed (`jaxkd.training.subclasses`); here it is only learned.
"""

import functools
from typing import Any

import jax.numpy as jnp

from jaxkd import lelp
from jaxkd import losses as lib
from jaxkd.methods.distillation import entry_mask, kd_divergence, require_multiclass
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.types import Array, Batch, StudentOutputs


def _method(name: str, config: Any, context: Context, distillation: Any, needs: tuple[str, ...], subclasses: int) -> Method:
    """L = alpha * label loss on the folded logits + (1 - alpha) * distillation; classes are read by summed probabilities.

    With many labels an example, each label is two classes, absent and present, of S subclasses each.
    """
    alpha = config.distillation.alpha
    fold = functools.partial(lelp.serving_logits, num_labels=context.num_labels, task=context.task)

    def losses(outputs: StudentOutputs, auxiliary: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, fold(outputs.logits), batch, axis_name)
        apart = distillation(outputs.logits, batch, axis_name)
        return {"loss": alpha * label + (1 - alpha) * apart, "label_loss": label, "distillation": apart}

    outputs = 2 * subclasses if context.task == "multilabel" else subclasses
    return Method(losses, needs=needs, outputs_per_label=outputs, label_logits=fold)


def lelp_method(config: Any, context: Context) -> Method:
    """The teacher's pseudo-class probabilities p_c * pi_(s|c), learned over all C x S outputs (arXiv 2409.20449); with many labels, over 2 x S for each."""
    options = {name: config.lelp[name] for name in ("temperature_on", "tau_squared", "weight")} | {"temperature": config.distillation.temperature}

    def distillation(logits: Array, batch: Batch, axis_name: str | None) -> Array:
        arguments = (logits, batch.teacher_logits, batch.targets)
        if context.task == "multilabel":
            mask = entry_mask(config, batch)
            return lelp.multilabel_pseudo_class_loss(*arguments, label_mask=mask, where=batch.where, axis_name=axis_name, **options)
        return lelp.pseudo_class_loss(*arguments, where=batch.where, axis_name=axis_name, **options)

    return _method("lelp", config, context, distillation, ("logits", "targets"), context.num_subclasses)


def outputs_only(config: Any, context: Context) -> Method:
    """The control of the larger head: C x S outputs, knowledge distillation on the folded logits, no subclass to learn."""
    divergence = kd_divergence(config, context)

    def distillation(logits: Array, batch: Batch, axis_name: str | None) -> Array:
        return divergence(lelp.serving_logits(logits, context.num_labels, context.task), batch, axis_name)

    return _method("outputs_only", config, context, distillation, ("logits",), config.lelp.subclasses)


def subclass_distillation(config: Any, context: Context) -> Method:
    """Subclass Distillation: the logits of a teacher that invented its own subclasses while it was trained (Mueller et al. 2020, arXiv 2002.03936)."""
    require_multiclass("subclass_distillation", context)

    def distillation(logits: Array, batch: Batch, axis_name: str | None) -> Array:
        return lib.kd(logits, batch.teacher_logits, temperature=config.distillation.temperature, where=batch.where, axis_name=axis_name)

    return _method("subclass_distillation", config, context, distillation, ("logits",), config.lelp.subclasses)


def subclass_teacher(config: Any, context: Context) -> Method:
    """How the teacher of Subclass Distillation is trained: cross-entropy of its folded logits, and the loss that spreads its subclasses."""
    require_multiclass("subclass_teacher", context)
    settings = config.subclass_distillation
    fold = functools.partial(lelp.fold_logits, num_classes=context.num_labels)

    def losses(outputs: StudentOutputs, auxiliary: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = lib.softmax_cross_entropy(fold(outputs.logits), batch.labels, batch.label_mask, where=batch.where, axis_name=axis_name)
        labelled = batch.where & jnp.any(batch.label_mask, axis=-1)
        spread = lib.subclass_auxiliary(outputs.logits, temperature=settings.auxiliary_temperature, where=labelled, axis_name=axis_name)
        return {"loss": label + settings.auxiliary_weight * spread, "label_loss": label, "auxiliary_loss": spread}

    return Method(losses, outputs_per_label=config.lelp.subclasses, label_logits=fold)
