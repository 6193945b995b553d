"""Brings the time axes of a student's features and a teacher's embedding to one length."""

import jax
import jax.numpy as jnp

from jaxkd.errors import ConfigError
from jaxkd.types import Array

OVER_TIME = -1


def _expand(x: jax.Array, factor: int, side: str) -> jax.Array:
    if factor == OVER_TIME:
        return jnp.mean(x, axis=1, keepdims=True, dtype=jnp.promote_types(x.dtype, jnp.float32)).astype(x.dtype)
    if factor < 1:
        raise ConfigError(f"{side}_expand is {factor}: give a number of repeats of at least 1, or -1 for the mean over time.")
    return x if factor == 1 else jnp.repeat(x, factor, axis=1)


def align_time(features: Array, embedding: Array, *, features_expand: int = 1, embedding_expand: int = 1) -> tuple[jax.Array, jax.Array]:
    """Repeats or averages frames and truncates both sides to the shorter one, keeping the first frames (as in EAsT, arXiv 2306.17424).

    Args:
      features: student's features, [B, T1, p].
      embedding: teacher's embedding, [B, T2, q].
      features_expand: how often each frame of `features` is repeated (nearest neighbour); -1 = mean over time.
      embedding_expand: the same for `embedding`.

    Returns:
      features [B, T, p] and embedding [B, T, q] with T the shorter length. T = 1 if a side is averaged over time.

    Raises:
      ConfigError: a factor is 0 or below -1, or one side is averaged over time and the other still has several frames.
    """
    features, embedding = jnp.asarray(features), jnp.asarray(embedding)
    features = _expand(features, features_expand, "features")
    embedding = _expand(embedding, embedding_expand, "embedding")
    frames = features.shape[1], embedding.shape[1]
    if OVER_TIME in (features_expand, embedding_expand) and frames != (1, 1):
        raise ConfigError(
            f"one side is averaged over time and the other has frames left (features {frames[0]}, embedding {frames[1]}): "
            "give -1 for both features_expand and embedding_expand, or for neither."
        )
    length = min(frames)
    return features[:, :length], embedding[:, :length]
