"""Distance groups: the global batch cut into runs of rows within which a batch-coupled loss is computed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxkd.errors import ConfigError, unknown_name
from jaxkd.losses.reduce import all_rows, first_row, row_mask, summed, to_compute_dtype
from jaxkd.types import Array

GATHERS = ("global", "local")

GroupLoss = Callable[[jax.Array, jax.Array, jax.Array, str | None], jax.Array]
"""(x [m, p], y [m, q], weights [m] of 0 and 1, axis_name) -> scalar: the loss of one group, all of whose rows are here, or of which this replica of the mapped
axis has m. It is then equal on all replicas, and nothing that crosses the axis grows faster than the rows."""


def mean_over_groups(
    group_loss: GroupLoss,
    features: Array,
    embedding: Array,
    *,
    min_rows: int,
    group_size: int | None,
    where: Array | None,
    axis_name: str | None,
    gather: str = "global",
    split: bool = True,
) -> jax.Array:
    """Applies a loss per group and frame: mean over frames, groups weighted by their rows.

    Groups are consecutive rows of the global batch; rows with `where` False are left out of their group, and a group with fewer than
    `min_rows` rows left is left out. With no group left the result is 0 with zero gradient.

    Args:
      group_loss: of the rows of a group.
      features: [B, T, p] or [B, p].
      embedding: [B, T, q] or [B, q], the same B and T.
      min_rows: fewest rows for which the loss is defined.
      group_size: rows a group; None = the whole global batch is one group.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split.
      gather: "global": groups are runs of the rows of all replicas, in the order of the axis; they are gathered where a group has rows of several. "local",
        another objective: groups are runs of rows of one replica (with group_size None all of them), and no row crosses the axis. Without a mapped
        axis the two are one.
      split: whether `group_loss` is given the rows of this replica alone where the split batch is one group, and not all of them.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: numbers of rows or frames differ, the group size is below `min_rows`, or `gather` is unknown.
    """
    if gather not in GATHERS:
        raise unknown_name("gather", gather, GATHERS)
    features, embedding = to_compute_dtype(features), to_compute_dtype(embedding)
    features = features[:, None] if features.ndim == 2 else features
    embedding = embedding[:, None] if embedding.ndim == 2 else embedding
    if features.shape[:2] != embedding.shape[:2]:
        raise ConfigError(
            f"features have {features.shape[0]} rows x {features.shape[1]} frames, the embedding has {embedding.shape[0]} x {embedding.shape[1]}: "
            "both must agree; align the time axes first (align_time)."
        )
    if group_size is not None and group_size < min_rows:
        raise ConfigError(f"group_size is {group_size}: this distance needs at least {min_rows} rows a group.")
    mask = row_mask(where, features)
    rows = (jnp.where(mask, features, 0), jnp.where(mask, embedding, 0), mask[:, 0, 0].astype(features.dtype))
    own = len(features)

    def sum_over_groups(rows: tuple[jax.Array, jax.Array, jax.Array], size: int | None) -> tuple[jax.Array, jax.Array]:
        return _sum_over_groups(lambda x, y, weights: group_loss(x, y, weights, None), rows, min_rows, size)

    if axis_name is None or gather == "local" or (group_size is not None and own % group_size == 0):
        total, count = summed(sum_over_groups(rows, group_size), axis_name)
    elif split and (group_size is None or group_size >= own * jax.lax.axis_size(axis_name)):
        loss = jnp.mean(_over_frames(lambda x, y, weights: group_loss(x, y, weights, axis_name))(*rows))
        return jnp.where(summed(jnp.sum(rows[2]), axis_name) >= min_rows, loss, 0)
    elif group_size is not None and group_size % own == 0:
        total, count = sum_over_groups(_own_group(rows, group_size, axis_name), None)
        share = jnp.sum(rows[2]) / jnp.maximum(count, 1)
        total, count = summed((total * share, count * share), axis_name)
    else:
        total, count = sum_over_groups(all_rows(rows, axis_name), group_size)
    return total / jnp.maximum(count, 1)


def _own_group(rows: Any, size: int, axis_name: str) -> Any:
    """All rows of the group of `size` to which the rows of this replica belong; those beyond the end of the batch count for nothing."""
    own = len(jax.tree.leaves(rows)[0])
    everyone = all_rows(rows, axis_name)
    beyond = -own * jax.lax.axis_size(axis_name) % size
    first = first_row(own, axis_name) // size * size
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(jnp.pad(x, [(0, beyond)] + [(0, 0)] * (x.ndim - 1)), first, size), everyone)


def _over_frames(group_loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """The losses of rows [m, T, ...], by frame. Frames are moved to the front once; all that is summed over the rows would else step over them."""
    by_frame = jax.vmap(group_loss, in_axes=(0, 0, None))
    return lambda x, y, weights: by_frame(jnp.swapaxes(x, 0, 1), jnp.swapaxes(y, 0, 1), weights)


def _sum_over_groups(
    group_loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array], rows: tuple[jax.Array, jax.Array, jax.Array], min_rows: int, group_size: int | None
) -> tuple[jax.Array, jax.Array]:
    """Sum over groups of their loss times their rows, and of their rows. A single one is not made a batch of one, whose tiles would take half more memory."""
    x, y, weights = rows
    total = len(x)
    size = total if group_size is None else min(group_size, total)
    groups = -(-total // size)

    def split(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, [(0, groups * size - total)] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape((groups, size, *x.shape[1:]))

    if groups == x.shape[1] == 1:
        losses, weights = group_loss(x[:, 0], y[:, 0], weights)[None], weights[None]
    else:
        x, y, weights = map(split, rows)
        losses = jnp.mean(jax.vmap(_over_frames(group_loss))(x, y, weights), axis=1)
    counts = jnp.sum(weights, axis=1)
    counts = jnp.where(counts >= min_rows, counts, 0)
    return jnp.sum(jnp.where(counts > 0, losses, 0) * counts), jnp.sum(counts)
