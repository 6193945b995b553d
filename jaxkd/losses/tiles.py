"""Squared distance correlation tile by tile: matrices of pairs of rows are never there as a whole.

Each tile's distances are computed once for the sums and once more for the gradient. Where all rows are here, a tile above the diagonal stands for the one
below it too, so that there are hardly more products than with whole matrices.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.losses.centring import Means, pair_weights
from jaxkd.losses.distances import Shift, centred_points, matmul, rms_shift, shifted_distances
from jaxkd.losses.moments import centred_sums, kernel, moments
from jaxkd.losses.reduce import all_rows, first_row


class Form(NamedTuple):
    """What is compiled: the statistic, absolute constants or None, the mapped axis or None, most rows and columns of a tile."""

    bias_corrected: bool
    eps: tuple[float, float] | None
    axis_name: str | None
    block: int


class _Side(NamedTuple):
    """One side: own points [m, p] and those of all rows [n, p], centred and scaled; their squared norms; the shift of the distances."""

    points: jax.Array
    all_points: jax.Array
    scale: jax.Array
    norms: jax.Array
    all_norms: jax.Array
    shift: Shift


def _part(rows: jax.Array, number: jax.Array, block: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(rows, number * block, block)


def _added(rows: jax.Array, number: jax.Array, part: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(rows, _part(rows, number, len(part)) + part, number * len(part), axis=0)


def _side(x: jax.Array, all_weights: jax.Array, form: Form) -> _Side:
    points, scale = centred_points(all_rows(x, form.axis_name), all_weights, form.eps)
    own = jax.lax.dynamic_slice_in_dim(points, first_row(len(x), form.axis_name), len(x))
    # Norms from the same products as the rest, so that equal rows are 0 apart but for rounding.
    norms = jax.lax.map(lambda rows: jnp.diagonal(matmul(rows, rows.T)), own.reshape(-1, form.block, x.shape[1])).ravel()
    all_norms = all_rows(norms, form.axis_name)
    return _Side(own, points, scale, norms, all_norms, rms_shift(all_norms, jnp.maximum(jnp.sum(all_weights), 1), form.eps))


def _over_tiles(add: Callable[..., Any], carry: Any, rows: int, columns: int, form: Form) -> Any:
    """`add(carry, row, column, mirrored)` for all tiles; `mirrored`: the tile stands for the one on the other side of the diagonal too."""
    every = np.ones((rows // form.block, columns // form.block), bool)
    runs = [(every, False)] if form.axis_name is not None else [(np.triu(every, 1), True), (np.diag(np.diag(every)), False)]
    for chosen, mirrored in runs:
        carry, _ = jax.lax.scan(lambda carry, tile, mirrored=mirrored: (add(carry, *tile, mirrored), None), carry, jnp.asarray(np.argwhere(chosen)))
    return carry


def _tiles(sides: list[_Side], weights: jax.Array, all_weights: jax.Array, form: Form, row: jax.Array, column: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """The weights of the pairs of one tile, and their shifted distances on both sides."""
    part = functools.partial(_part, block=form.block)
    first = first_row(len(weights), form.axis_name) + (row - column) * form.block
    centred = pair_weights(part(weights, row), part(all_weights, column), form.bias_corrected, first)
    tiles = []
    for side in sides:
        products = matmul(part(side.points, row), part(side.all_points, column).T)
        tiles.append(shifted_distances(products, part(side.norms, row), part(side.all_norms, column), side.shift, centred, form.eps))
    return centred, tiles


def _forward(x: jax.Array, y: jax.Array, weights: jax.Array, form: Form) -> tuple[jax.Array, Any]:
    all_weights = all_rows(weights, form.axis_name)
    sides = [_side(side, all_weights, form) for side in (x, y)]

    def add(carry: tuple[jax.Array, list[jax.Array]], row: jax.Array, column: jax.Array, mirrored: bool) -> tuple[jax.Array, list[jax.Array]]:
        products, row_sums = carry
        _, (a, b) = _tiles(sides, weights, all_weights, form, row, column)
        products += (2 if mirrored else 1) * jnp.stack([jnp.sum(u * v) for u, v in ((a, b), (a, a), (b, b))])
        row_sums = [_added(sums, row, jnp.sum(shifted, axis=1)) for sums, shifted in zip(row_sums, (a, b), strict=True)]
        if mirrored:
            row_sums = [_added(sums, column, jnp.sum(shifted, axis=0)) for sums, shifted in zip(row_sums, (a, b), strict=True)]
        return products, row_sums

    start = jnp.zeros(3, x.dtype), [jnp.zeros_like(weights), jnp.zeros_like(weights)]
    products, row_sums = _over_tiles(add, start, len(weights), len(all_weights), form)
    count = jnp.maximum(jnp.sum(all_weights), 1)
    of_sides = [moments(sums, side.shift, count, form.bias_corrected, form.axis_name) for sums, side in zip(row_sums, sides, strict=True)]
    return centred_sums(products, *of_sides), (sides, of_sides, weights, all_weights)


def _backward(form: Form, residuals: Any, cotangents: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    sides, of_sides, weights, all_weights = residuals
    part = functools.partial(_part, block=form.block)

    def add(gradients: list[jax.Array], row: jax.Array, column: jax.Array, mirrored: bool) -> list[jax.Array]:
        counted, tiles = _tiles(sides, weights, all_weights, form, row, column)
        off = [Means(part(one.means.rows, row), part(one.means.columns, column), one.means.grand) for one in of_sides]
        centred = [means.off(shifted) for means, shifted in zip(off, tiles, strict=True)]
        added = []
        for gradient, side, shifted, own, other, to_square in zip(gradients, sides, tiles, centred, centred[::-1], cotangents[1:], strict=True):
            between = kernel(shifted, side.shift, counted, form.eps, own, other, cotangents[0] / side.scale, to_square / side.scale)
            left, right = part(side.points, row), part(side.all_points, column)
            gradient = _added(gradient, row, jnp.sum(between, axis=1)[:, None] * left - matmul(between, right))
            if mirrored:
                gradient = _added(gradient, column, jnp.sum(between, axis=0)[:, None] * right - matmul(between.T, left))
            added.append(gradient)
        return added

    gradients = _over_tiles(add, [jnp.zeros_like(side.points) for side in sides], len(weights), len(all_weights), form)
    return *gradients, None


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _sums(x: jax.Array, y: jax.Array, weights: jax.Array, form: Form) -> jax.Array:
    return _forward(x, y, weights, form)[0]


_sums.defvjp(_forward, _backward)


def tiled_sums(x: jax.Array, y: jax.Array, weights: jax.Array, form: Form) -> jax.Array:
    """Sums over own rows of the matrices of centred distances, and their gradient, as `jaxkd.losses.correlation` computes them from whole matrices."""
    tiles = -(-len(x) // form.block)
    form = form._replace(block=-(-len(x) // tiles))
    x, y, weights = (jnp.pad(rows, [(0, tiles * form.block - len(rows))] + [(0, 0)] * (rows.ndim - 1)) for rows in (x, y, weights))
    return jnp.asarray(_sums(x, y, weights, form))
