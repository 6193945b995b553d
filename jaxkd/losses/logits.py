"""Losses on logits (pre-sigmoid) of multi-label students."""

import jax
import jax.numpy as jnp

from jaxkd.errors import require_temperature
from jaxkd.losses.reduce import masked_mean, row_mask, to_compute_dtype
from jaxkd.types import Array


def _label_mask(label_mask: Array | None, where: Array | None, logits: jax.Array) -> jax.Array:
    mask = jnp.broadcast_to(row_mask(where, logits), logits.shape)
    return mask if label_mask is None else mask & jnp.asarray(label_mask, bool)


def masked_bernoulli_cross_entropy(
    logits: Array, labels: Array, label_mask: Array | None = None, *, where: Array | None = None, axis_name: str | None = None
) -> jax.Array:
    """Binary cross-entropy of sigmoid(logits) against labels, mean over all entries that count, flattened (arXiv 2306.17424).

    It is neither a per-class nor a per-row mean: a class with more labels weighs more. With nothing labelled it is 0 with zero gradient.

    Args:
      logits: pre-sigmoid, [B, K].
      labels: targets in [0, 1], soft ones allowed, [B, K].
      label_mask: True where a label counts, bool [B, K]; None = everywhere.
      where: True for rows that are examples, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs).
    """
    logits = to_compute_dtype(logits)
    mask = _label_mask(label_mask, where, logits)
    logits = jnp.where(mask, logits, 0)
    labels = jnp.where(mask, jnp.asarray(labels, logits.dtype), 0)
    return masked_mean(jax.nn.softplus(logits) - labels * logits, mask, axis_name=axis_name)


def bernoulli_kd(
    logits: Array,
    teacher_logits: Array,
    label_mask: Array | None = None,
    *,
    temperature: float = 2.0,
    where: Array | None = None,
    axis_name: str | None = None,
    eps: float | None = None,
) -> jax.Array:
    """Knowledge distillation per label: temperature^2 * mean of KL(Bernoulli(q) || Bernoulli(p)), as in EAsT (arXiv 2306.17424).

    q = sigmoid(teacher_logits / temperature), p = sigmoid(logits / temperature).

    Args:
      logits: the student's, pre-sigmoid, [B, K].
      teacher_logits: the teacher's (or its probe's), pre-sigmoid, [B, K].
      label_mask: True where an entry counts, bool [B, K]; None = every entry, labelled or not.
      temperature: softens both sides.
      where: True for rows that are examples, bool [B].
      axis_name: mapped axis over which the batch is split.
      eps: None for the exact divergence; 1e-9 adds the authors' constant to both probabilities inside the logarithm.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: a temperature that is not finite and above 0.
    """
    require_temperature("temperature", temperature)
    logits = to_compute_dtype(logits)
    mask = _label_mask(label_mask, where, logits)
    student = jnp.where(mask, logits, 0) / temperature
    teacher = jnp.where(mask, jnp.asarray(teacher_logits, logits.dtype), 0) / temperature
    if eps is None:
        log_ratio = jax.nn.softplus(student) - jax.nn.softplus(teacher)
    else:
        log_ratio = jnp.log((jax.nn.sigmoid(-teacher) + eps) / (jax.nn.sigmoid(-student) + eps))
    divergence = jax.nn.sigmoid(teacher) * (teacher - student) + log_ratio
    return temperature**2 * masked_mean(divergence, mask, axis_name=axis_name)
