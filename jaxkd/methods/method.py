"""What a method is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn

from jaxkd.types import Array, Batch, StudentOutputs


@dataclass(frozen=True)
class Method:
    """A way to train a student.

    Attributes:
      uses_embedding: whether the batch must carry the teacher's embedding (and unlabelled rows take part).
      auxiliary: module of the parts that are trained beside the student and dropped at export, or None. Its
        `__call__(features [B, T, C], embedding [B, T', D])` returns what `losses` takes; a submodule named in `teacher_side`
        is optimised and clipped apart from the student.
      losses: f(outputs, auxiliary outputs, batch, axis_name) -> terms; the term "loss" is what is minimised, the others are logged.
      teacher_side: names of the auxiliary submodules that belong to the teacher's side.
    """

    uses_embedding: bool
    losses: Callable[[StudentOutputs, Any, Batch, str | None], dict[str, Array]]
    auxiliary: nn.Module | None = None
    teacher_side: tuple[str, ...] = ()
