"""Distances between rows from the products of their coordinates, centred and scaled."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

PANELS, FEWEST_ROWS, LEAST_WIDTH = 8, 1024, 256
"""Panels in which a Gram matrix is computed on CPU, and rows and dimensions from which it is: 9/16 of the products are made. Smaller ones gain nothing."""


def centred_points(x: jax.Array, weights: jax.Array, eps: tuple[float, float] | None) -> tuple[jax.Array, jax.Array]:
    """The rows that count without their mean, and the scale that they were divided by.

    Args:
      x: [n, p], finite, 0 in rows that do not count.
      weights: 1 for the rows that count and 0 for the others, [n].
      eps: None for a scale with which no product overflows or vanishes; with absolute constants it is 1.

    Returns:
      [n, p], 0 in rows that do not count; a scalar.
    """
    largest = jnp.max(jnp.abs(x), initial=0) if eps is None else jnp.ones((), x.dtype)
    scale = jnp.where(largest > 0, largest, 1)
    mean = jnp.sum(x, axis=0) / jnp.maximum(jnp.sum(weights), 1)
    return (x - mean) * weights[:, None] / scale, scale


def gram(points: jax.Array) -> jax.Array:
    """Products of all pairs of rows [n, p] -> [n, n]. On one CPU device those of many rows are computed on and above the diagonal, and mirrored.

    Where several devices have the rows, each computes its own: mirrored parts would have to cross.
    """
    if len(points) < FEWEST_ROWS or points.shape[1] < LEAST_WIDTH or jax.device_count() > 1:
        return _whole(points)
    return jax.lax.platform_dependent(points, cpu=_mirrored, default=_whole)


def _whole(points: jax.Array) -> jax.Array:
    return jax.lax.dot_general(points, points, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)


def _mirrored(points: jax.Array) -> jax.Array:
    rows = len(points)
    products = jnp.zeros((rows, rows), points.dtype)
    for start, end in itertools.pairwise(np.linspace(0, rows, PANELS + 1).astype(int).tolist()):
        panel = matmul(points[start:end], points[start:].T)
        products = jax.lax.dynamic_update_slice(products, panel, (start, start))
        products = jax.lax.dynamic_update_slice(products, panel[:, end - start :].T, (end, start))
    return products


class Shift(NamedTuple):
    """What is taken off distances between rows, and the unit that they are then counted in: it, or 1 with absolute constants."""

    distance: jax.Array
    unit: jax.Array


def rms_shift(norms: jax.Array, count: jax.Array, eps: tuple[float, float] | None) -> Shift:
    """The root mean square of the distances between `count` centred rows, from their squared norms [n].

    A shift of all distances cancels in the centring. In many dimensions distances concentrate, and without it the rounding errors of the row means are
    coherent and are amplified by the sums over n.
    """
    distance = jnp.sqrt(2 * jnp.sum(norms) / count)
    return Shift(distance, jnp.where(distance > 0, distance, 1) if eps is None else jnp.ones_like(distance))


def shifted_distances(
    products: jax.Array, norms: jax.Array, other_norms: jax.Array, shift: Shift, pair_weights: jax.Array, eps: tuple[float, float] | None
) -> jax.Array:
    """Distances of pairs of rows less the shift, in its unit, [m, n]; 0 in pairs that do not count.

    Squared distances below a few units of rounding of the norms count as 0: two rows are equal there as far as this precision can tell.

    Args:
      products: of pairs of rows, [m, n].
      norms: squared norms of the first rows, [m].
      other_norms: of the others, [n].
      shift: of all distances.
      pair_weights: 1 for the pairs that count and 0 for the others, [m, n].
      eps: None, or absolute constants, of which the first is added to squared distances.
    """
    norm_sums = norms[:, None] + other_norms[None, :]
    squared = norm_sums - 2 * products
    squared = jnp.where(squared > 4 * jnp.finfo(products.dtype).eps * norm_sums, squared, 0)
    return (jnp.sqrt(squared + (0 if eps is None else eps[0])) - shift.distance) * pair_weights / shift.unit
