"""Losses that compare the geometry of a batch on both sides; the widths of student and teacher may differ."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxkd.errors import ConfigError
from jaxkd.losses.centring import centre, fewest_rows, pairs
from jaxkd.losses.deviations import deviations, scaled
from jaxkd.losses.features import unit_rows
from jaxkd.losses.groups import mean_over_groups
from jaxkd.losses.reduce import row_mask, to_compute_dtype
from jaxkd.types import Array

EAST_EPS = (1e-12, 1e-9)
"""The absolute constants of EAsT (arXiv 2306.17424): added to squared distances, and to the product of the distance variances."""

_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class _Side(NamedTuple):
    """One side of a distance correlation: centred and scaled points, their distances, and the centred distance matrix."""

    points: jax.Array
    scale: jax.Array
    apart: jax.Array
    distances: jax.Array
    centred: jax.Array
    variance: jax.Array
    varies: jax.Array


def _side(x: jax.Array, weights: jax.Array, bias_corrected: bool, eps: tuple[float, float] | None) -> _Side:
    count = jnp.maximum(jnp.sum(weights), 1)
    points = (x - jnp.sum(x * weights[:, None], axis=0) / count) * weights[:, None]
    scale = jnp.ones((), x.dtype)
    if eps is None:
        largest = jnp.max(jnp.abs(points), initial=0)
        scale = jnp.where(largest > 0, largest, 1)
        points = points / scale
    gram = _matmul(points, points.T)
    squared_norms = jnp.diagonal(gram)
    norm_sums = squared_norms[:, None] + squared_norms[None, :]
    squared = norm_sums - 2 * gram
    # Below a few units of rounding of the norms the two rows are equal as far as this precision can tell.
    rounding = jnp.finfo(x.dtype).eps
    apart = squared > 4 * rounding * norm_sums
    squared = jnp.where(apart, squared, 0)
    distances = jnp.sqrt(squared + (0 if eps is None else eps[0]))
    # A shift of all distances by their root mean square cancels in the centring. In many dimensions distances concentrate, and without
    # it the rounding errors of the row means are coherent and are amplified by the sums over n.
    shift = jnp.sqrt(2 * jnp.sum(squared_norms) / count)
    centred = centre(distances - shift, weights, bias_corrected)
    variance = jnp.sum(centred * centred) / pairs(count, bias_corrected)
    varies = variance > (16 * rounding * shift) ** 2
    return _Side(points, scale, apart, distances, centred, variance, varies)


def _quotient(
    x: jax.Array, y: jax.Array, weights: jax.Array, bias_corrected: bool, eps: tuple[float, float] | None
) -> tuple[_Side, _Side, jax.Array, jax.Array, jax.Array]:
    a, b = _side(x, weights, bias_corrected, eps), _side(y, weights, bias_corrected, eps)
    count = jnp.sum(weights)
    covariance = jnp.sum(a.centred * b.centred) / pairs(count, bias_corrected)
    defined = count >= fewest_rows(bias_corrected)
    if eps is None:
        defined &= a.varies & b.varies
        square = a.variance * b.variance
    else:
        square = a.variance * b.variance + eps[1]
    denominator = jnp.sqrt(jnp.where(defined, square, 1))
    return a, b, jnp.where(defined, covariance / denominator, 0), denominator, defined


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _correlation(x: jax.Array, y: jax.Array, weights: jax.Array, bias_corrected: bool, eps: tuple[float, float] | None) -> jax.Array:
    return _quotient(x, y, weights, bias_corrected, eps)[2]


def _correlation_forward(x, y, weights, bias_corrected, eps):
    a, b, value, denominator, defined = _quotient(x, y, weights, bias_corrected, eps)
    return value, (a, b, weights, value, denominator, defined)


def _points_gradient(side: _Side, other: _Side, value, denominator, factor) -> jax.Array:
    to_distances = factor * (other.centred / denominator - value * other.variance / denominator**2 * side.centred)
    kernel = jnp.where(side.apart, to_distances / jnp.where(side.apart, side.distances, 1), 0)
    return 2 * (jnp.sum(kernel, axis=1)[:, None] * side.points - _matmul(kernel, side.points)) / side.scale


def _correlation_backward(bias_corrected, eps, residuals, cotangent):
    a, b, weights, value, denominator, defined = residuals
    factor = jnp.where(defined, cotangent, 0) / pairs(jnp.sum(weights), bias_corrected)
    return _points_gradient(a, b, value, denominator, factor), _points_gradient(b, a, value, denominator, factor), jnp.zeros_like(weights)


_correlation.defvjp(_correlation_forward, _correlation_backward)


@functools.partial(jax.jit, static_argnames=("bias_corrected", "eps"))
def distance_correlation_sqr(
    x: Array, y: Array, *, bias_corrected: bool = False, where: Array | None = None, eps: tuple[float, float] | None = None
) -> jax.Array:
    """Squared sample distance correlation R^2 (Szekely et al. 2007); with `bias_corrected` its U-centred form (Szekely and Rizzo 2014).

    The plain statistic is near 1 for independent data when the width is large against the number of rows, so its value compares
    only between equal numbers of rows and equal widths; the corrected one is about 0 there and may be negative.
    Both are unaffected by translation, rotation and, without `eps`, by the scale of either side.

    Distances come from the Gram matrix of centred rows, in float32 for half-precision inputs. Only reverse-mode gradients are defined;
    under jit the gradient of a side that nobody asks for costs nothing. Equal rows add no gradient, and where R^2 is not defined (a side
    that is constant, fewer than 2 rows, or fewer than 4 for the corrected form) value and gradient are 0: a collapsed student gets no
    gradient from here.

    Args:
      x: [n, p].
      y: [n, q].
      bias_corrected: the U-centred statistic in place of the V-statistic.
      where: True for the rows that count, bool [n]; may be traced.
      eps: None for guards that do not depend on scale; (root, quotient) adds absolute constants, EAST_EPS for those of EAsT.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: the numbers of rows differ.
    """
    x, y = to_compute_dtype(x), to_compute_dtype(y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0]:
        raise ConfigError(f"distance correlation takes x [n, p] and y [n, q] with equal n; got {x.shape} and {y.shape}.")
    dtype = jnp.promote_types(x.dtype, y.dtype)
    mask = row_mask(where, x)
    x, y = jnp.where(mask, x, 0).astype(dtype), jnp.where(mask, y, 0).astype(dtype)
    return _correlation(x, y, mask[:, 0].astype(dtype), bias_corrected, eps)


@functools.partial(jax.jit, static_argnames=("bias_corrected", "group_size", "axis_name", "eps"))
def distance_correlation_loss(
    features: Array,
    embedding: Array,
    *,
    bias_corrected: bool = False,
    group_size: int | None = None,
    axis_name: str | None = None,
    where: Array | None = None,
    eps: tuple[float, float] | None = None,
) -> jax.Array:
    """1 - R^2 across the batch, per frame, averaged over frames (EAsT, arXiv 2306.17424). See `distance_correlation_sqr`.

    Args:
      features: student's features, [B, T, p] or [B, p].
      embedding: teacher's embedding, [B, T, q] or [B, q].
      bias_corrected: the U-centred statistic in place of the V-statistic.
      group_size: rows within which the statistic is computed, in order of the global batch (the plain statistic depends on it: EAsT
        used 16); None = the whole global batch. A remainder is a group of its own if it has at least 2 rows (4 for the corrected
        statistic), and groups are weighted by their rows.
      axis_name: mapped axis over which the batch is split; rows are gathered over it, so that the loss is that of the global batch.
      where: True for the rows that count, bool [B]; may be traced.
      eps: None for scale-free guards; EAST_EPS for the constants of EAsT.

    Returns:
      A scalar, float32 (float64 for float64 inputs); 0 with zero gradient when no group has rows enough.

    Raises:
      ConfigError: numbers of rows or frames differ, or the group size is too small.
    """

    def group_loss(x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.subtract(1, _correlation(x, y, weights, bias_corrected, eps))

    min_rows = fewest_rows(bias_corrected)
    return mean_over_groups(group_loss, features, embedding, min_rows=min_rows, group_size=group_size, where=where, axis_name=axis_name)


@functools.partial(jax.jit, static_argnames=("bias_corrected", "group_size", "axis_name", "eps"))
def cosine_distance_correlation_loss(
    features: Array,
    embedding: Array,
    *,
    bias_corrected: bool = False,
    group_size: int | None = None,
    axis_name: str | None = None,
    where: Array | None = None,
    eps: tuple[float, float] | None = None,
) -> jax.Array:
    """1 - R^2 with raw Gram matrices in place of the distances, per frame, averaged over frames (EAsT, arXiv 2306.17424).

    Centred, the Gram matrix z z^T is that of the centred rows: the plain statistic is linear centred kernel alignment (see `cka`).

    Args:
      features: student's features, [B, T, p] or [B, p].
      embedding: teacher's embedding, [B, T, q] or [B, q].
      bias_corrected: U-centring, which leaves the diagonal out, in place of double centring.
      group_size: rows a group, as in `distance_correlation_loss`.
      axis_name: mapped axis over which the batch is split; rows are gathered over it.
      where: True for the rows that count, bool [B]; may be traced.
      eps: None for scale-free guards; EAST_EPS for the constants of EAsT, of which the second applies.

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by translation, rotation and, without `eps`, by the scale of either side.

    Raises:
      ConfigError: numbers of rows or frames differ, or the group size is too small.
    """
    min_rows = fewest_rows(bias_corrected)

    def group_loss(x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
        def centred(side: jax.Array) -> jax.Array:
            points = deviations(side.T, weights > 0).T
            points = scaled(points) if eps is None else points
            return centre(_matmul(points, points.T), weights, bias_corrected)

        a, b = centred(x), centred(y)
        covariance, *variances = (jnp.sum(u * v) / pairs(jnp.sum(weights), bias_corrected) for u, v in ((a, b), (a, a), (b, b)))
        square = variances[0] * variances[1] + (0 if eps is None else eps[1])
        defined = (jnp.sum(weights) >= min_rows) & (square > 0)
        return 1 - jnp.where(defined, covariance * jax.lax.rsqrt(jnp.where(defined, square, 1)), 0)

    return mean_over_groups(group_loss, features, embedding, min_rows=min_rows, group_size=group_size, where=where, axis_name=axis_name)


@functools.partial(jax.jit, static_argnames=("kind", "group_size", "axis_name"))
def cosine_distance_difference(
    features: Array,
    embedding: Array,
    *,
    kind: str = "l1",
    group_size: int | None = None,
    axis_name: str | None = None,
    where: Array | None = None,
) -> jax.Array:
    """Mean difference between the two cosine-similarity matrices of a batch, per frame, averaged over frames (EAsT, arXiv 2306.17424).

    The mean runs over all pairs of rows, the diagonal (always 0) included. A zero vector has similarity 0 with everything.

    Args:
      features: student's features, [B, T, p] or [B, p].
      embedding: teacher's embedding, [B, T, q] or [B, q].
      kind: "l1" = absolute difference, "mse" = squared difference.
      group_size: rows a group, as in `distance_correlation_loss`; a remainder needs at least 2 rows.
      axis_name: mapped axis over which the batch is split; rows are gathered over it.
      where: True for the rows that count, bool [B]; may be traced.

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by rotation of a side and by the scale of each vector.

    Raises:
      ConfigError: `kind` is unknown, numbers of rows or frames differ, or the group size is too small.
    """
    if kind not in ("l1", "mse"):
        raise ConfigError(f"cosine_distance_difference has no kind {kind!r}. Valid: 'l1', 'mse'.")

    def group_loss(x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
        x, y = unit_rows(x), unit_rows(y)
        difference = (_matmul(x, x.T) - _matmul(y, y.T)) * weights[:, None] * weights[None, :]
        difference = jnp.abs(difference) if kind == "l1" else jnp.square(difference)
        return jnp.sum(difference) / jnp.maximum(jnp.sum(weights), 1) ** 2

    return mean_over_groups(group_loss, features, embedding, min_rows=2, group_size=group_size, where=where, axis_name=axis_name)
