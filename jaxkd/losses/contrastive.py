"""Contrastive representation distillation: a student's row must be told from others by its teacher's row, and the other way round."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.errors import ConfigError
from jaxkd.losses.features import unit_rows
from jaxkd.losses.reduce import all_rows, diagonal, masked_mean, own_rows, row_mask, to_compute_dtype
from jaxkd.losses.tempered import jit_tempered
from jaxkd.types import Array

_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def _directions(student_projection: Array, teacher_projection: Array, where: Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    student, teacher = to_compute_dtype(student_projection), to_compute_dtype(teacher_projection)
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ConfigError(f"student_projection {student.shape} and teacher_projection {teacher.shape} must both be [B, d]: project both to one width.")
    mask = row_mask(where, student)
    return unit_rows(jnp.where(mask, student, 0)), unit_rows(jnp.where(mask, teacher, 0)), mask[:, 0]


@jit_tempered(static_argnames=("axis_name",))
def crd_in_batch(
    student_projection: Array,
    teacher_projection: Array,
    *,
    temperature: float = 0.07,
    classes: Array | None = None,
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Contrastive distillation without a memory: symmetric InfoNCE over the global batch (Oord et al. 2018, arXiv 1807.03748; CRD: arXiv 1910.10699).

    Mean over rows i and over both directions of -log(exp(a_i . b_i / temperature) / sum_j exp(a_i . b_j / temperature)), a and b the
    projections at unit norm. With `classes`, j runs over row i itself and the rows of other classes.

    Args:
      student_projection: the student's features after a trained projection, [B, d]; normalised here.
      teacher_projection: the teacher's embedding after its own, [B, d].
      temperature: divides the cosines.
      classes: class of each row, int [B]; None = all other rows are negatives.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split; rows are gathered over it.

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by a common rotation and by the scale of each vector; at most
      log(rows) + 2 / temperature.

    Raises:
      ConfigError: the shapes differ; a temperature that is not finite and above 0.
    """
    student, teacher, mask = _directions(student_projection, teacher_projection, where)
    classes = None if classes is None else jnp.asarray(classes)
    all_students, all_teachers, all_masks, all_classes = all_rows((student, teacher, mask, classes), axis_name)
    itself = diagonal(len(mask), axis_name)
    negatives = all_masks[None, :] if classes is None else all_masks[None, :] & (classes[:, None] != all_classes[None, :])
    scores = _matmul(student, all_teachers.T) / temperature

    def of_teachers() -> jax.Array:
        return scores.T if axis_name is None else _matmul(teacher, all_students.T) / temperature

    def log_denominators(anchored: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(jnp.where(itself | negatives, anchored, -jnp.inf), axis=1)

    log_both = log_denominators(scores) + log_denominators(of_teachers())
    return masked_mean(log_both / 2 - jnp.diagonal(own_rows(scores, len(mask), axis_name, axis=1)), mask, axis_name=axis_name)


_WHOLE_BANK = 16  # times the rows chosen for an anchor: up to there a product with the whole bank is faster than copying rows, and smaller
MIN_TEMPERATURE = 0.02
"""The lowest of `crd_loss`: Z, which is N * a mean of exp(cosine / temperature), stays within float32 for any N."""


class CRDMemory(NamedTuple):
    """What CRD remembers of every training row. A state, not parameters: no gradient flows into it.

    Attributes:
      student: last projections of the student, unit rows, float32 [N, d].
      teacher: last projections of the teacher, unit rows, float32 [N, d].
      student_z: Z for the student's rows against the teacher's bank, float32 scalar; 0 = not yet set by a first batch.
      teacher_z: Z for the teacher's rows against the student's bank.
    """

    student: Array
    teacher: Array
    student_z: Array
    teacher_z: Array


def init_memory(key: Array, rows: int, dim: int) -> CRDMemory:
    """A memory of random unit rows: 2 * rows * dim float32 numbers.

    Args:
      key: jax random key.
      rows: N, rows of the training split.
      dim: d, width of the projections.
    """
    student, teacher = unit_rows(jax.random.normal(key, (2, rows, dim)))
    return CRDMemory(student, teacher, jnp.zeros(()), jnp.zeros(()))


class ClassGroups(NamedTuple):
    """The rows of a training split in order of their class.

    Attributes:
      order: rows sorted by class, int32 [N].
      start: for every row, where its class begins in `order`, int32 [N].
      size: for every row, how many rows its class has, int32 [N].
    """

    order: Array
    start: Array
    size: Array


def class_groups(classes: Array) -> ClassGroups:
    """Sorts rows by class, once, for `sample_negatives`.

    Args:
      classes: class of every row of the training split, int [N].

    Raises:
      ConfigError: there are fewer than two classes, so no row has a negative.
    """
    _, inverse, counts = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ConfigError(f"negatives come from other classes, and {len(inverse)} rows have {len(counts)} class(es): give rows of at least 2.")
    starts = np.cumsum(counts) - counts
    order = np.argsort(inverse, kind="stable")
    return ClassGroups(*(jnp.asarray(x, jnp.int32) for x in (order, starts[inverse], counts[inverse])))


def sample_negatives(key: Array, groups: ClassGroups, index: Array, count: int) -> jax.Array:
    """Draws rows of other classes for each row of a batch, uniformly, with replacement.

    What a row gets depends on key and row alone: not on its place in the batch, nor on the number of devices.

    Args:
      key: jax random key, the same on all devices, new at each step.
      groups: from `class_groups`.
      index: the batch's rows in the training split, int [B].
      count: m, negatives a row.

    Returns:
      Rows of the training split, int32 [B, m].
    """
    total = groups.order.shape[0]

    def draw(row: jax.Array) -> jax.Array:
        place = jax.random.randint(jax.random.fold_in(key, row), (count,), 0, total - groups.size[row])
        return groups.order[place + jnp.where(place >= groups.start[row], groups.size[row], 0)]

    return jax.vmap(draw)(jnp.asarray(index))


def _scores(anchors: jax.Array, bank: jax.Array, chosen: jax.Array) -> jax.Array:
    """Dot products of each anchor [B, d] with the rows of the bank chosen for it [B, m]; those with the whole bank where that is cheaper."""
    if len(bank) <= _WHOLE_BANK * chosen.shape[1]:
        return jnp.take_along_axis(_matmul(anchors, bank.T), chosen, axis=1)
    return jnp.einsum("bd,bmd->bm", anchors, bank[chosen], precision=jax.lax.Precision.HIGHEST)


def _remember(bank: Array, directions: jax.Array, index: jax.Array, momentum: float) -> jax.Array:
    moved = unit_rows(momentum * bank[index] + (1 - momentum) * jax.lax.stop_gradient(directions))
    return bank.at[index].set(moved.astype(bank.dtype), mode="drop")


@functools.partial(jax.jit, static_argnames=("temperature", "axis_name"))
def crd_loss(
    student_projection: Array,
    teacher_projection: Array,
    memory: CRDMemory,
    index: Array,
    negatives: Array,
    *,
    temperature: float = 0.07,
    momentum: float = 0.5,
    where: Array | None = None,
    axis_name: str | None = None,
) -> tuple[jax.Array, CRDMemory]:
    """Contrastive representation distillation with a memory bank (Tian, Krishnan and Isola 2020, arXiv 1910.10699).

    For an anchor a and a remembered row b of the other side o = exp(a . b / temperature) / Z, and the loss of the anchor is
    -log(o+ / (o+ + m/N)) - sum over its m negatives of log((m/N) / (o- + m/N)); o+ belongs to the same training row. The result is the
    mean over rows, student and teacher anchors added. Z = N * mean of exp(a . b / temperature) over the first batch that has rows, then
    fixed. Afterwards the rows of the batch are remembered: momentum * old + (1 - momentum) * new, at unit norm.

    Args:
      student_projection: the student's features after a trained projection, [B, d]; normalised here.
      teacher_projection: the teacher's embedding after its own, [B, d].
      memory: of the whole training split, the same on all devices.
      index: the batch's rows in the training split, int [B]. Of rows that occur twice the first is remembered.
      negatives: rows of other classes for each, int [B, m]; see `sample_negatives`.
      temperature: divides the cosines, at least MIN_TEMPERATURE.
      momentum: share of the old row in the new one.
      where: True for the rows that count, bool [B]; the others are not remembered.
      axis_name: mapped axis over which the batch is split; the memory takes the rows of all devices, in axis order.

    Returns:
      The loss, a scalar, float32 (float64 for float64 inputs), and the memory after this batch, the same on all devices.

    Raises:
      ConfigError: the shapes do not fit, or the temperature is too low.
    """
    if not temperature >= MIN_TEMPERATURE:
        raise ConfigError(f"temperature is {temperature}: crd_loss takes {MIN_TEMPERATURE} and above, so that Z stays within float32.")
    student, teacher, mask = _directions(student_projection, teacher_projection, where)
    index, negatives = jnp.asarray(index), jnp.asarray(negatives)
    rows, width = memory.student.shape
    if width != student.shape[1] or index.shape != mask.shape or negatives.ndim != 2 or len(negatives) != len(index) or negatives.shape[1] < 1:
        raise ConfigError(
            f"a memory of width {width} takes projections [B, {width}], index [B] and negatives [B, m] with m at least 1; got {student.shape}, "
            f"{index.shape} and {negatives.shape}."
        )
    chosen = jnp.concatenate([index[:, None], negatives], axis=1)
    share = negatives.shape[1] / rows

    def contrast(anchors: jax.Array, bank: Array, z: Array) -> tuple[jax.Array, jax.Array]:
        scores = _scores(anchors, jax.lax.stop_gradient(bank), chosen) / temperature
        first = rows * masked_mean(jnp.exp(jax.lax.stop_gradient(scores)), mask[:, None], axis_name=axis_name)
        z = jnp.where(z > 0, z, first)
        margins = scores - jnp.log(jnp.where(z > 0, z, 1)) - math.log(share)
        loss = jax.nn.softplus(-margins[:, 0]) + jnp.sum(jax.nn.softplus(margins[:, 1:]), axis=1)
        return masked_mean(loss, mask, axis_name=axis_name), z

    student_loss, student_z = contrast(student, memory.teacher, memory.student_z)
    teacher_loss, teacher_z = contrast(teacher, memory.student, memory.teacher_z)
    student, teacher, index, mask = all_rows((student, teacher, index, mask), axis_name)
    place = jnp.where(mask, index, rows)
    repeated = jnp.any(jnp.tril(place[:, None] == place[None, :], k=-1), axis=1)
    place = jnp.where(repeated, rows, place)
    remembered = CRDMemory(
        _remember(memory.student, student, place, momentum),
        _remember(memory.teacher, teacher, place, momentum),
        student_z.astype(memory.student_z.dtype),
        teacher_z.astype(memory.teacher_z.dtype),
    )
    return student_loss + teacher_loss, remembered
