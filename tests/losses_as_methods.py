"""Losses between the rows of a batch that no method of the package takes, each as a method in plug-in form: of a projection of the student's features."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd import losses
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.types import Array, Batch, StudentOutputs

LOSSES = ("pkt", "cka", "similarity_preserving", "crd_in_batch")


class _Projected(nn.Module):
    @nn.compact
    def __call__(self, outputs: StudentOutputs, batch: Batch) -> jax.Array:
        return nn.Dense(batch.embedding_dim, name="projection")(outputs.features.mean(axis=1))


def _method(loss: Callable[..., jax.Array], config: Any, context: Context) -> Method:
    def terms(outputs: StudentOutputs, projected: Array, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        options = {"classes": jnp.argmax(batch.labels, axis=-1)} if loss is losses.crd_in_batch else {"group_size": config.distance.group_size or None}
        apart = loss(projected, batch.embedding.mean(axis=1), where=batch.where, axis_name=axis_name, **options)
        return {"loss": label + apart, "label_loss": label, "distance": apart}

    return Method(terms, sums_over_axis=True, needs=("embedding",), auxiliary=_Projected())


def of_global_batch(config: Any, context: Context) -> Method:
    """PKT as somebody writes it who thinks of one device alone."""

    def terms(outputs: StudentOutputs, projected: Array, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        return {"loss": label_loss(context.task, outputs.logits, batch, None) + losses.pkt(projected, batch.embedding.mean(axis=1), where=batch.where)}

    return Method(terms, needs=("embedding",), auxiliary=_Projected())


pkt, cka, similarity_preserving, crd_in_batch = (functools.partial(_method, getattr(losses, name)) for name in LOSSES)
