"""Variational information distillation: the student predicts mean and variance of the teacher's embedding."""

import math

import jax
import jax.numpy as jnp

from jaxkd.errors import ConfigError
from jaxkd.losses.reduce import masked_mean, row_mask, to_compute_dtype
from jaxkd.types import Array

MIN_VARIANCE = 1e-5


def initial_raw_variance(variance: float = 5.0, *, min_variance: float = MIN_VARIANCE) -> float:
    """The r for which softplus(r) + min_variance is `variance`: where to start the trained variances of `vid`.

    Raises:
      ConfigError: the variance is not above the smallest one.
    """
    if not variance > min_variance:
        raise ConfigError(f"variance is {variance}: give one above the smallest, {min_variance}.")
    above = variance - min_variance
    return above + math.log(-math.expm1(-above))


def vid(
    mean_prediction: Array,
    embedding: Array,
    raw_variance: Array,
    *,
    min_variance: float = MIN_VARIANCE,
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Variational information distillation (Ahn et al. 2019, arXiv 1904.05835).

    Mean over rows, frames and channels of ((m - h)^2 / s2 + log s2) / 2, s2 = softplus(raw_variance) + min_variance: the negative
    log-likelihood of h under N(m, s2), without its constant. The variances are parameters, to be trained with the student.

    Args:
      mean_prediction: m, what a trained module makes of the student's features, [B, D] or [B, T, D].
      embedding: the teacher's h, the same shape.
      raw_variance: one a channel, [D]; start at `initial_raw_variance()`.
      min_variance: keeps s2 off zero, in squared units of the embedding; the authors' value is the default.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: the shapes do not fit.
    """
    mean_prediction, embedding, raw_variance = map(to_compute_dtype, (mean_prediction, embedding, raw_variance))
    if mean_prediction.shape != embedding.shape or raw_variance.shape != embedding.shape[-1:]:
        raise ConfigError(
            f"vid takes mean_prediction and embedding of one shape and a raw_variance for each channel; got {mean_prediction.shape}, "
            f"{embedding.shape} and {raw_variance.shape}."
        )
    mask = row_mask(where, embedding)
    difference = jnp.where(mask, mean_prediction, 0) - jnp.where(mask, embedding, 0)
    variance = jax.nn.softplus(raw_variance) + min_variance
    return masked_mean(0.5 * (jnp.square(difference) / variance + jnp.log(variance)), mask, axis_name=axis_name)
