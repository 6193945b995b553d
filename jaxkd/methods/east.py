"""EAsT: the teacher's raw embedding guides the student's features (arXiv 2306.17424), alone or with knowledge distillation."""

from typing import Any

import flax.linen as nn
import jax

from jaxkd.methods.distance import adapt, distance
from jaxkd.methods.distillation import kd_divergence
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.types import Array, Batch, StudentOutputs


class _Auxiliary(nn.Module):
    config: Any
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, outputs: StudentOutputs, batch: Batch) -> tuple[jax.Array, ...]:
        return adapt(self.config, outputs, batch.embedding_dim, self.widths)


def build(config: Any, context: Context) -> Method:
    """L = (1 - weight) * label loss + weight * distance(features, embedding), on the last stage ("Final") or several ("All")."""
    weight = config.east.weight

    def losses(outputs: StudentOutputs, adapted: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        apart = distance(config, adapted, batch.embedding, batch.where, axis_name, context.widths)
        return {"loss": (1 - weight) * label + weight * apart, "label_loss": label, "distance": apart}

    return Method(losses, needs=("embedding",), auxiliary=_Auxiliary(config, context.widths))


def east_kd(config: Any, context: Context) -> Method:
    """EAsT with knowledge distillation: L = (1 - weight) * label loss + weight * ((1 - g) * distance + g * distillation).

    weight = `config.east.weight`, g = `config.east_kd.kd_weight`; the teacher's logits are those of its own classifier, the probe in
    the paper. Mixup mixes them as it mixes the embeddings: of a linear classifier or a probe these are the logits of the mixed embedding, of others not.
    """
    weight, share, divergence = config.east.weight, config.east_kd.kd_weight, kd_divergence(config, context, section="east_kd")

    def losses(outputs: StudentOutputs, adapted: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        apart = distance(config, adapted, batch.embedding, batch.where, axis_name, context.widths)
        kd = divergence(outputs.logits, batch, axis_name)
        total = (1 - weight) * label + weight * ((1 - share) * apart + share * kd)
        return {"loss": total, "label_loss": label, "distance": apart, "distillation": kd}

    return Method(losses, needs=("embedding", "logits"), auxiliary=_Auxiliary(config, context.widths))
