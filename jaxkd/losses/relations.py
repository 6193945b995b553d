"""Losses that compare the geometry of a batch on both sides; the widths of student and teacher may differ."""

import functools

import jax
import jax.numpy as jnp

from jaxkd.errors import ConfigError, unknown_name
from jaxkd.losses.centring import centre, fewest_rows, pairs
from jaxkd.losses.correlation import correlation
from jaxkd.losses.deviations import deviations, scaled
from jaxkd.losses.features import unit_rows
from jaxkd.losses.groups import mean_over_groups
from jaxkd.losses.reduce import all_rows, own_rows, row_mask, summed, to_compute_dtype
from jaxkd.types import Array

EAST_EPS = (1e-12, 1e-9)
"""The absolute constants of EAsT (arXiv 2306.17424): added to squared distances, and to the product of the distance variances."""

ROWS = ("gathered", "own")
DIFFERENCES = ("absolute", "squared")

_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


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
    return correlation(x, y, mask[:, 0].astype(dtype), bias_corrected=bias_corrected, eps=eps)


@functools.partial(jax.jit, static_argnames=("bias_corrected", "group_size", "axis_name", "eps", "gather", "rows"))
def distance_correlation_loss(
    features: Array,
    embedding: Array,
    *,
    bias_corrected: bool = False,
    group_size: int | None = None,
    axis_name: str | None = None,
    where: Array | None = None,
    eps: tuple[float, float] | None = None,
    gather: str = "global",
    rows: str = "gathered",
) -> jax.Array:
    """1 - R^2 across the batch, per frame, averaged over frames (EAsT, arXiv 2306.17424). See `distance_correlation_sqr`.

    Args:
      features: student's features, [B, T, p] or [B, p].
      embedding: teacher's embedding, [B, T, q] or [B, q].
      bias_corrected: the U-centred statistic in place of the V-statistic.
      group_size: rows within which the statistic is computed, in order of the global batch (the plain statistic depends on it: EAsT
        used 16); None = the whole global batch. A remainder is a group of its own if it has at least 2 rows (4 for the corrected
        statistic), and groups are weighted by their rows.
      axis_name: mapped axis over which the batch is split; the loss is that of the global batch.
      where: True for the rows that count, bool [B]; may be traced.
      eps: None for scale-free guards; EAST_EPS for the constants of EAsT.
      gather: "global", or "local": groups are runs of rows of one device (with group_size None all that it has), and no row crosses the axis. That is
        another objective, whose value depends on the number of devices unless group_size divides the rows of each; without `axis_name` the batch is
        that of one device.
      rows: what each device computes of the global loss where the batch is split and is one group: "gathered", all rows of the [n, n] matrices of
        pairs, or "own", its own, n / devices: the same loss and gradient for less time and memory, for batches so large that the matrices count.
        Of smaller groups it computes those that its rows belong to, or all.

    Returns:
      A scalar, float32 (float64 for float64 inputs); 0 with zero gradient when no group has rows enough.

    Raises:
      ConfigError: numbers of rows or frames differ, the group size is too small, or `gather` or `rows` is unknown, or both are not the default.
    """
    if rows not in ROWS:
        raise unknown_name("rows", rows, ROWS)
    if rows == "own" and gather == "local":
        raise ConfigError("rows is 'own', a way to compute the global loss, but gather is 'local': leave one of them at its default.")

    def loss(x: jax.Array, y: jax.Array, weights: jax.Array, axis_name: str | None) -> jax.Array:
        return 1 - correlation(x, y, weights, bias_corrected=bias_corrected, eps=eps, axis_name=axis_name)

    return mean_over_groups(
        loss,
        features,
        embedding,
        min_rows=fewest_rows(bias_corrected),
        group_size=group_size,
        where=where,
        axis_name=axis_name,
        gather=gather,
        split=rows == "own",
    )


