"""What a method is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from jaxkd.compression import Projection
from jaxkd.losses import masked_bernoulli_cross_entropy, softmax_cross_entropy
from jaxkd.types import Array, Batch


class Context(NamedTuple):
    """What a method is built for.

    Attributes:
      task: "multilabel" or "multiclass".
      num_labels: K, labels or classes.
      train_classes: class of each row of the training split: its label, else the teacher's guess, else -1; int32 [N].
      num_subclasses: S, subclasses of each class of the precomputed targets.
      projection: f(width) -> the teacher transformation that is not trained but was drawn or fitted, where the config names one.
      widths: D of each of several teachers, whose embeddings stand side by side and are to have a distance each; () for one distance to all.
      log_odds: logits that predict how often each label (its share among the known ones) or class occurs in the training split, float32 [K]; None for zeros.
    """

    task: str
    num_labels: int
    train_classes: np.ndarray
    num_subclasses: int = 1
    projection: Callable[[int], Projection] | None = None
    widths: tuple[int, ...] = ()
    log_odds: np.ndarray | None = None


def _as_they_are(logits: Array) -> Array:
    return logits


@dataclass(frozen=True)
class Method:
    """A way to train a student.

    Attributes:
      losses: f(outputs, auxiliary outputs, batch, axis_name) -> terms; the term "loss" is what is minimised, the others are logged. Without
        `axis_name` it sees the rows of the global batch; with it those of one of several devices, and sums or gathers over the mapped axis what must be of
        all, so that terms are equal on all devices. With `initial_memory` it also takes `memory=` and a random `key=`, and returns (terms, memory).
      needs: what the batch must carry of the teacher, names of `jaxkd.types.TeacherSide`; with any of them unlabelled rows take part.
      auxiliary: module of the parts that are trained beside the student and dropped at export, or None. Its
        `__call__(outputs: StudentOutputs, batch: Batch)` returns what `losses` takes; a submodule named in `teacher_side`
        is optimised and clipped apart from the student.
      teacher_side: names of the auxiliary submodules that belong to the teacher's side.
      teacher_first_steps: steps in which the teacher's side alone is trained; afterwards it is frozen, and the student's side is trained. 0 = both at once.
      compact: from what the auxiliary module returned to the compact embedding [B, T, C], for the diagnostics of the report; None where there is none.
      head_logits: the same to the logits [B, K] that the compact embedding is trained by; None where there are none.
      outputs_per_label: S, outputs of the student for each label.
      watched: the term whose validation value the plateau schedule and the early stop watch.
      label_logits: from the student's outputs [B, K * S] to one logit a label [B, K].
      initial_memory: f(key) -> pytree that the method carries from step to step, or None.
      warning: what the user should know of this method on this task; shown when training starts, and in the report.
      sums_over_axis: whether `losses` does so. Under jit it is given the axis only then; else XLA splits what it computes of the global batch, and may send
        matrices of pairs of rows. Under pmap it must.
    """

    losses: Callable[..., Any]
    needs: tuple[str, ...] = ()
    auxiliary: nn.Module | None = None
    teacher_side: tuple[str, ...] = ()
    teacher_first_steps: int = 0
    compact: Callable[[Any], Array] | None = None
    head_logits: Callable[[Any], Array] | None = None
    outputs_per_label: int = 1
    watched: str = "loss"
    label_logits: Callable[[Array], Array] = _as_they_are
    initial_memory: Callable[[Array], Any] | None = None
    warning: str = ""
    sums_over_axis: bool = False


def label_loss(task: str, logits: Array, batch: Batch, axis_name: str | None) -> Array:
    """Cross-entropy of the labels that are known: binary over all labels ("multilabel"), softmax over the classes ("multiclass")."""
    loss = softmax_cross_entropy if task == "multiclass" else masked_bernoulli_cross_entropy
    return loss(logits, batch.labels, batch.label_mask, where=batch.where, axis_name=axis_name)
