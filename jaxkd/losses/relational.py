"""Relational losses on one vector a row: distances and angles, similarities, kernels. The widths of student and teacher may differ."""

import functools

import jax
import jax.numpy as jnp
import optax

from jaxkd.losses.angles import Legs, angle_divergence
from jaxkd.losses.deviations import deviations, scaled
from jaxkd.losses.features import unit_rows
from jaxkd.losses.groups import mean_over_groups
from jaxkd.losses.reduce import all_rows, masked_mean, own_rows, summed
from jaxkd.types import Array

_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
_PKT_EPS = 1e-7


def _side(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, Legs]:
    """Distances of all rows, 0 between rows that are equal or left out, and what their angles are made of."""
    points = scaled(deviations(x.T, weights > 0).T)
    gram = _matmul(points, points.T)
    norms = jnp.diagonal(gram)
    norm_sums = norms[:, None] + norms[None, :]
    squared = norm_sums - 2 * gram
    apart = (squared > 4 * jnp.finfo(x.dtype).eps * norm_sums) & (weights[:, None] * weights[None, :] > 0)
    inverse = jnp.where(apart, jax.lax.rsqrt(jnp.where(apart, squared, 1)), 0)
    return squared * inverse, Legs(gram, norms, inverse)


def _relative(distances: jax.Array) -> jax.Array:
    mean = masked_mean(distances, distances > 0)
    return distances / jnp.where(mean > 0, mean, 1)


def _rkd(x: jax.Array, y: jax.Array, weights: jax.Array, axis_name: str | None, *, distance_weight: float, angle_weight: float) -> jax.Array:
    dtype, own = jnp.promote_types(x.dtype, y.dtype), len(weights)
    x, y, weights = all_rows((x.astype(dtype), y.astype(dtype), weights), axis_name)
    (student, student_legs), (teacher, teacher_legs) = _side(x, weights), _side(y, weights)
    count = jnp.maximum(jnp.sum(weights), 1)
    by_distance = jnp.sum(optax.losses.huber_loss(_relative(student), _relative(teacher))) / count**2
    sides = student_legs, teacher_legs
    angles = summed(angle_divergence(sides, own_rows(sides, own, axis_name)), axis_name) / count**3
    return distance_weight * by_distance + angle_weight * angles


@functools.partial(jax.jit, static_argnames=("group_size", "axis_name", "gather"))
def rkd(
    features: Array,
    embedding: Array,
    *,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    group_size: int | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
    gather: str = "global",
) -> jax.Array:
    """Relational knowledge distillation (Park et al. 2019, arXiv 1904.05068).

    distance_weight * mean over pairs of huber(d_s, d_t) + angle_weight * mean over triplets of huber(a_s, a_t): d = distance of two rows
    over the mean of the positive distances, a = cosine of the angle at the middle row. The means run over all n^2 pairs and n^3 triplets,
    those of a row with itself included (0 on both sides); huber is quadratic up to 1. Distances and angles between equal rows are 0, with
    zero gradient.

    Angles take time n^3, in memory n^2: `group_size` bounds it.

    Args:
      features: student's features, [B, T, p] or [B, p].
      embedding: teacher's embedding, [B, T, q] or [B, q].
      distance_weight: weight of the distances.
      angle_weight: weight of the angles.
      group_size: rows within which distances and angles are compared, in order of the global batch (B rows cost B * group_size^2);
        None = the whole global batch. A remainder needs at least 2 rows; groups are weighted by their rows.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split; rows are gathered over it.
      gather: "global", or "local" for groups within the rows of each device, another objective (see `distance_correlation_loss`).

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by translation, rotation and scale of a side.

    Raises:
      ConfigError: numbers of rows or frames differ, or the group size is below 2.
    """
    loss = functools.partial(_rkd, distance_weight=distance_weight, angle_weight=angle_weight)
    return mean_over_groups(loss, features, embedding, min_rows=2, group_size=group_size, where=where, axis_name=axis_name, gather=gather)


def _pkt(x: jax.Array, y: jax.Array, weights: jax.Array, axis_name: str | None) -> jax.Array:
    pairs = weights[:, None] * all_rows(weights, axis_name)[None, :]

    def neighbours(rows: jax.Array) -> jax.Array:
        rows = unit_rows(rows)
        similarity = (_matmul(rows, all_rows(rows, axis_name).T) + 1) / 2 * pairs
        total = jnp.sum(similarity, axis=1, keepdims=True)
        return similarity / jnp.where(total > 0, total, 1)

    student, teacher = neighbours(x), neighbours(y)
    return masked_mean(teacher * (jnp.log(teacher + _PKT_EPS) - jnp.log(student + _PKT_EPS)), pairs > 0, axis_name=axis_name)


