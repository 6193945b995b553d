"""Losses on logits (pre-softmax) of multi-class students: every row has one class of C."""

import jax
import jax.numpy as jnp

from jaxkd.errors import ConfigError, require_temperature
from jaxkd.losses.deviations import deviations, unit_deviations
from jaxkd.losses.features import l2
from jaxkd.losses.groups import mean_over_groups
from jaxkd.losses.reduce import masked_mean, row_mask, summed, to_compute_dtype
from jaxkd.losses.tempered import jit_tempered
from jaxkd.types import Array

_DEGENERACIES = {
    "dkd": "dkd with 2 classes is alpha * kd: its second term compares what is left without the target class, one class, and is always 0.",
    "dist": "dist with 2 classes learns from its second term alone: the correlation of two pairs that sum to 1 is always 1 or -1, with zero gradient.",
    "standardised_kd": "standardised_kd with 2 classes loses all confidence: the z-scores of two logits are always +-0.707, so only their order is left.",
}


def degeneracy(name: str, num_classes: int) -> str | None:
    """What is lost when a loss of this module is used with this number of classes, in one sentence; None if nothing is.

    Args:
      name: name of the loss function.
      num_classes: C.

    Returns:
      A sentence for `dkd`, `dist` and `standardised_kd` at two classes, else None.
    """
    return _DEGENERACIES.get(name) if num_classes == 2 else None


