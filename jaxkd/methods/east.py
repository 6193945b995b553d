"""EAsT: the teacher's raw embedding guides the student's features (arXiv 2306.17424), alone or with knowledge distillation."""

from typing import Any

import flax.linen as nn
import jax

from jaxkd.methods.distance import adapt, distance
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.types import Array, Batch, StudentOutputs


class _Auxiliary(nn.Module):
    config: Any

    @nn.compact
    def __call__(self, outputs: StudentOutputs, batch: Batch) -> tuple[jax.Array, ...]:
        return adapt(self.config, outputs, batch.embedding_dim)


def build(config: Any, context: Context) -> Method:
    """L = (1 - weight) * label loss + weight * distance(features, embedding), on the last stage ("Final") or several ("All")."""
    weight = config.east.weight

    def losses(outputs: StudentOutputs, adapted: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        apart = distance(config, adapted, batch.embedding, batch.where, axis_name)
        return {"loss": (1 - weight) * label + weight * apart, "label_loss": label, "distance": apart}

    return Method(losses, needs=("embedding",), auxiliary=_Auxiliary(config))
