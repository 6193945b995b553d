"""EAsT: the teacher's raw embedding guides the student's features (arXiv 2306.17424), alone or with knowledge distillation."""

from typing import Any

import flax.linen as nn
import jax

from jaxkd import losses as lib
from jaxkd.methods.distance import adapt, distance
from jaxkd.methods.distillation import Divergence, entry_mask
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.types import Array, Batch, StudentOutputs

KD_EPS = 1e-9
"""What the authors add to both probabilities inside the logarithm."""


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


def _divergence(config: Any, context: Context) -> Divergence:
    """Knowledge distillation at `config.east_kd.temperature`, label by label or over the classes."""
    temperature, eps = config.east_kd.temperature, KD_EPS if config.distance.absolute_eps else None

    def of_labels(logits: Array, batch: Batch, axis_name: str | None) -> Array:
        options = {"temperature": temperature, "where": batch.where, "axis_name": axis_name, "eps": eps}
        return lib.bernoulli_kd(logits, batch.teacher_logits, entry_mask(config, batch), **options)

    if context.task == "multilabel":
        return of_labels
    return lambda logits, batch, axis_name: lib.kd(logits, batch.teacher_logits, temperature=temperature, where=batch.where, axis_name=axis_name)


def east_kd(config: Any, context: Context) -> Method:
    """EAsT with knowledge distillation: L = (1 - weight) * label loss + weight * ((1 - g) * distance + g * distillation).

    weight = `config.east.weight`, g = `config.east_kd.kd_weight`; the teacher's logits are those of its own classifier, of which a linear one is the probe of
    the paper. Mixup mixes them as it mixes the embeddings: of a linear classifier these are the logits of the mixed embedding, of others not.
    """
    weight, share, divergence = config.east.weight, config.east_kd.kd_weight, _divergence(config, context)

    def losses(outputs: StudentOutputs, adapted: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        apart = distance(config, adapted, batch.embedding, batch.where, axis_name, context.widths)
        kd = divergence(outputs.logits, batch, axis_name)
        total = (1 - weight) * label + weight * ((1 - share) * apart + share * kd)
        return {"loss": total, "label_loss": label, "distance": apart, "distillation": kd}

    return Method(losses, needs=("embedding", "logits"), auxiliary=_Auxiliary(config, context.widths))
