"""Embedding compression: a trainable teacher transformation makes the embedding compact before it guides the student (arXiv 2402.06761)."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd.compression import UNIFORM_FAN_IN, TeacherTransformation
from jaxkd.methods.distance import adapt, distance
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.types import Array, Batch, StudentOutputs


class _Outputs(NamedTuple):
    adapted: jax.Array
    compact: jax.Array
    teacher_logits: jax.Array


class _Auxiliary(nn.Module):
    config: Any
    num_labels: int

    @nn.compact
    def __call__(self, outputs: StudentOutputs, batch: Batch) -> _Outputs:
        settings = self.config.compressed
        width = settings.features or outputs.features.shape[-1]
        compact = TeacherTransformation(width, settings.transformation, name="transformation")(jnp.asarray(batch.embedding))
        teacher_logits = nn.Dense(self.num_labels, kernel_init=UNIFORM_FAN_IN, name="head")(compact.mean(axis=1))
        return _Outputs(adapt(self.config, outputs.features, width), compact, teacher_logits)


def build(config: Any, context: Context) -> Method:
    """L = (1 - weight) * label loss + weight * distance(features, compact embedding) + teacher_weight * teacher loss.

    | gradient of | student | transformation | its head |
    |---|---|---|---|
    | label loss | yes | no | no |
    | distance | yes | only with stop_gradient=False | no |
    | teacher loss | no | yes | yes |
    """
    settings = config.compressed

    def losses(outputs: StudentOutputs, auxiliary: _Outputs, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        teacher = label_loss(context.task, auxiliary.teacher_logits, batch, axis_name)
        target = jax.lax.stop_gradient(auxiliary.compact) if settings.stop_gradient else auxiliary.compact
        apart = distance(config, auxiliary.adapted, target, batch.where, axis_name)
        total = (1 - settings.weight) * label + settings.weight * apart + settings.teacher_weight * teacher
        return {"loss": total, "label_loss": label, "distance": apart, "teacher_loss": teacher}

    return Method(losses, needs=("embedding",), auxiliary=_Auxiliary(config, context.num_labels), teacher_side=("transformation", "head"))
