"""Squared distance correlation. Where the batch is split over a mapped axis each replica has its own rows of every matrix of pairs, [m, n] of [n, n]."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxkd.losses.centring import centre, fewest_rows, pairs
from jaxkd.losses.reduce import all_rows, first_row

_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class _Side(NamedTuple):
    """One side: own points [m, p] and those of all rows [n, p], centred and scaled; distances between them and the centred distances, [m, n]."""

    points: jax.Array
    all_points: jax.Array
    scale: jax.Array
    norms: jax.Array
    apart: jax.Array
    distances: jax.Array
    centred: jax.Array


def _side(x: jax.Array, weights: jax.Array, all_weights: jax.Array, bias_corrected: bool, eps: tuple[float, float] | None, axis_name: str | None) -> _Side:
    own, first = len(x), first_row(len(x), axis_name)
    count = jnp.maximum(jnp.sum(all_weights), 1)
    x = all_rows(x, axis_name)
    points = (x - jnp.sum(x * all_weights[:, None], axis=0) / count) * all_weights[:, None]
    scale = jnp.ones((), x.dtype)
    if eps is None:
        largest = jnp.max(jnp.abs(points), initial=0)
        scale = jnp.where(largest > 0, largest, 1)
        points = points / scale
    own_points = jax.lax.dynamic_slice_in_dim(points, first, own)
    gram = _matmul(own_points, points.T)
    # Norms from the same products as the rest, so that equal rows are exactly 0 apart.
    norms = jnp.diagonal(jax.lax.dynamic_slice_in_dim(gram, first, own, axis=1))
    all_norms = all_rows(norms, axis_name)
    norm_sums = norms[:, None] + all_norms[None, :]
    squared = norm_sums - 2 * gram
    # Below a few units of rounding of the norms the two rows are equal as far as this precision can tell.
    apart = squared > 4 * jnp.finfo(x.dtype).eps * norm_sums
    squared = jnp.where(apart, squared, 0)
    distances = jnp.sqrt(squared + (0 if eps is None else eps[0]))
    # A shift of all distances by their root mean square cancels in the centring. In many dimensions distances concentrate, and without
    # it the rounding errors of the row means are coherent and are amplified by the sums over n.
    shift = jnp.sqrt(2 * jnp.sum(all_norms) / count)
    centred = centre(distances - shift, weights, all_weights, bias_corrected, axis_name)
    return _Side(own_points, points, scale, norms, apart, distances, centred)


def _sides(x, y, weights, bias_corrected, eps, axis_name) -> tuple[jax.Array, _Side, _Side]:
    all_weights = all_rows(weights, axis_name)
    a, b = (_side(side, weights, all_weights, bias_corrected, eps, axis_name) for side in (x, y))
    products = [jnp.sum(u.centred * v.centred) for u, v in ((a, b), (a, a), (b, b))]
    return jnp.stack([*products, jnp.sum(a.norms), jnp.sum(b.norms)]), a, b


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _sums(x: jax.Array, y: jax.Array, weights: jax.Array, bias_corrected: bool, eps: tuple[float, float] | None, axis_name: str | None) -> jax.Array:
    """Sums over this replica's rows of the matrices of centred distances: a * b, a * a, b * b; and of the squared norms of the points of both sides.

    The gradient is that of the sums over all replicas, to which the caller must add them up: the cotangents of all replicas are then equal. The
    norms have none.
    """
    return _sides(x, y, weights, bias_corrected, eps, axis_name)[0]


def _sums_forward(x, y, weights, bias_corrected, eps, axis_name):
    sums, a, b = _sides(x, y, weights, bias_corrected, eps, axis_name)
    return sums, (a, b)


def _points_gradient(side: _Side, other: _Side, to_product: jax.Array, to_square: jax.Array) -> jax.Array:
    to_distances = to_product * other.centred + 2 * to_square * side.centred
    kernel = jnp.where(side.apart, to_distances / jnp.where(side.apart, side.distances, 1), 0)
    return 2 * (jnp.sum(kernel, axis=1)[:, None] * side.points - _matmul(kernel, side.all_points)) / side.scale


def _sums_backward(bias_corrected, eps, axis_name, residuals, cotangents):
    a, b = residuals
    return _points_gradient(a, b, cotangents[0], cotangents[1]), _points_gradient(b, a, cotangents[0], cotangents[2]), None


_sums.defvjp(_sums_forward, _sums_backward)


def correlation(
    x: jax.Array, y: jax.Array, weights: jax.Array, *, bias_corrected: bool, eps: tuple[float, float] | None, axis_name: str | None = None
) -> jax.Array:
    """R^2 of the rows that count; see `distance_correlation_sqr`.

    Over a mapped axis the points of all rows are gathered once, and all else that crosses it is linear in n: norms and row means of the distances, and
    five sums. Value and gradient are those of the same rows on one device.

    Args:
      x: [m, p], finite, 0 in rows that do not count; the rows of this replica.
      y: [m, q], likewise.
      weights: 1 for the rows that count and 0 for the others, [m].
      bias_corrected: the U-centred statistic.
      eps: None, or absolute constants (root, quotient).
      axis_name: mapped axis over which the rows are split; None where all rows are here.

    Returns:
      A scalar, on all replicas the same; 0 with zero gradient where R^2 is not defined.
    """
    sums, count = jnp.asarray(_sums(x, y, weights, bias_corrected, eps, axis_name)), jnp.sum(weights)
    if axis_name is not None:
        sums, count = jax.lax.psum((sums, count), axis_name)
    covariance, x_variance, y_variance = sums[:3] / pairs(count, bias_corrected)
    square = x_variance * y_variance
    defined = count >= fewest_rows(bias_corrected)
    if eps is None:
        mean_squares = 2 * sums[3:] / jnp.maximum(count, 1)
        defined &= jnp.all(sums[1:3] / pairs(count, bias_corrected) > (16 * jnp.finfo(x.dtype).eps) ** 2 * mean_squares)
    else:
        square = square + eps[1]
    return jnp.where(defined, covariance / jnp.sqrt(jnp.where(defined, square, 1)), 0)
