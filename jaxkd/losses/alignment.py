"""Brings the time axes of a student's features and a teacher's embedding to one length."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.errors import ConfigError, unknown_name
from jaxkd.types import Array

ALIGNMENTS = ("repeat", "pool", "interpolate")
OVER_TIME = -1


def _expand(x: jax.Array, factor: int, side: str) -> jax.Array:
    if factor == OVER_TIME:
        return jnp.mean(x, axis=1, keepdims=True, dtype=jnp.promote_types(x.dtype, jnp.float32)).astype(x.dtype)
    if factor < 1:
        raise ConfigError(f"{side}_expand is {factor}: give a number of repeats of at least 1, or -1 for the mean over time.")
    return x if factor == 1 else jnp.repeat(x, factor, axis=1)


def _pooling(frames: int, cells: int) -> np.ndarray:
    """Weights [cells, frames] of the mean over each of `cells` equal spans of time; a frame that two spans share counts in each by its part."""
    edges = np.linspace(0, frames, cells + 1)
    starts, ends = edges[:-1, None], edges[1:, None]
    overlap = np.clip(np.minimum(ends, np.arange(1, frames + 1)) - np.maximum(starts, np.arange(frames)), 0, None)
    return overlap * cells / frames


def _interpolation(frames: int, cells: int) -> np.ndarray:
    """Weights [cells, frames] of the linear interpolation between frames at the centres of `cells` equal spans, constant beyond the outer frames."""
    centres = (np.arange(cells) + 0.5) * frames / cells - 0.5
    return np.stack([np.interp(centres, np.arange(frames), frame) for frame in np.eye(frames)], axis=1)


def _resample(x: jax.Array, weights: np.ndarray) -> jax.Array:
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    resampled = jnp.einsum("ct,btd->bcd", jnp.asarray(weights, dtype), x.astype(dtype), precision=jax.lax.Precision.HIGHEST)
    return resampled.astype(x.dtype)


def _to_length(x: jax.Array, length: int, alignment: str) -> jax.Array:
    frames = x.shape[1]
    if frames == length:
        return x
    return _resample(x, _pooling(frames, length) if alignment == "pool" else _interpolation(frames, length))


def align_time(
    features: Array, embedding: Array, *, features_expand: int = 1, embedding_expand: int = 1, alignment: str = "repeat"
) -> tuple[jax.Array, jax.Array]:
    """Brings both sides to one number of frames T.

    - "repeat": repeats or averages frames and truncates both sides to the shorter one, keeping the first frames (EAsT, arXiv 2306.17424);
    - "pool": both sides span the same time, and the longer one is averaged over the frames of the shorter one;
    - "interpolate": both sides span the same time, and the shorter one is interpolated linearly at the frames of the longer one.

    Args:
      features: student's features, [B, T1, p].
      embedding: teacher's embedding, [B, T2, q].
      features_expand: for "repeat", how often each frame of `features` is repeated (nearest neighbour); -1 = mean over time.
      embedding_expand: the same for `embedding`.
      alignment: one of ALIGNMENTS.

    Returns:
      features [B, T, p] and embedding [B, T, q], each in its dtype. T = 1 if a side is averaged over time.

    Raises:
      ConfigError: the alignment is unknown; a factor is 0 or below -1, or is not 1 where nothing is repeated; or one side is averaged over time and the
        other still has several frames.
    """
    if alignment not in ALIGNMENTS:
        raise unknown_name("alignment", alignment, ALIGNMENTS)
    features, embedding = jnp.asarray(features), jnp.asarray(embedding)
    if alignment != "repeat":
        if (features_expand, embedding_expand) != (1, 1):
            raise ConfigError(f"features_expand and embedding_expand are {(features_expand, embedding_expand)}: alignment={alignment!r} takes 1 and 1.")
        choose = min if alignment == "pool" else max
        length = choose(features.shape[1], embedding.shape[1])
        return _to_length(features, length, alignment), _to_length(embedding, length, alignment)
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
