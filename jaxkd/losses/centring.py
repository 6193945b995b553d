"""Matrices of pairs of rows without row and column means: what the distance correlations are made of."""

import jax
import jax.numpy as jnp

from jaxkd.losses.reduce import all_rows, first_row


def fewest_rows(bias_corrected: bool) -> int:
    """Rows from which the statistic is defined."""
    return 4 if bias_corrected else 2


def pairs(count: jax.Array, bias_corrected: bool) -> jax.Array:
    """What a sum of products of centred matrices of `count` rows is divided by."""
    return jnp.maximum(count * (count - 3), 1) if bias_corrected else jnp.maximum(count * count, 1)


def centre(values: jax.Array, weights: jax.Array, all_weights: jax.Array, bias_corrected: bool, axis_name: str | None = None) -> jax.Array:
    """Double centring (Szekely et al. 2007), or U-centring, which leaves the diagonal out (Szekely and Rizzo 2014).

    Args:
      values: a symmetric matrix of pairs of rows, [n, n], or this replica's rows of it, [m, n]; finite everywhere.
      weights: 1 for the rows that count and 0 for the others, [m].
      all_weights: the same of all replicas, [n].
      bias_corrected: U-centring.
      axis_name: mapped axis over which the rows are split, or None.

    Returns:
      [m, n], 0 where a row does not count, and on the diagonal of the U-centred form.
    """
    count = jnp.maximum(jnp.sum(all_weights), 1)
    pair_weights = weights[:, None] * all_weights[None, :]
    if bias_corrected:
        own = first_row(len(weights), axis_name) + jnp.arange(len(weights))
        pair_weights = pair_weights * (own[:, None] != jnp.arange(len(all_weights)))
    values = values * pair_weights
    row_sums = jnp.sum(values, axis=1)
    column_sums = all_rows(row_sums, axis_name)
    total = jnp.sum(column_sums)
    if bias_corrected:
        by_row, grand_mean = jnp.maximum(count - 2, 1), total / jnp.maximum((count - 1) * (count - 2), 1)
    else:
        by_row, grand_mean = count, total / count**2
    return (values - (row_sums / by_row)[:, None] - (column_sums / by_row)[None, :] + grand_mean) * pair_weights
