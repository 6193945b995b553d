"""Embedding compression: a teacher transformation makes the embedding compact before it guides the student (arXiv 2402.06761)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd.compression import FIXED, UNIFORM_FAN_IN, Projection, TeacherTransformation
from jaxkd.config import count_steps
from jaxkd.methods.distance import adapt, distance
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.types import Array, Batch, StudentOutputs


class _Outputs(NamedTuple):
    adapted: tuple[jax.Array, ...]
    compact: jax.Array
    teacher_logits: jax.Array


class _Auxiliary(nn.Module):
    config: Any
    num_labels: int
    projection: Callable[[int], Projection] | None

    @nn.compact
    def __call__(self, outputs: StudentOutputs, batch: Batch) -> _Outputs:
        settings = self.config.compressed
        width = settings.features or outputs.features.shape[-1]
        projection = self.projection(width) if self.projection and settings.transformation in FIXED else None
        transformation = TeacherTransformation(width, settings.transformation, projection, name="transformation")
        compact = transformation(jnp.asarray(batch.embedding))
        teacher_logits = nn.Dense(self.num_labels, kernel_init=UNIFORM_FAN_IN, name="head")(compact.mean(axis=1))
        return _Outputs(adapt(self.config, outputs, width), compact, teacher_logits)


def build(config: Any, context: Context) -> Method:
    """L = (1 - weight) * label loss + weight * distance(features, compact embedding) + teacher_weight * teacher loss.

    | gradient of | student | transformation | its head |
    |---|---|---|---|
    | label loss | yes | no | no |
    | distance | yes | only with stop_gradient=False | no |
    | teacher loss | no | yes | yes |

    Adam divides a gradient by its size: `teacher_weight` changes nothing, up to rounding, while the teacher's side has only the teacher loss, and an
    optimiser and clip norm of its own that does not clip. It counts where gradients or norms meet: with stop_gradient=False (against the distance), with
    shared_optimiser (one clip norm for both sides), where the clip norm or the coupled decay of "adam" is reached.

    With training="staged" the first `staged_steps` train transformation and head alone; then these are frozen, and the student starts, its learning rate
    warmed up anew. The student's side of a step of the first stage is computed and thrown away.
    """
    settings = config.compressed

    def losses(outputs: StudentOutputs, auxiliary: _Outputs, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        teacher = label_loss(context.task, auxiliary.teacher_logits, batch, axis_name)
        target = jax.lax.stop_gradient(auxiliary.compact) if settings.stop_gradient else auxiliary.compact
        apart = distance(config, auxiliary.adapted, target, batch.where, axis_name)
        total = (1 - settings.weight) * label + settings.weight * apart + settings.teacher_weight * teacher
        return {"loss": total, "label_loss": label, "distance": apart, "teacher_loss": teacher}

    return Method(
        losses,
        needs=("embedding",),
        auxiliary=_Auxiliary(config, context.num_labels, context.projection),
        teacher_side=() if settings.shared_optimiser else ("transformation", "head"),
        teacher_first_steps=count_steps(settings.staged_steps, config.training.steps) if settings.training == "staged" else 0,
        compact=lambda auxiliary: auxiliary.compact,
    )
