"""Embedding compression: a teacher transformation makes the embedding compact before it guides the student (arXiv 2402.06761)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.compression import FIXED, Projection, TeacherTransformation
from jaxkd.config import count_steps
from jaxkd.methods.distance import adapt, distance, split_widths
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.torch_start import TORCH_DEFAULT
from jaxkd.types import Array, Batch, StudentOutputs


class _Outputs(NamedTuple):
    adapted: tuple[jax.Array, ...]
    compact: jax.Array
    teacher_logits: jax.Array


class _Auxiliary(nn.Module):
    config: Any
    num_labels: int
    projection: Callable[[int], Projection] | None
    widths: tuple[int, ...]
    log_odds: np.ndarray | None

    @nn.compact
    def __call__(self, outputs: StudentOutputs, batch: Batch) -> _Outputs:
        settings = self.config.compressed
        width = settings.features or outputs.features.shape[-1]
        projection = self.projection(width) if self.projection and settings.transformation in FIXED else None
        parts = zip(_transformations(self.widths), split_widths(batch.embedding, self.widths), strict=True)
        compact = jnp.concatenate([TeacherTransformation(width, settings.transformation, projection, name=name)(part) for name, part in parts], axis=-1)
        start = nn.initializers.zeros if settings.head_bias == "zero" or self.log_odds is None else nn.initializers.constant(self.log_odds)
        teacher_logits = nn.Dense(self.num_labels, kernel_init=TORCH_DEFAULT, bias_init=start, name="head")(compact.mean(axis=1))
        return _Outputs(adapt(self.config, outputs, compact.shape[-1], (width,) * len(self.widths)), compact, teacher_logits)


def _transformations(widths: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the transformations: one for each of several teachers with a distance each."""
    return tuple(f"transformation_{number}" for number in range(len(widths))) or ("transformation",)


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

    The plateau schedule and the early stop watch the first two terms, "student_loss", the total of EAsT: a head of the teacher's side that over-fits
    neither lowers the student's learning rate nor ends its training. A lower rate is one of both sides.

    With training="staged" the first `staged_steps` train transformation and head alone; then these are frozen, and the student starts, its learning rate
    warmed up anew. The student's side of a step of the first stage is computed and thrown away.

    With head_bias="log_odds" the head starts at the frequencies of the training labels, and the transformation learns from what is left; from "zero" (as
    torch's linear layers in EAsT's code nearly do) a head of rare labels first has to learn these, for which a short training may not suffice.

    Several teachers with `teacher.combine="separate"` have a transformation and a distance each, and share the head.
    """
    settings = config.compressed

    def losses(outputs: StudentOutputs, auxiliary: _Outputs, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        teacher = label_loss(context.task, auxiliary.teacher_logits, batch, axis_name)
        target = jax.lax.stop_gradient(auxiliary.compact) if settings.stop_gradient else auxiliary.compact
        compact_widths = (target.shape[-1] // len(context.widths),) * len(context.widths) if context.widths else ()
        apart = distance(config, auxiliary.adapted, target, batch.where, axis_name, compact_widths)
        student = (1 - settings.weight) * label + settings.weight * apart
        total = student + settings.teacher_weight * teacher
        return {"loss": total, "student_loss": student, "label_loss": label, "distance": apart, "teacher_loss": teacher}

    return Method(
        losses,
        needs=("embedding",),
        auxiliary=_Auxiliary(config, context.num_labels, context.projection, context.widths, context.log_odds),
        teacher_side=() if settings.shared_optimiser else (*_transformations(context.widths), "head"),
        teacher_first_steps=count_steps(settings.staged_steps, config.training.steps) if settings.training == "staged" else 0,
        compact=lambda auxiliary: auxiliary.compact,
        head_logits=lambda auxiliary: auxiliary.teacher_logits,
        watched="student_loss",
    )