def _prepare(logits: Array, teacher_logits: Array, where: Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    logits, teacher_logits = to_compute_dtype(logits), to_compute_dtype(teacher_logits)
    if logits.ndim != 2 or logits.shape != teacher_logits.shape:
        raise ConfigError(f"logits {logits.shape} and teacher_logits {teacher_logits.shape} must both be [B, C]: the same rows and classes.")
    mask = row_mask(where, logits)
    return jnp.where(mask, logits, 0), jnp.where(mask, teacher_logits, 0), mask[:, 0]


def _divergence(logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """KL(softmax(teacher) || softmax(student)) over the last axis."""
    student, teacher = jax.nn.log_softmax(logits), jax.nn.log_softmax(teacher_logits)
    return jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)


def _correlation(x: jax.Array, y: jax.Array, where: jax.Array | None = None, axis_name: str | None = None) -> jax.Array:
    """Pearson's correlation of the rows of x and y [..., n], whose entries may be split over a mapped axis; 0 where either is constant."""
    x, y = unit_deviations(jnp.stack([x, y]), where, axis_name)
    return summed(jnp.sum(x * y, axis=-1), axis_name)


def softmax_cross_entropy(
    logits: Array, labels: Array, label_mask: Array | None = None, *, where: Array | None = None, axis_name: str | None = None
) -> jax.Array:
    """Cross-entropy of softmax(logits) against labels, mean over labelled rows; with nothing labelled it is 0 with zero gradient.

    Args:
      logits: pre-softmax, [B, C].
      labels: one-hot or soft targets, [B, C].
      label_mask: bool [B, C]; a row is labelled if all of it is True; None = every row.
      where: True for rows that are examples, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: the shapes differ.
    """
    if label_mask is not None:
        labelled = jnp.all(jnp.asarray(label_mask, bool), axis=-1)
        where = labelled if where is None else labelled & jnp.asarray(where, bool)
    logits, labels, mask = _prepare(logits, labels, where)
    return masked_mean(-jnp.sum(labels * jax.nn.log_softmax(logits), axis=-1), mask, axis_name=axis_name)


def target_classes(labels: Array, label_mask: Array | None, teacher_logits: Array) -> jax.Array:
    """The class of every row: its label where it has one, else the teacher's first choice.

    Args:
      labels: one-hot, [B, C]; anything in unlabelled rows.
      label_mask: bool [B, C]; a row is labelled if all of it is True; None = every row.
      teacher_logits: [B, C].

    Returns:
      Classes, int32 [B].
    """
    classes = jnp.argmax(jnp.asarray(labels), axis=-1)
    if label_mask is not None:
        labelled = jnp.all(jnp.asarray(label_mask, bool), axis=-1)
        classes = jnp.where(labelled, classes, jnp.argmax(jnp.asarray(teacher_logits), axis=-1))
    return classes.astype(jnp.int32)


def kd(logits: Array, teacher_logits: Array, *, temperature: float = 4.0, where: Array | None = None, axis_name: str | None = None) -> jax.Array:
    """Knowledge distillation: temperature^2 * mean of KL(softmax(u / temperature) || softmax(v / temperature)) (Hinton et al. 2015, arXiv 1503.02531).

    Args:
      logits: the student's v, [B, C].
      teacher_logits: the teacher's u, [B, C].
      temperature: softens both sides.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by a shift of all logits of a row.

    Raises:
      ConfigError: the shapes differ; a temperature that is not finite and above 0.
    """
    require_temperature("temperature", temperature)
    logits, teacher_logits, mask = _prepare(logits, teacher_logits, where)
    return temperature**2 * masked_mean(_divergence(logits / temperature, teacher_logits / temperature), mask, axis_name=axis_name)


@jit_tempered(static_argnames=("axis_name",))
def dkd(
    logits: Array,
    teacher_logits: Array,
    classes: Array,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679).

    temperature^2 * mean of alpha * KL of (target class, all others) + beta * KL of the distributions over the others. KD is alpha = 1 and
    beta = the teacher's probability of the others, row by row. With 2 classes the second term is 0 and the whole is alpha * KD.

    Args:
      logits: the student's, [B, C].
      teacher_logits: the teacher's, [B, C].
      classes: target class of each row, int [B]; see `target_classes` for rows without a label.
      alpha: weight of the target-class term.
      beta: weight of the term over the other classes.
      temperature: softens both sides.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: the shapes differ, or there are fewer than 2 classes; a temperature that is not finite and above 0.
    """
    logits, teacher_logits, mask = _prepare(logits, teacher_logits, where)
    if logits.shape[1] < 2:
        raise ConfigError(f"dkd compares the target class with the others: it needs at least 2 classes, the logits have {logits.shape[1]}.")
    target = jnp.asarray(classes)[:, None]
    places = jnp.arange(logits.shape[1] - 1)
    others = places + (places >= target)

    def split(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        rest = jnp.take_along_axis(x, others, axis=1) / temperature
        chosen = jnp.take_along_axis(x, target, axis=1) / temperature
        return jnp.concatenate([chosen, jax.nn.logsumexp(rest, axis=1, keepdims=True)], axis=1), rest

    (binary, rest), (teacher_binary, teacher_rest) = split(logits), split(teacher_logits)
    rows = alpha * _divergence(binary, teacher_binary) + beta * _divergence(rest, teacher_rest)
    return temperature**2 * masked_mean(rows, mask, axis_name=axis_name)


@jit_tempered(static_argnames=("axis_name", "gather"))
def dist(
    logits: Array,
    teacher_logits: Array,
    *,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    temperature: float = 1.0,
    where: Array | None = None,
    axis_name: str | None = None,
    gather: str = "global",
) -> jax.Array:
    """DIST: distillation by correlation of probabilities (Huang et al. 2022, arXiv 2205.10536).

    temperature^2 * (inter_weight * (1 - mean over rows of the correlation across classes) + intra_weight * (1 - mean over classes of the
    correlation across the global batch)). A vector that is constant has correlation 0 with everything. With 2 classes the first
    correlation is always 1 or -1 and has no gradient.

    Args:
      logits: the student's, [B, C].
      teacher_logits: the teacher's, [B, C].
      inter_weight: weight of the term across classes (the paper's beta).
      intra_weight: weight of the term across rows (the paper's gamma).
      temperature: softens both sides.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split.
      gather: "global", or "local" for the correlation across the rows of each device in place of the global batch, another objective.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: the shapes differ; a temperature that is not finite and above 0.
    """
    logits, teacher_logits, mask = _prepare(logits, teacher_logits, where)

    def batch_loss(p: jax.Array, q: jax.Array, weights: jax.Array, axis_name: str | None) -> jax.Array:
        rows = weights > 0
        across_classes, across_rows = _correlation(p, q), _correlation(p.T, q.T, rows, axis_name)
        return inter_weight * (1 - masked_mean(across_classes, rows, axis_name=axis_name)) + intra_weight * (1 - jnp.mean(across_rows))

    probabilities = jax.nn.softmax(logits / temperature), jax.nn.softmax(teacher_logits / temperature)
    return temperature**2 * mean_over_groups(batch_loss, *probabilities, min_rows=1, group_size=None, where=mask, axis_name=axis_name, gather=gather)


def standardised_kd(logits: Array, teacher_logits: Array, *, temperature: float = 2.0, where: Array | None = None, axis_name: str | None = None) -> jax.Array:
    """Logit standardisation (LSKD): `kd` between the z-scores of each row of logits (Sun et al. 2024, arXiv 2403.01427).

    The deviation is the unbiased one (C - 1), as the authors' code has it; a row of equal logits has z-scores 0. With 2 classes the
    z-scores are always +-0.707: all confidence is lost.

    Args:
      logits: the student's, [B, C].
      teacher_logits: the teacher's, [B, C].
      temperature: softens both sides.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by shift and positive scale of each row of either side.

    Raises:
      ConfigError: the shapes differ; a temperature that is not finite and above 0.
    """
    logits, teacher_logits, mask = _prepare(logits, teacher_logits, where)
    spread = (logits.shape[1] - 1) ** 0.5
    z_scores = spread * unit_deviations(logits), spread * unit_deviations(teacher_logits)
    return kd(*z_scores, temperature=temperature, where=mask, axis_name=axis_name)


def logit_mse(logits: Array, teacher_logits: Array, *, where: Array | None = None, axis_name: str | None = None) -> jax.Array:
    """Mean squared difference of logits: mean over rows of ||u - v||^2 / C, each row of u and v centred, since softmax ignores their mean.

    Args:
      logits: the student's v, [B, C].
      teacher_logits: the teacher's u, [B, C].
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: the shapes differ.
    """
    logits, teacher_logits, mask = _prepare(logits, teacher_logits, where)
    return l2(deviations(logits), deviations(teacher_logits), where=mask, axis_name=axis_name)
