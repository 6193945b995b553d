"""Labels only."""

from typing import Any

from jaxkd.losses import masked_bernoulli_cross_entropy
from jaxkd.methods.method import Method
from jaxkd.types import Array, Batch, StudentOutputs


def _losses(outputs: StudentOutputs, auxiliary: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
    label = masked_bernoulli_cross_entropy(outputs.logits, batch.labels, batch.label_mask, where=batch.where, axis_name=axis_name)
    return {"loss": label, "label_loss": label}


def build(config: Any, *, num_labels: int, feature_dim: int) -> Method:
    """The student without a teacher: masked binary cross-entropy."""
    return Method(uses_embedding=False, losses=_losses)