@functools.partial(jax.jit, static_argnames=("group_size", "axis_name", "gather"))
def pkt(
    features: Array, embedding: Array, *, group_size: int | None = None, where: Array | None = None, axis_name: str | None = None, gather: str = "global"
) -> jax.Array:
    """Probabilistic knowledge transfer (Passalis and Tefas 2018, arXiv 1803.10837).

    K = (cosine + 1) / 2 between all rows, each row of K divided by its sum; mean over all B^2 entries of K_t log((K_t + e) / (K_s + e)) with
    e = 1e-7 of a probability. Its size is 1 / B^2: the authors' weight is 30,000.

    Args:
      features: student's features, [B, T, p] or [B, p].
      embedding: teacher's embedding, [B, T, q] or [B, q].
      group_size: rows a group, as in `rkd`.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split; rows are gathered over it.
      gather: "global", or "local" for groups within the rows of each device, another objective (see `distance_correlation_loss`).

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by rotation of a side and by the scale of each vector.

    Raises:
      ConfigError: numbers of rows or frames differ, or the group size is below 2.
    """
    return mean_over_groups(_pkt, features, embedding, min_rows=2, group_size=group_size, where=where, axis_name=axis_name, gather=gather)


def _similarity_preserving(x: jax.Array, y: jax.Array, weights: jax.Array, axis_name: str | None) -> jax.Array:
    def similarities(rows: jax.Array) -> jax.Array:
        everyone = scaled(all_rows(rows, axis_name))
        return unit_rows(_matmul(own_rows(everyone, len(rows), axis_name), everyone.T))

    pairs = weights[:, None] * all_rows(weights, axis_name)[None, :]
    return masked_mean(jnp.square(similarities(x) - similarities(y)), pairs > 0, axis_name=axis_name)


@functools.partial(jax.jit, static_argnames=("group_size", "axis_name", "gather"))
def similarity_preserving(
    features: Array, embedding: Array, *, group_size: int | None = None, where: Array | None = None, axis_name: str | None = None, gather: str = "global"
) -> jax.Array:
    """Similarity-preserving distillation (Tung and Mori 2019, arXiv 1907.09682): ||G_s - G_t||_F^2 / B^2, G = Gram matrix with rows of L2 norm 1.

    Args:
      features: student's features, [B, T, p] or [B, p].
      embedding: teacher's embedding, [B, T, q] or [B, q].
      group_size: rows a group, as in `rkd`.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split; rows are gathered over it.
      gather: "global", or "local" for groups within the rows of each device, another objective (see `distance_correlation_loss`).

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by rotation and scale of a side.

    Raises:
      ConfigError: numbers of rows or frames differ, or the group size is below 2.
    """
    return mean_over_groups(_similarity_preserving, features, embedding, min_rows=2, group_size=group_size, where=where, axis_name=axis_name, gather=gather)


def _cka(x: jax.Array, y: jax.Array, weights: jax.Array, axis_name: str | None) -> jax.Array:
    x, y, weights = all_rows((x, y, weights), axis_name)
    x, y = (scaled(deviations(side.T, weights > 0).T) for side in (x, y))

    def squared_norm(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(_matmul(a.T, b)))

    square = squared_norm(x, x) * squared_norm(y, y)
    return 1 - jnp.where(square > 0, squared_norm(x, y) * jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)


@functools.partial(jax.jit, static_argnames=("group_size", "axis_name", "gather"))
def cka(
    features: Array, embedding: Array, *, group_size: int | None = None, where: Array | None = None, axis_name: str | None = None, gather: str = "global"
) -> jax.Array:
    """1 - linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414), over the rows of a batch.

    1 - ||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F), columns centred; 1 with zero gradient where a side is constant. It wants more rows than
    the width of either side, else it is near 0 whatever the student does.

    Args:
      features: student's features, [B, T, p] or [B, p].
      embedding: teacher's embedding, [B, T, q] or [B, q].
      group_size: rows a group, as in `rkd`.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split; rows are gathered over it.
      gather: "global", or "local" for groups within the rows of each device, another objective (see `distance_correlation_loss`).

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by translation, rotation and scale of a side.

    Raises:
      ConfigError: numbers of rows or frames differ, or the group size is below 2.
    """
    return mean_over_groups(_cka, features, embedding, min_rows=2, group_size=group_size, where=where, axis_name=axis_name, gather=gather)
