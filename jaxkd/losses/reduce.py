"""Means over the rows that count, on the global batch."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxkd.types import Array


def to_compute_dtype(x: Array) -> jax.Array:
    """Half precision becomes float32; float32 and float64 stay as they are."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def masked_mean(values: Array, mask: Array, *, axis_name: str | None = None) -> jax.Array:
    """Mean of `values` where `mask` is True; 0 with zero gradient where nothing is.

    Args:
      values: floats of any shape. Entries that are masked out may hold anything but must be finite if a gradient is taken.
      mask: bool, broadcast to the shape of `values`.
      axis_name: mapped axis (pmap, vmap, shard_map) over which the batch is split; sum and count are summed over it.

    Returns:
      A scalar.
    """
    mask = jnp.broadcast_to(jnp.asarray(mask, bool), values.shape)
    total = jnp.sum(jnp.where(mask, values, 0))
    count = jnp.sum(mask, dtype=values.dtype)
    if axis_name is not None:
        total, count = jax.lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1)


def row_mask(where: Array | None, x: Array) -> jax.Array:
    """`where` [B] shaped to broadcast against x [B, ...]; all True when `where` is None."""
    if where is None:
        return jnp.ones((x.shape[0],) + (1,) * (x.ndim - 1), bool)
    return jnp.asarray(where, bool).reshape((x.shape[0],) + (1,) * (x.ndim - 1))


def all_rows(x: Any, axis_name: str | None) -> Any:
    """The rows [m, ...] of all replicas in axis order, [n, ...], of an array or of each of a pytree; as it is without a mapped axis."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


def own_rows(x: Any, rows: int, axis_name: str | None, *, axis: int = 0) -> Any:
    """The part of this replica, `rows` long, of an axis of rows of all replicas, of an array or of each of a pytree; as it is without a mapped axis."""
    return x if axis_name is None else jax.tree.map(lambda whole: jax.lax.dynamic_slice_in_dim(whole, first_row(rows, axis_name), rows, axis), x)


def summed(x: Any, axis_name: str | None) -> Any:
    """The sum over all replicas; as it is without a mapped axis."""
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def first_row(rows: int, axis_name: str | None) -> jax.Array | int:
    """Where the rows of this replica begin in the global batch."""
    return 0 if axis_name is None else jax.lax.axis_index(axis_name) * rows


def diagonal(rows: int, axis_name: str | None) -> jax.Array:
    """True where a row of this replica meets itself among those of all replicas, bool [m, n]."""
    return own_rows(jnp.eye(rows if axis_name is None else rows * jax.lax.axis_size(axis_name), dtype=bool), rows, axis_name)
