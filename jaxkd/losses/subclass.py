"""Subclass Distillation: the loss that makes a teacher spread its rows over the subclasses that it invents."""

import jax
import jax.numpy as jnp

from jaxkd.losses.deviations import unit_deviations
from jaxkd.losses.groups import mean_over_groups
from jaxkd.losses.reduce import all_rows, diagonal, masked_mean
from jaxkd.losses.tempered import jit_tempered
from jaxkd.types import Array


@jit_tempered(static_argnames=("axis_name", "gather"))
def subclass_auxiliary(
    logits: Array, *, temperature: float = 1.0, where: Array | None = None, axis_name: str | None = None, gather: str = "global"
) -> jax.Array:
    """Auxiliary loss of the teacher in Subclass Distillation (Mueller, Kornblith and Hinton 2020, arXiv 2002.03936).

    mean_i logsumexp_j(e_i . e_j) - 1 / temperature - log B over the global batch, e_i = row i of the logits, standardised and divided by
    sqrt(temperature * K), so that |e_i|^2 = 1 / temperature. It is 0 when all rows agree and falls as they spread. A row of equal logits
    has e_i = 0.

    Args:
      logits: subclass logits of the teacher, [B, K].
      temperature: the smaller, the more it is the nearest rows that matter.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split; rows are gathered over it.
      gather: "global", or "local" for the mean over devices of the loss within the rows of each, another objective; B is then the rows of a device.

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by shift and positive scale of each row.

    Raises:
      ConfigError: a temperature that is not finite and above 0.
    """

    def batch_loss(x: jax.Array, _: jax.Array, weights: jax.Array, axis_name: str | None) -> jax.Array:
        directions = unit_deviations(x)
        all_directions, all_weights = all_rows((directions, weights), axis_name)
        similarity = (jnp.matmul(directions, all_directions.T, precision=jax.lax.Precision.HIGHEST) - 1) / temperature
        counted = (all_weights > 0) | diagonal(len(weights), axis_name)  # a row left out sees itself alone, which keeps its gradient finite
        spread = jax.nn.logsumexp(jnp.where(counted, similarity, -jnp.inf), axis=1)
        return masked_mean(spread - jnp.log(jnp.maximum(jnp.sum(all_weights), 1)), weights > 0, axis_name=axis_name)

    return mean_over_groups(batch_loss, logits, logits, min_rows=1, group_size=None, where=where, axis_name=axis_name, gather=gather)
