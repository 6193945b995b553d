"""Losses between a student's features and a teacher's embedding of the same width."""

import jax
import jax.numpy as jnp

from jaxkd.errors import ConfigError
from jaxkd.losses.reduce import masked_mean, row_mask, summed, to_compute_dtype
from jaxkd.types import Array


def _prepare(features: Array, embedding: Array, where: Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    features, embedding = to_compute_dtype(features), to_compute_dtype(embedding)
    if features.shape != embedding.shape:
        raise ConfigError(
            f"features {features.shape} and embedding {embedding.shape} must have one shape: align the time axes (align_time) "
            "and bring the last axes to one width with an adapter or a TeacherTransformation."
        )
    mask = row_mask(where, features)
    return jnp.where(mask, features, 0), jnp.where(mask, embedding, 0), mask


def l2(features: Array, embedding: Array, *, where: Array | None = None, axis_name: str | None = None) -> jax.Array:
    """Mean squared difference: mean over rows and frames of ||z - e||^2 / C.

    Args:
      features: student's features z, [B, T, C] or [B, C].
      embedding: teacher's embedding e of the same shape, for instance after a TeacherTransformation.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: the shapes differ.
    """
    features, embedding, mask = _prepare(features, embedding, where)
    return masked_mean(jnp.square(features - embedding), mask, axis_name=axis_name)


def fitnet(adapted_features: Array, embedding: Array, *, where: Array | None = None, axis_name: str | None = None) -> jax.Array:
    """FitNet hint loss: mean over rows and frames of ||A z - e||^2 / D (Romero et al. 2015, arXiv 1412.6550).

    Args:
      adapted_features: student's features after a trained adapter A to the teacher's width, [B, T, D] or [B, D].
      embedding: the teacher's own embedding e, the same shape.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs).

    Raises:
      ConfigError: the shapes differ.
    """
    return l2(adapted_features, embedding, where=where, axis_name=axis_name)


def unit_rows(x: Array, axis_name: str | None = None) -> jax.Array:
    """Divides x [..., D] by the L2 norm of its last axis, which may be split over a mapped axis; a zero vector stays zero, with zero gradient."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    largest = largest if axis_name is None else jax.lax.pmax(largest, axis_name)
    nonzero = largest > 0
    x = jnp.where(nonzero, x / jnp.where(nonzero, largest, 1), 0)
    squared = summed(jnp.sum(jnp.square(x), axis=-1, keepdims=True), axis_name)
    return x * jax.lax.rsqrt(jnp.where(nonzero, squared, 1))


def cosine(features: Array, embedding: Array, *, where: Array | None = None, axis_name: str | None = None) -> jax.Array:
    """Cosine loss: mean over rows and frames of 1 - cos(z, e). A zero vector has cosine 0 with everything.

    Args:
      features: student's features z, [B, T, C] or [B, C].
      embedding: teacher's embedding e, the same shape.
      where: True for the rows that count, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs). Unaffected by the scale of each vector.

    Raises:
      ConfigError: the shapes differ.
    """
    features, embedding, mask = _prepare(features, embedding, where)
    similarity = jnp.sum(unit_rows(features) * unit_rows(embedding), axis=-1, keepdims=True)
    return masked_mean(1 - similarity, mask, axis_name=axis_name)
