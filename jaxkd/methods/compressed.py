"""Embedding compression: a trainable teacher transformation makes the embedding compact before it guides the student (arXiv 2402.06761)."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax

from jaxkd.compression import UNIFORM_FAN_IN, TeacherTransformation
from jaxkd.losses import masked_bernoulli_cross_entropy
from jaxkd.methods.distance import adapt, distance
from jaxkd.methods.method import Method
from jaxkd.types import Array, Batch, StudentOutputs


class _Outputs(NamedTuple):
    adapted: jax.Array
    compact: jax.Array
    teacher_logits: jax.Array


class _Auxiliary(nn.Module):
    config: Any
    num_labels: int
    feature_dim: int

    @nn.compact
    def __call__(self, features: jax.Array, embedding: jax.Array) -> _Outputs:
        settings = self.config.compressed
        width = settings.features or self.feature_dim
        compact = TeacherTransformation(width, settings.transformation, name="transformation")(embedding)
        teacher_logits = nn.Dense(self.num_labels, kernel_init=UNIFORM_FAN_IN, name="head")(compact.mean(axis=1))
        return _Outputs(adapt(self.config, features, width), compact, teacher_logits)


def build(config: Any, *, num_labels: int, feature_dim: int) -> Method:
    """L = (1 - weight) * label loss + weight * distance(features, compact embedding) + teacher_weight * teacher loss.

    | gradient of | student | transformation | its head |
    |---|---|---|---|
    | label loss | yes | no | no |
    | distance | yes | only with stop_gradient=False | no |
    | teacher loss | no | yes | yes |
    """
    settings = config.compressed

    def losses(outputs: StudentOutputs, auxiliary: _Outputs, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = masked_bernoulli_cross_entropy(outputs.logits, batch.labels, batch.label_mask, where=batch.where, axis_name=axis_name)
        teacher = masked_bernoulli_cross_entropy(auxiliary.teacher_logits, batch.labels, batch.label_mask, where=batch.where, axis_name=axis_name)
        target = jax.lax.stop_gradient(auxiliary.compact) if settings.stop_gradient else auxiliary.compact
        apart = distance(config, auxiliary.adapted, target, batch.where, axis_name)
        total = (1 - settings.weight) * label + settings.weight * apart + settings.teacher_weight * teacher
        return {"loss": total, "label_loss": label, "distance": apart, "teacher_loss": teacher}

    return Method(uses_embedding=True, losses=losses, auxiliary=_Auxiliary(config, num_labels, feature_dim), teacher_side=("transformation", "head"))
