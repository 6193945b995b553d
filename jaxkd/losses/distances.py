"""Distances between rows from the products of their coordinates, centred and scaled."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

PANELS, FEWEST_ROWS = 4, 512
"""Panels in which a Gram matrix is computed on CPU, and rows from which it is: 5/8 of the products are made. Fewer rows gain nothing, more panels little."""


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
    """Products of all pairs of rows [n, p] -> [n, n]. On one CPU device those of many rows are computed on and below the diagonal, and mirrored.

    Where several devices have the rows, each computes its own: mirrored parts would have to cross.
    """
    if len(points) < FEWEST_ROWS or jax.device_count() > 1:
        return _whole(points)
    return jax.lax.platform_dependent(points, cpu=_mirrored, default=_whole)


def _whole(points: jax.Array) -> jax.Array:
    return jax.lax.dot_general(points, points, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)


def _mirrored(points: jax.Array) -> jax.Array:
    edges = np.linspace(0, len(points), PANELS + 1).astype(int)
    panels = [matmul(points[start:], points[start:end].T) for start, end in itertools.pairwise(edges)]
    rows = []
    for place, (start, end) in enumerate(itertools.pairwise(edges)):
        left = [panel[start - first : end - first] for panel, first in zip(panels[:place], edges, strict=False)]
        rows.append(jnp.concatenate([*left, panels[place].T], axis=1))
    return jnp.concatenate(rows)


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
) -> tuple[jax.Array, jax.Array]:
    """Squared distances of pairs of rows, and distances less the shift in its unit, [m, n] each; 0 in pairs that do not count.

    Squared distances are 0 below a few units of rounding of the norms, where two rows are equal as far as this precision can tell.

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
    squared = jnp.where(squared > 4 * jnp.finfo(products.dtype).eps * norm_sums, squared, 0) * pair_weights
    return squared, (jnp.sqrt(squared + (0 if eps is None else eps[0])) - shift.distance) * pair_weights / shift.unit