@functools.partial(jax.jit, static_argnames=("bias_corrected", "group_size", "axis_name", "eps", "gather"))
def cosine_distance_correlation_loss(
    features: Array,
    embedding: Array,
    *,
    bias_corrected: bool = False,
    group_size: int | None = None,
    axis_name: str | None = None,
    where: Array | None = None,
    eps: tuple[float, float] | None = None,
    gather: str = "global",
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
      gather: "global", or "local" for groups within the rows of each device, another objective (see `distance_correlation_loss`).

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by translation, rotation and, without `eps`, by the scale of either side.

    Raises:
      ConfigError: numbers of rows or frames differ, or the group size is too small.
    """
    min_rows = fewest_rows(bias_corrected)

    def group_loss(x: jax.Array, y: jax.Array, weights: jax.Array, axis_name: str | None) -> jax.Array:
        all_weights = all_rows(weights, axis_name)

        def centred(side: jax.Array) -> jax.Array:
            points = deviations(all_rows(side, axis_name).T, all_weights > 0).T
            points = scaled(points) if eps is None else points
            products = _matmul(own_rows(points, len(weights), axis_name), points.T)
            return centre(products, weights, all_weights, bias_corrected, axis_name)

        a, b = centred(x), centred(y)
        sums = summed([jnp.sum(u * v) for u, v in ((a, b), (a, a), (b, b))], axis_name)
        covariance, *variances = (total / pairs(jnp.sum(all_weights), bias_corrected) for total in sums)
        square = variances[0] * variances[1] + (0 if eps is None else eps[1])
        defined = (jnp.sum(all_weights) >= min_rows) & (square > 0)
        return 1 - jnp.where(defined, covariance * jax.lax.rsqrt(jnp.where(defined, square, 1)), 0)

    return mean_over_groups(group_loss, features, embedding, min_rows=min_rows, group_size=group_size, where=where, axis_name=axis_name, gather=gather)


@functools.partial(jax.jit, static_argnames=("difference", "group_size", "axis_name", "gather"))
def cosine_distance_difference(
    features: Array,
    embedding: Array,
    *,
    difference: str = "absolute",
    group_size: int | None = None,
    axis_name: str | None = None,
    where: Array | None = None,
    gather: str = "global",
) -> jax.Array:
    """Mean difference between the two cosine-similarity matrices of a batch, per frame, averaged over frames (EAsT, arXiv 2306.17424).

    The mean runs over all pairs of rows, the diagonal (always 0) included. A zero vector has similarity 0 with everything.

    Args:
      features: student's features, [B, T, p] or [B, p].
      embedding: teacher's embedding, [B, T, q] or [B, q].
      difference: "absolute" as in the authors' code, or "squared" as on their poster.
      group_size: rows a group, as in `distance_correlation_loss`; a remainder needs at least 2 rows.
      axis_name: mapped axis over which the batch is split; rows are gathered over it.
      where: True for the rows that count, bool [B]; may be traced.
      gather: "global", or "local" for groups within the rows of each device, another objective (see `distance_correlation_loss`).

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by rotation of a side and by the scale of each vector.

    Raises:
      ConfigError: `difference` is unknown, numbers of rows or frames differ, or the group size is too small.
    """
    if difference not in DIFFERENCES:
        raise unknown_name("difference", difference, DIFFERENCES)

    def group_loss(x: jax.Array, y: jax.Array, weights: jax.Array, axis_name: str | None) -> jax.Array:
        x, y = unit_rows(x), unit_rows(y)
        all_x, all_y, all_weights = all_rows((x, y, weights), axis_name)
        apart = (_matmul(x, all_x.T) - _matmul(y, all_y.T)) * weights[:, None] * all_weights[None, :]
        apart = jnp.abs(apart) if difference == "absolute" else jnp.square(apart)
        return summed(jnp.sum(apart), axis_name) / jnp.maximum(jnp.sum(all_weights), 1) ** 2

    return mean_over_groups(group_loss, features, embedding, min_rows=2, group_size=group_size, where=where, axis_name=axis_name, gather=gather)
