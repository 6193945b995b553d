"""The distance between a student's features and a target embedding, with the adapter that FitNet trains."""

from typing import Any

import flax.linen as nn
import jax

from jaxkd.compression import UNIFORM_FAN_IN
from jaxkd.losses import align_time, distance_correlation_loss, fitnet
from jaxkd.types import Array


def adapt(config: Any, features: jax.Array, target_dim: int) -> jax.Array:
    """Inside a module: the student's features [B, T, C] as the distance takes them; FitNet's linear adapter (arXiv 1412.6550) maps C to D."""
    if config.distance.name == "fitnet":
        return nn.Dense(target_dim, kernel_init=UNIFORM_FAN_IN, name="adapter")(features)
    return features


def distance(config: Any, features: Array, embedding: Array, where: Array, axis_name: str | None) -> jax.Array:
    """The distance that the config names, after the time axes are aligned.

    Args:
      config: with `distance`.
      features: adapted features of the student, [B, T, C].
      embedding: target, [B, T', D].
      where: rows that count, bool [B].
      axis_name: the pmap axis, or None.

    Returns:
      float32 scalar of at least 0: 1 - R^2 for distance correlation (arXiv 2306.17424), mean squared error for FitNet.
    """
    settings = config.distance
    features, embedding = align_time(features, embedding, features_expand=settings.features_expand, embedding_expand=settings.embedding_expand)
    if settings.name == "fitnet":
        return fitnet(features, embedding, where=where, axis_name=axis_name)
    return distance_correlation_loss(
        features, embedding, bias_corrected=settings.bias_corrected, group_size=settings.group_size or None, axis_name=axis_name, where=where
    )
