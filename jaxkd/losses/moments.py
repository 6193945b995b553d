"""Sums of products of centred distances, and their gradient, from shifted distances: the matrices of centred ones are never stored."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxkd.losses.centring import Means, means
from jaxkd.losses.distances import Shift
from jaxkd.losses.reduce import all_rows


class Moments(NamedTuple):
    """What is known of one side's shifted distances as a whole: the shift, sums of own rows [m], and the means that the centring takes off."""

    shift: Shift
    row_sums: jax.Array
    means: Means


def moments(row_sums: jax.Array, shift: Shift, count: jax.Array, bias_corrected: bool, axis_name: str | None) -> Moments:
    """The moments of a side from the sums of its shifted distances over the pairs of own rows [m] that are centred."""
    return Moments(shift, row_sums, means(row_sums, all_rows(row_sums, axis_name), count, bias_corrected))


def centred_sums(products: Sequence[jax.Array], a: Moments, b: Moments) -> jax.Array:
    """Sums over own rows of the centred a * b, a * a, b * b from `products`, those of the shifted distances; float [3].

    A side whose distances are 0 but for rounding, so that they are nothing but the shift, counts as 0.
    """
    rounding = jnp.finfo(a.row_sums.dtype).eps ** 0.5
    apart = [side.means.grand * side.shift.unit > (rounding - 1) * side.shift.distance for side in (a, b)]
    pairs = ((a, b), (a, a), (b, b))
    centred = [product + jnp.sum((u.means.grand - 2 * u.means.rows) * v.row_sums) for product, (u, v) in zip(products, pairs, strict=True)]
    return jnp.where(jnp.stack([apart[0] & apart[1], *apart]), jnp.stack(centred), 0)


def kernel(
    shifted: jax.Array,
    shift: Shift,
    pair_weights: jax.Array,
    eps: tuple[float, float] | None,
    centred: jax.Array,
    other: jax.Array,
    to_product: jax.Array,
    to_square: jax.Array,
) -> jax.Array:
    """What the differences of pairs of points are multiplied by in the gradient, [m, n]; 0 where two rows are equal or are not centred.

    Two rows are equal where their distance is but what rounding leaves of the shift.

    Args:
      shifted: distances without the shift, in its unit.
      shift: of this side.
      pair_weights: 1 for the pairs that are centred and 0 for the others, [m, n].
      eps: None, or absolute constants, of which the first was added to squared distances.
      centred: the centred distances of this side.
      other: those of the other side.
      to_product: cotangent of the sum of a * b, by the scale of this side's points.
      to_square: that of this side's a * a or b * b, likewise.
    """
    distances = shifted * shift.unit + shift.distance
    least = (0 if eps is None else eps[0] ** 0.5) + 4 * jnp.finfo(shifted.dtype).eps * shift.distance
    apart = (pair_weights > 0) & (distances > least)
    return jnp.where(apart, (2 * to_product / shift.unit * other + 4 * to_square / shift.unit * centred) / jnp.where(apart, distances, 1), 0)
