"""Distance groups: the global batch cut into runs of rows within which a batch-coupled loss is computed."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxkd.errors import ConfigError
from jaxkd.losses.reduce import row_mask, to_compute_dtype
from jaxkd.types import Array


def mean_over_groups(
    group_loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    features: Array,
    embedding: Array,
    *,
    min_rows: int,
    group_size: int | None,
    where: Array | None,
    axis_name: str | None,
) -> jax.Array:
    """Applies a loss per group and frame: mean over frames, groups weighted by their rows.

    Groups are consecutive rows of the global batch; rows with `where` False are left out of their group, and a group with fewer than
    `min_rows` rows left is left out. With no group left the result is 0 with zero gradient.

    Args:
      group_loss: (x [n, p], y [n, q], weights [n] of 0 and 1) -> scalar.
      features: [B, T, p] or [B, p].
      embedding: [B, T, q] or [B, q], the same B and T.
      min_rows: fewest rows for which the loss is defined.
      group_size: rows a group; None = the whole global batch is one group.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split; rows are gathered over it in axis order.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: numbers of rows or frames differ, or the group size is below `min_rows`.
    """
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
    if axis_name is not None:
        rows = jax.lax.all_gather(rows, axis_name, tiled=True)
    total = rows[0].shape[0]
    size = total if group_size is None else min(group_size, total)
    groups = -(-total // size)

    def split(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, [(0, groups * size - total)] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape((groups, size, *x.shape[1:]))

    x, y, weights = map(split, rows)
    over_frames = jax.vmap(group_loss, in_axes=(1, 1, None))
    losses = jnp.mean(jax.vmap(over_frames)(x, y, weights), axis=1)
    counts = jnp.sum(weights, axis=1)
    counts = jnp.where(counts >= min_rows, counts, 0)
    return jnp.sum(jnp.where(counts > 0, losses, 0) * counts) / jnp.maximum(jnp.sum(counts), 1)
