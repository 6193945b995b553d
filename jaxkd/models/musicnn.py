"""Inference of the musicnn music taggers (Pons and Serra, arXiv 1909.06654) as pure functions of (params, patches).

`patches` are log-mel spectrograms float32 [P, T, F], with T = 187 frames and F = 96 bands for the released weights.
`params` is a dict of blocks. A convolution block holds "kernel" [height, width, in, out], "bias" [out] and the batch normalisation that follows its ReLU
("gamma", "beta", "mean", "variance", each [out]); a normalisation block holds the latter four; a dense block "kernel" [in, out] and "bias" [out].
"""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from jaxkd.models.frozen import convolve_in_dtype, multiply_in_dtype
from jaxkd.types import Array

Block = Mapping[str, Array]
Params = Mapping[str, Block]

PATCH_FRAMES = 187
PATCH_BANDS = 96
BATCH_NORM_EPSILON = 1e-3
TIMBRAL = ("timbral_38", "timbral_67")
TEMPORAL = ("temporal_128", "temporal_64", "temporal_32")

# (window, stride) of the five poolings, each (time, frequency). The released Python code builds the first for both networks, but the graph that was
# saved with the weights of MSD_vgg, the one that was trained, has the second.
Pools = tuple[tuple[tuple[int, int], tuple[int, int]], ...]
_LAST_POOLS: Pools = (((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4)))
MTT_VGG_POOLS: Pools = (((4, 1), (2, 2)), ((2, 2), (2, 2)), *_LAST_POOLS)
MSD_VGG_POOLS: Pools = (((4, 1), (4, 1)), ((1, 4), (1, 4)), *_LAST_POOLS)


_UNREAD = {
    **dict.fromkeys(("max_mean_pool", "max_pool", "mean_pool"), ("pool_norm", "penultimate", "output")),
    **dict.fromkeys(("penultimate", "pool5"), ("output",)),
}


def pick_embedding(outputs: Mapping[str, Array], embedding: str) -> jax.Array:
    """One embedding of what a network returned, [P, D]: an output by name, or "max_mean_pool", both pools interleaved by channel (max, mean, max, ...)."""
    if embedding == "max_mean_pool":
        pools = jnp.stack([outputs["max_pool"], outputs["mean_pool"]], axis=-1)
        return pools.reshape(pools.shape[0], -1)
    return outputs[embedding]


def read_blocks(params: Params, embedding: str) -> set[str]:
    """The blocks that an embedding depends on."""
    return set(params) - set(_UNREAD.get(embedding, ()))


def _normalise(values: Array, block: Block) -> jax.Array:
    scale = block["gamma"] / jnp.sqrt(block["variance"] + BATCH_NORM_EPSILON)
    return values * scale + (block["beta"] - block["mean"] * scale)


def _convolve(values: Array, block: Block, padding: Literal["SAME", "VALID"]) -> jax.Array:
    """Convolution, ReLU, batch normalisation: [P, T, F, in] -> [P, T', F', out]."""
    convolved = convolve_in_dtype(values, block["kernel"], padding)
    return _normalise(jax.nn.relu(convolved + block["bias"]), block)


def _dense(values: Array, block: Block) -> jax.Array:
    return multiply_in_dtype(values, block["kernel"]) + block["bias"]


def _pad_time(values: Array) -> jax.Array:
    return jnp.pad(values, ((0, 0), (3, 3), (0, 0), (0, 0)))


def musicnn(params: Params, patches: Array) -> dict[str, jax.Array]:
    """The musically motivated network: timbral and temporal front end, three residual layers, temporal pooling, two dense layers.

    Args:
      params: blocks "input_norm", "timbral_38", "timbral_67", "temporal_128", "temporal_64", "temporal_32", "middle_1" to "middle_3",
        "pool_norm", "penultimate" (dense with its normalisation) and "output".
      patches: log-mel, float32 [P, T, 96].

    Returns:
      float32 arrays: "max_pool" and "mean_pool" [P, 753] over time, "penultimate" [P, 200] after its normalisation,
      "logits" [P, 50] before the sigmoid.
    """
    inputs = _normalise(patches[..., None], params["input_norm"])
    padded = _pad_time(inputs)
    timbral = [jnp.max(_convolve(padded, params[name], "VALID"), axis=2) for name in TIMBRAL]
    temporal = [jnp.max(_convolve(inputs, params[name], "SAME"), axis=2) for name in TEMPORAL]
    front = jnp.concatenate(timbral + temporal, axis=-1)

    first = _middle(front, params["middle_1"])
    second = _middle(first, params["middle_2"]) + first
    third = _middle(second, params["middle_3"]) + second
    maps = jnp.concatenate([front, first, second, third], axis=-1)

    max_pool, mean_pool = jnp.max(maps, axis=1), jnp.mean(maps, axis=1)
    pooled = _normalise(jnp.stack([max_pool, mean_pool], axis=-1).reshape(maps.shape[0], -1), params["pool_norm"])
    penultimate = _normalise(jax.nn.relu(_dense(pooled, params["penultimate"])), params["penultimate"])
    return {"max_pool": max_pool, "mean_pool": mean_pool, "penultimate": penultimate, "logits": _dense(penultimate, params["output"])}


def _middle(features: Array, block: Block) -> jax.Array:
    """A convolution over 7 frames and all channels: [P, T, in] -> [P, T, out]; the kernel is [7, in, 1, out].

    It was released as one over frames and places; with places as channels its gradient is an ordinary convolution's, not one over twice the width.
    """
    along_time = {**block, "kernel": jnp.swapaxes(block["kernel"], 1, 2)}
    return _convolve(_pad_time(features[:, :, None, :]), along_time, "VALID")[:, :, 0, :]


def vgg(params: Params, patches: Array, *, pools: Pools) -> dict[str, jax.Array]:
    """Five 3x3 convolutions of 128 filters with max pooling, and one dense layer.

    Args:
      params: blocks "input_norm", "conv_1" to "conv_5" and "output".
      patches: log-mel, float32 [P, 187, 96]; no other size fits the dense layer.
      pools: MTT_VGG_POOLS or MSD_VGG_POOLS.

    Returns:
      float32 arrays: "pool5" [P, 256], the flattened last map (time x frequency x channel), and "logits" [P, 50] before the sigmoid.
    """
    maps = _normalise(patches[..., None], params["input_norm"])
    for number, (size, stride) in enumerate(pools, start=1):
        maps = _convolve(maps, params[f"conv_{number}"], "SAME")
        maps = jax.lax.reduce_window(maps, -jnp.inf, jax.lax.max, (1, *size, 1), (1, *stride, 1), "VALID")
    pool5 = maps.reshape(maps.shape[0], -1)
    return {"pool5": pool5, "logits": _dense(pool5, params["output"])}
