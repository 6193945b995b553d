"""Matrices of pairs of rows without row and column means: what the distance correlations are made of."""

import jax
import jax.numpy as jnp


def fewest_rows(bias_corrected: bool) -> int:
    """Rows from which the statistic is defined."""
    return 4 if bias_corrected else 2


def pairs(count: jax.Array, bias_corrected: bool) -> jax.Array:
    """What a sum of products of centred matrices of `count` rows is divided by."""
    return jnp.maximum(count * (count - 3), 1) if bias_corrected else jnp.maximum(count * count, 1)


def centre(values: jax.Array, weights: jax.Array, bias_corrected: bool) -> jax.Array:
    """Double centring (Szekely et al. 2007), or U-centring, which leaves the diagonal out (Szekely and Rizzo 2014).

    Args:
      values: a symmetric matrix of pairs of rows, [n, n]; finite everywhere.
      weights: 1 for the rows that count and 0 for the others, [n].
      bias_corrected: U-centring.

    Returns:
      [n, n], 0 where a row does not count, and on the diagonal of the U-centred form.
    """
    count = jnp.maximum(jnp.sum(weights), 1)
    pair_weights = weights[:, None] * weights[None, :]
    if bias_corrected:
        pair_weights = pair_weights * (1 - jnp.eye(len(weights), dtype=values.dtype))
    values = values * pair_weights
    row_sums = jnp.sum(values, axis=1)
    total = jnp.sum(row_sums)
    if bias_corrected:
        row_means = row_sums / jnp.maximum(count - 2, 1)
        grand_mean = total / jnp.maximum((count - 1) * (count - 2), 1)
    else:
        row_means = row_sums / count
        grand_mean = total / count**2
    return (values - row_means[:, None] - row_means[None, :] + grand_mean) * pair_weights
