"""Matrices of pairs of rows without row and column means: what the distance correlations are made of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxkd.losses.reduce import all_rows, first_row


class Means(NamedTuple):
    """What centring takes off a matrix of pairs: the means of the rows here [m], of all columns [n], and that of the matrix, which is added again."""

    rows: jax.Array
    columns: jax.Array
    grand: jax.Array

    def off(self, values: jax.Array) -> jax.Array:
        """The matrix [m, n] without its means."""
        return values - self.rows[:, None] - self.columns[None, :] + self.grand


def fewest_rows(bias_corrected: bool) -> int:
    """Rows from which the statistic is defined."""
    return 4 if bias_corrected else 2


def pairs(count: jax.Array, bias_corrected: bool) -> jax.Array:
    """What a sum of products of centred matrices of `count` rows is divided by."""
    return jnp.maximum(count * (count - 3), 1) if bias_corrected else jnp.maximum(count * count, 1)


def pair_weights(weights: jax.Array, other_weights: jax.Array, bias_corrected: bool, first: jax.Array | int) -> jax.Array:
    """1 for the pairs of rows that are centred and 0 for the others, [m, n]: those of rows that count, in U-centring without the diagonal.

    Args:
      weights: 1 for the rows that count and 0 for the others, [m].
      other_weights: likewise, [n].
      bias_corrected: U-centring.
      first: where the first of the m rows stands among the n.
    """
    both = weights[:, None] * other_weights[None, :]
    return both * (first + jnp.arange(len(weights))[:, None] != jnp.arange(len(other_weights))) if bias_corrected else both


def means(row_sums: jax.Array, column_sums: jax.Array, count: jax.Array, bias_corrected: bool) -> Means:
    """The means that centring takes off a matrix of pairs.

    Args:
      row_sums: sums of this replica's rows over all pairs that are centred, [m].
      column_sums: the same of all replicas, [n].
      count: rows that count.
      bias_corrected: those of U-centring.
    """
    total = jnp.sum(column_sums)
    if bias_corrected:
        by_row, grand_mean = jnp.maximum(count - 2, 1), total / jnp.maximum((count - 1) * (count - 2), 1)
    else:
        by_row, grand_mean = count, total / count**2
    return Means(row_sums / by_row, column_sums / by_row, grand_mean)


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
    centred = pair_weights(weights, all_weights, bias_corrected, first_row(len(weights), axis_name))
    values = values * centred
    row_sums = jnp.sum(values, axis=1)
    return means(row_sums, all_rows(row_sums, axis_name), jnp.maximum(jnp.sum(all_weights), 1), bias_corrected).off(values) * centred
