"""EAsT: the teacher's raw embedding guides the student's features (arXiv 2306.17424)."""

from typing import Any

import flax.linen as nn
import jax

from jaxkd.losses import masked_bernoulli_cross_entropy
from jaxkd.methods.distance import adapt, distance
from jaxkd.methods.method import Method
from jaxkd.types import Array, Batch, StudentOutputs


class _Auxiliary(nn.Module):
    config: Any

    @nn.compact
    def __call__(self, features: jax.Array, embedding: jax.Array) -> jax.Array:
        return adapt(self.config, features, embedding.shape[-1])


def build(config: Any, *, num_labels: int, feature_dim: int) -> Method:
    """L = (1 - weight) * label loss + weight * distance(features, embedding), on the last stage ("Final")."""
    weight = config.east.weight

    def losses(outputs: StudentOutputs, auxiliary: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = masked_bernoulli_cross_entropy(outputs.logits, batch.labels, batch.label_mask, where=batch.where, axis_name=axis_name)
        apart = distance(config, auxiliary, batch.embedding, batch.where, axis_name)
        return {"loss": (1 - weight) * label + weight * apart, "label_loss": label, "distance": apart}

    return Method(uses_embedding=True, losses=losses, auxiliary=_Auxiliary(config))
