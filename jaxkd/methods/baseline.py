"""Labels only."""

from typing import Any

from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.types import Array, Batch, StudentOutputs


def build(config: Any, context: Context) -> Method:
    """The student without a teacher: cross-entropy on the known labels."""

    def losses(outputs: StudentOutputs, auxiliary: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        return {"loss": label, "label_loss": label}

    return Method(losses)
