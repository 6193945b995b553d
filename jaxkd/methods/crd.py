"""Contrastive representation distillation, with a memory bank or within the batch (Tian et al. 2020, arXiv 1910.10699)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd import losses as lib
from jaxkd.methods.distillation import kd_divergence, require_multiclass
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.torch_start import TORCH_DEFAULT
from jaxkd.types import Array, Batch, StudentOutputs


class _Projections(nn.Module):
    """Both sides at one width, each by a trained linear map: two [B, width]."""

    width: int

    @nn.compact
    def __call__(self, outputs: StudentOutputs, batch: Batch) -> tuple[jax.Array, jax.Array]:
        def project(name: str, x: Array) -> jax.Array:
            return nn.Dense(self.width, kernel_init=TORCH_DEFAULT, name=name)(jnp.asarray(x).mean(axis=1))

        return project("student", outputs.features), project("teacher", batch.embedding)


def build(config: Any, context: Context) -> Method:
    """L = alpha * label loss + (1 - alpha) * knowledge distillation + weight * contrastive loss.

    The memory bank holds both projections of every training row. On the validation split, whose rows are in no bank, the contrastive term is 0.
    """
    require_multiclass("crd", context)
    settings, alpha, divergence = config.crd, config.distillation.alpha, kd_divergence(config, context)

    def terms(outputs: StudentOutputs, batch: Batch, contrast: Array, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        kd = divergence(outputs.logits, batch, axis_name)
        total = alpha * label + (1 - alpha) * kd + settings.weight * contrast
        return {"loss": total, "label_loss": label, "distillation": kd, "contrast": contrast}

    def in_batch(outputs: StudentOutputs, projected: tuple[Array, Array], batch: Batch, axis_name: str | None) -> dict[str, Array]:
        classes = lib.target_classes(batch.labels, batch.label_mask, batch.teacher_logits)
        contrast = lib.crd_in_batch(*projected, temperature=settings.temperature, classes=classes, where=batch.where, axis_name=axis_name)
        return terms(outputs, batch, contrast, axis_name)

    def with_memory(
        outputs: StudentOutputs, projected: tuple[Array, Array], batch: Batch, axis_name: str | None, *, memory: Any, key: Array
    ) -> tuple[dict[str, Array], Any]:
        contrast = jnp.float32(0)
        if batch.index is not None:
            negatives = lib.sample_negatives(key, groups, batch.index, settings.negatives)
            contrast, memory = lib.crd_loss(
                *projected, memory, batch.index, negatives, temperature=settings.temperature, where=batch.where, axis_name=axis_name
            )
        return terms(outputs, batch, contrast, axis_name), memory

    auxiliary = _Projections(settings.width)
    if settings.form == "in_batch":
        return Method(in_batch, needs=("embedding", "logits"), auxiliary=auxiliary)
    rows, groups = len(context.train_classes), lib.class_groups(context.train_classes)
    return Method(with_memory, needs=("embedding", "logits"), auxiliary=auxiliary, initial_memory=lambda key: lib.init_memory(key, rows, settings.width))
