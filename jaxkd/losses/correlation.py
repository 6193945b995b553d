"""Squared distance correlation. Where the batch is split over a mapped axis each replica has its own rows of every matrix of pairs, [m, n] of [n, n]."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxkd.losses.centring import fewest_rows, pair_weights, pairs
from jaxkd.losses.distances import centred_points, gram, matmul, rms_shift, shifted_distances
from jaxkd.losses.moments import Moments, centred_sums, kernel, moments
from jaxkd.losses.reduce import all_rows, first_row
from jaxkd.losses.tiles import Form, tiled_sums

MOST_PAIRS = 4096**2
"""Entries that a device has of a matrix of pairs up to which they are held as a whole; more are computed in tiles, twice, in memory that is linear in n."""
BLOCK = 1024
"""Most rows and columns of a tile."""


class _Side(NamedTuple):
    """One side: own points [m, p] and those of all rows [n, p], centred and scaled; shifted distances between them [m, n], and their moments."""

    points: jax.Array
    all_points: jax.Array
    scale: jax.Array
    shifted: jax.Array
    moments: Moments


def _side(x: jax.Array, weights: jax.Array, all_weights: jax.Array, bias_corrected: bool, eps: tuple[float, float] | None, axis_name: str | None) -> _Side:
    own, first = len(x), first_row(len(x), axis_name)
    points, scale = centred_points(all_rows(x, axis_name), all_weights, eps)
    own_points = jax.lax.dynamic_slice_in_dim(points, first, own)
    products = gram(points) if axis_name is None else matmul(own_points, points.T)
    # Norms from the same products as the rest, so that equal rows are 0 apart but for rounding.
    norms = jnp.diagonal(jax.lax.dynamic_slice_in_dim(products, first, own, axis=1))
    all_norms, count = all_rows(norms, axis_name), jnp.maximum(jnp.sum(all_weights), 1)
    shift = rms_shift(all_norms, count, eps)
    shifted = shifted_distances(products, norms, all_norms, shift, pair_weights(weights, all_weights, bias_corrected, first), eps)
    of_side = moments(jnp.sum(shifted, axis=1), shift, count, bias_corrected, axis_name)
    return _Side(own_points, points, scale, shifted, of_side)


def _forward(x, y, weights, bias_corrected, eps, axis_name) -> tuple[jax.Array, tuple[tuple[_Side, _Side], jax.Array, jax.Array]]:
    all_weights = all_rows(weights, axis_name)
    a, b = (_side(side, weights, all_weights, bias_corrected, eps, axis_name) for side in (x, y))
    products = [jnp.sum(u.shifted * v.shifted) for u, v in ((a, b), (a, a), (b, b))]
    return centred_sums(products, a.moments, b.moments), ((a, b), weights, all_weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _sums(x: jax.Array, y: jax.Array, weights: jax.Array, bias_corrected: bool, eps: tuple[float, float] | None, axis_name: str | None) -> jax.Array:
    """Sums over this replica's rows of the matrices of centred distances: a * b, a * a, b * b, in the units of `Shift`.

    The gradient is that of the sums over all replicas, to which the caller must add them up: the cotangents of all replicas are then equal.
    """
    return _forward(x, y, weights, bias_corrected, eps, axis_name)[0]


def _backward(bias_corrected, eps, axis_name, kept, cotangents):
    sides, weights, all_weights = kept
    counted = pair_weights(weights, all_weights, bias_corrected, first_row(len(weights), axis_name))
    gradients, centred = [], [side.moments.means.off(side.shifted) for side in sides]
    for side, own, other, to_square in zip(sides, centred, centred[::-1], cotangents[1:], strict=True):
        between = kernel(side.shifted, side.moments.shift, counted, eps, own, other, cotangents[0] / side.scale, to_square / side.scale)
        gradients.append(jnp.sum(between, axis=1)[:, None] * side.points - matmul(between, side.all_points))
    return *gradients, None


_sums.defvjp(_forward, _backward)


def correlation(
    x: jax.Array,
    y: jax.Array,
    weights: jax.Array,
    *,
    bias_corrected: bool,
    eps: tuple[float, float] | None,
    axis_name: str | None = None,
    most_pairs: int = MOST_PAIRS,
    block: int = BLOCK,
) -> jax.Array:
    """R^2 of the rows that count; see `distance_correlation_sqr`.

    Over a mapped axis the points of all rows are gathered once, and all else that crosses it is linear in n: norms and row means of the distances, and
    three sums. Value and gradient are those of the same rows on one device.

    Args:
      x: [m, p], finite, 0 in rows that do not count; the rows of this replica.
      y: [m, q], likewise.
      weights: 1 for the rows that count and 0 for the others, [m].
      bias_corrected: the U-centred statistic.
      eps: None, or absolute constants (root, quotient).
      axis_name: mapped axis over which the rows are split; None where all rows are here.
      most_pairs: entries of a matrix of pairs above which it is computed in tiles.
      block: most rows and columns of a tile.

    Returns:
      A scalar, on all replicas the same; 0 with zero gradient where R^2 is not defined.
    """
    replicas = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    # Under jit XLA gives each of several devices its rows of whole matrices; tiles, one after the other, would be computed by all of them.
    one_by_one = axis_name is not None or jax.device_count() == 1
    if one_by_one and len(x) ** 2 * replicas > most_pairs:
        sums = tiled_sums(x, y, weights, Form(bias_corrected, eps, axis_name, block))
    else:
        sums = _sums(x, y, weights, bias_corrected, eps, axis_name)
    sums, count = jnp.asarray(sums), jnp.sum(weights)
    if axis_name is not None:
        sums, count = jax.lax.psum((sums, count), axis_name)
    covariance, x_variance, y_variance = sums / pairs(count, bias_corrected)
    square = x_variance * y_variance
    defined = count >= fewest_rows(bias_corrected)
    if eps is None:
        defined &= jnp.minimum(x_variance, y_variance) > (16 * jnp.finfo(x.dtype).eps) ** 2
    else:
        square = square + eps[1]
    return jnp.where(defined, covariance / jnp.sqrt(jnp.where(defined, square, 1)), 0)
