"""Deviations from a mean that are exactly zero, with zero gradient, where there is nothing to see."""

import jax
import jax.numpy as jnp

from jaxkd.losses.features import unit_rows
from jaxkd.losses.reduce import summed
from jaxkd.types import Array


def deviations(x: Array, where: Array | None = None, axis_name: str | None = None) -> jax.Array:
    """Deviations of x from the mean of its last axis.

    Args:
      x: floats, [..., n].
      where: True for the entries that count, bool, broadcast to x; the others come out as 0.
      axis_name: mapped axis over which the last axis is split.

    Returns:
      The same shape and dtype; all 0, with zero gradient, where the entries differ by no more than rounding.
    """
    x = jnp.asarray(x)
    mask = jnp.broadcast_to(True if where is None else jnp.asarray(where, bool), x.shape)
    fixed = jax.lax.stop_gradient(x)
    high = jnp.max(fixed, axis=-1, keepdims=True, where=mask, initial=-jnp.inf)
    low = jnp.min(fixed, axis=-1, keepdims=True, where=mask, initial=jnp.inf)
    if axis_name is not None:
        high, low = jax.lax.pmax(high, axis_name), jax.lax.pmin(low, axis_name)
    mask &= high - low > 4 * jnp.finfo(x.dtype).eps * jnp.maximum(jnp.abs(high), jnp.abs(low))
    shifted = jnp.where(mask, x - high, 0)
    total, count = summed((jnp.sum(shifted, axis=-1, keepdims=True), jnp.sum(mask, axis=-1, keepdims=True)), axis_name)
    mean = total / jnp.maximum(count, 1)
    return jnp.where(mask, shifted - mean, 0)


def unit_deviations(x: Array, where: Array | None = None, axis_name: str | None = None) -> jax.Array:
    """Deviations of x [..., n] divided by their L2 norm: the dot product of two such vectors is Pearson's correlation. See `deviations`."""
    return unit_rows(deviations(x, where, axis_name), axis_name)


def scaled(x: jax.Array) -> jax.Array:
    """Divides x by its largest entry, for what does not depend on scale: products neither overflow nor vanish."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), initial=0))
    return x / jnp.where(largest > 0, largest, 1)
