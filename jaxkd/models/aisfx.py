"""Inference of aiSFX (Ma and Lerch, ISMIR 2022), a convolutional network of the PANNs family, as pure functions of (params, blocks).

`blocks` are normalised log-mel spectrograms float32 [P, T, F], with T = 100 frames and F = 96 bands for the released weights.
`params` is a dict of eight layers, "conv_1" to "conv_8", each with "kernel" [3, 3, in, out] and the batch normalisation behind it ("gamma", "beta", "mean",
"variance", each [out]).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxkd.models.frozen import convolve_in_dtype
from jaxkd.types import Array

Layer = Mapping[str, Array]
Params = Mapping[str, Layer]

LAYERS = 8
POOLED = (2, 4, 6)
BATCH_NORM_EPSILON = 1e-5


def _convolve(values: Array, layer: Layer) -> jax.Array:
    """Convolution, batch normalisation, ReLU: [P, T, F, in] -> [P, T, F, out]."""
    scale = layer["gamma"] / jnp.sqrt(layer["variance"] + BATCH_NORM_EPSILON)
    convolved = convolve_in_dtype(values, layer["kernel"], "SAME")
    return jax.nn.relu(convolved * scale + (layer["beta"] - layer["mean"] * scale))


def aisfx(params: Params, blocks: Array) -> jax.Array:
    """Eight 3x3 convolutions, 2x2 max pooling behind each of the first three pairs, mean over frequency, maximum over time.

    Args:
      params: as the module describes.
      blocks: float32 [P, T, F].

    Returns:
      float32 [P, 512].
    """
    maps: Array = jnp.asarray(blocks)[..., None]
    for number in range(1, LAYERS + 1):
        maps = _convolve(maps, params[f"conv_{number}"])
        if number in POOLED:
            maps = jax.lax.reduce_window(maps, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jnp.max(jnp.mean(maps, axis=2), axis=1)
