"""The angles of relational distillation: all triplets of rows, a few anchors at a time, value and gradient in one pass."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

_ENTRIES_AT_ONCE = 2**20
"""Triplets, for each group and frame, of which a few arrays are in memory at the same time, unless those of one anchor are more."""

_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class Legs(NamedTuple):
    """Of the vectors between rows; the rows' own parts [m, n], [m], [m, n] where they are the anchors.

    Attributes:
      gram: scalar products of the centred rows, [n, n].
      norms: their squared norms, [n].
      inverse: inverse distances, 0 between rows that are equal or left out, [n, n].
    """

    gram: jax.Array
    norms: jax.Array
    inverse: jax.Array


def _products(legs: Legs, anchors: Legs) -> jax.Array:
    """(x_j - x_i) (x_k - x_i) of each anchor i, [a, n, n]."""
    return legs.gram - anchors.gram[:, :, None] - anchors.gram[:, None, :] + anchors.norms[:, None, None]


def _gradient(slopes: jax.Array, products: jax.Array, anchors: Legs) -> tuple[jax.Array, Legs]:
    """The gradient with respect to `Legs.gram` and to the anchors' parts, of that with respect to their cosines, [a, n, n] and symmetric."""
    inverse = anchors.inverse
    by_leg = _einsum("ajk,ak->aj", slopes, inverse) * inverse
    of_anchors = Legs(-2 * by_leg, jnp.sum(by_leg, axis=1), 2 * _einsum("ajk,ak->aj", slopes * products, inverse))
    # a product with ones: XLA's sum over the first axis steps over a whole matrix for each value on a CPU
    return _einsum("a,ajk->jk", jnp.ones_like(anchors.norms), slopes * inverse[:, :, None] * inverse[:, None, :]), of_anchors


def _blocks(sides: tuple[Legs, Legs], anchors: tuple[Legs, Legs]) -> tuple[Legs, Legs]:
    """The anchors in blocks that go on at once, [blocks, a, ...]."""
    own, pairs = len(anchors[0].norms), sides[0].gram.size
    at_once = max(number for number in range(1, own + 1) if own % number == 0 and (number == 1 or number * pairs <= _ENTRIES_AT_ONCE))
    return jax.tree.map(lambda part: part.reshape(-1, at_once, *part.shape[1:]), anchors)


def _apart(sides: tuple[Legs, Legs], anchors: tuple[Legs, Legs]) -> tuple[jax.Array, list[jax.Array]]:
    """Cosines of the student less those of the teacher, and the products of both, each [a, n, n]."""
    products = [_products(legs, anchor) for legs, anchor in zip(sides, anchors, strict=True)]
    student, teacher = (product * anchor.inverse[:, :, None] * anchor.inverse[:, None, :] for product, anchor in zip(products, anchors, strict=True))
    return student - teacher, products


def _forward(sides: tuple[Legs, Legs], anchors: tuple[Legs, Legs]) -> tuple[jax.Array, tuple[tuple[Legs, Legs], tuple[Legs, Legs]]]:
    def add(sums: tuple[jax.Array, list[jax.Array]], some: tuple[Legs, Legs]) -> tuple[tuple[jax.Array, list[jax.Array]], list[Legs]]:
        apart, products = _apart(sides, some)
        slopes = jnp.clip(apart, -1, 1)
        value = _einsum("ajk,ajk->", slopes, apart - slopes / 2)
        gradients = [_gradient(slope, product, anchor) for slope, product, anchor in zip((slopes, -slopes), products, some, strict=True)]
        return (sums[0] + value, [total + part for total, (part, _) in zip(sums[1], gradients, strict=True)]), [part for _, part in gradients]

    start = jnp.zeros_like(anchors[0].norms, shape=()), [jnp.zeros_like(legs.gram) for legs in sides]
    (value, by_gram), of_anchors = jax.lax.scan(add, start, _blocks(sides, anchors))
    of_sides = [Legs(gram, jnp.zeros_like(legs.norms), jnp.zeros_like(gram)) for gram, legs in zip(by_gram, sides, strict=True)]
    of_student, of_teacher = jax.tree.map(lambda part, whole: part.reshape(whole.shape), tuple(of_anchors), anchors)
    return value, ((of_sides[0], of_sides[1]), (of_student, of_teacher))


@jax.custom_vjp
def angle_divergence(sides: tuple[Legs, Legs], anchors: tuple[Legs, Legs]) -> jax.Array:
    """Sum of huber(cosine of the student - cosine of the teacher) over anchors i and all j, k; the angle is that at i, and huber is quadratic up to 1.

    Args:
      sides: student and teacher, of all n rows.
      anchors: the same, the parts of the m rows that are anchors.

    Returns:
      A scalar. Time m n^2; memory n^2, and 2^20 triplets or n^2 if that is more. Its gradient is in closed form, for `grad` and `vjp` but not `jvp`.
    """
    return jnp.sum(jax.lax.map(lambda some: jnp.sum(optax.losses.huber_loss(_apart(sides, some)[0])), _blocks(sides, anchors)))


def _backward(kept: tuple[tuple[Legs, Legs], tuple[Legs, Legs]], cotangent: jax.Array) -> tuple[tuple[Legs, Legs], tuple[Legs, Legs]]:
    return jax.tree.map(lambda gradient: cotangent * gradient, kept)


angle_divergence.defvjp(_forward, _backward)
