"""Scaled dot-product attention (arXiv 1706.03762, section 3.2.1)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

MASKED_SCORE = -1e9
"""Added to the score of a key that is not attended to: its weight is then exactly 0 beside one that is."""


def attention(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, drop: Callable[[jax.Array], jax.Array] = lambda x: x) -> jax.Array:
    """Means of the values by the softmax of the scores, which is computed in float32, its division last.

    Heads are made rows first: on a CPU products over one leading axis are faster than over a batch and heads that lie apart.

    Args:
      query: [B, L, H, D], as `key` and `value`.
      key: the keys.
      value: the values.
      mask: bool [B, L, L], or [B, 1, L] for all queries alike: True for the keys that a query attends to.
      drop: dropout of the weights.

    Returns:
      [B, L, H, D]; the mean of all values for a query that attends to no key.
    """
    batch, length, heads, depth = query.shape
    query, key, value = (jnp.swapaxes(x, 1, 2).reshape(batch * heads, length, depth) for x in (query * depth**-0.5, key, value))
    bias = jnp.repeat(jnp.where(mask, 0.0, MASKED_SCORE), heads, axis=0)
    scores = jnp.einsum("nqd,nkd->nqk", query, key).astype(jnp.float32) + bias
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    attended = jnp.einsum("nqk,nkd->nqd", drop(weights).astype(value.dtype), value).reshape(batch, heads, length, depth)
    total = jnp.sum(weights, axis=-1).astype(value.dtype).reshape(batch, heads, length)
    return jnp.swapaxes(attended, 1, 2) / jnp.swapaxes(total, 1, 2)[..., None]
