"""The musicnn architecture against a float64 reference made from scipy's correlation, on small random weights, and its operation count by hand."""

import jax
import numpy as np
import pytest
from scipy.signal import correlate

from jaxkd.models.macs import count_macs
from jaxkd.models.musicnn import MSD_VGG_POOLS, MTT_VGG_POOLS, musicnn, vgg

FRAMES, BANDS = 24, 20
KERNELS = {
    "timbral_38": (7, 8, 1, 4),
    "timbral_67": (7, 14, 1, 4),
    "temporal_128": (16, 1, 1, 3),
    "temporal_64": (8, 1, 1, 3),
    "temporal_32": (5, 1, 1, 3),
    "middle_1": (7, 17, 1, 6),
    "middle_2": (7, 6, 1, 6),
    "middle_3": (7, 6, 1, 6),
}
CHANNELS = 17 + 3 * 6


def norm_block(generator: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """Scales of both signs, so that the order of normalisation and pooling matters."""
    return {
        "gamma": generator.normal(size=size),
        "beta": generator.normal(size=size),
        "mean": generator.normal(size=size),
        "variance": generator.uniform(0.5, 2, size),
    }


@pytest.fixture(scope="module")
def params():
    generator = np.random.default_rng(0)
    blocks = {name: {"kernel": generator.normal(size=shape) / 4, "bias": generator.normal(size=shape[-1])} for name, shape in KERNELS.items()}
    blocks = {name: {**block, **norm_block(generator, len(block["bias"]))} for name, block in blocks.items()}
    blocks["input_norm"] = norm_block(generator, 1)
    blocks["pool_norm"] = norm_block(generator, 2 * CHANNELS)
    blocks["penultimate"] = {"kernel": generator.normal(size=(2 * CHANNELS, 9)), "bias": generator.normal(size=9), **norm_block(generator, 9)}
    blocks["output"] = {"kernel": generator.normal(size=(9, 5)), "bias": generator.normal(size=5)}
    return blocks


@pytest.fixture(scope="module")
def patches():
    return np.random.default_rng(1).normal(size=(3, FRAMES, BANDS))


def reference_norm(values, block):
    return (values - block["mean"]) / np.sqrt(block["variance"] + 1e-3) * block["gamma"] + block["beta"]


def reference_layer(values, block, frames_before, frames_after):
    """One patch [T, F] -> [T', F', out]: zero padding in time, valid correlation, ReLU, normalisation."""
    padded = np.pad(values, ((frames_before, frames_after), (0, 0)))
    maps = [correlate(padded, block["kernel"][:, :, 0, i], mode="valid") for i in range(block["kernel"].shape[-1])]
    return reference_norm(np.maximum(np.stack(maps, axis=-1) + block["bias"], 0), block)


def reference(params, patch):
    inputs = reference_norm(patch, params["input_norm"])
    front = [reference_layer(inputs, params[name], 3, 3).max(axis=1) for name in ("timbral_38", "timbral_67")]
    for name in ("temporal_128", "temporal_64", "temporal_32"):
        length = KERNELS[name][0]
        front.append(reference_layer(inputs, params[name], (length - 1) // 2, length // 2).max(axis=1))
    features = [np.concatenate(front, axis=-1)]
    current = features[0]
    for number in (1, 2, 3):
        following = reference_layer(current, params[f"middle_{number}"], 3, 3)[:, 0]
        current = following + current if number > 1 else following
        features.append(current)
    maps = np.concatenate(features, axis=-1)
    max_pool, mean_pool = maps.max(axis=0), maps.mean(axis=0)
    pooled = np.empty(2 * CHANNELS)
    pooled[0::2], pooled[1::2] = max_pool, mean_pool
    dense = params["penultimate"]
    penultimate = reference_norm(np.maximum(reference_norm(pooled, params["pool_norm"]) @ dense["kernel"] + dense["bias"], 0), dense)
    logits = penultimate @ params["output"]["kernel"] + params["output"]["bias"]
    return {"max_pool": max_pool, "mean_pool": mean_pool, "penultimate": penultimate, "logits": logits}


def test_agrees_with_scipy(params, patches):
    single = jax.tree.map(np.float32, params)
    outputs = jax.jit(musicnn)(single, patches.astype(np.float32))
    for row, patch in enumerate(patches):
        for name, expected in reference(params, patch).items():
            np.testing.assert_allclose(outputs[name][row], expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max(), err_msg=name)


def shapes(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, np.float32)


def vgg_shapes(filters: int = 128) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    norm = {name: shapes(filters) for name in ("gamma", "beta", "mean", "variance")}
    convolutions = {f"conv_{i}": {"kernel": shapes(3, 3, 1 if i == 1 else filters, filters), "bias": shapes(filters), **norm} for i in range(1, 6)}
    input_norm = {name: shapes(1) for name in norm}
    return {"input_norm": input_norm, **convolutions, "output": {"kernel": shapes(2 * filters, 50), "bias": shapes(50)}}


@pytest.mark.parametrize(
    ("pools", "sizes"),
    [(MTT_VGG_POOLS, [(187, 96), (92, 48), (46, 24), (23, 12), (11, 6)]), (MSD_VGG_POOLS, [(187, 96), (46, 96), (46, 24), (23, 12), (11, 6)])],
)
def test_vgg_shapes_and_operations(pools, sizes):
    def network(params, patches):
        return vgg(params, patches, pools=pools)

    outputs = jax.eval_shape(network, vgg_shapes(), shapes(2, 187, 96))
    assert {name: value.shape for name, value in outputs.items()} == {"pool5": (2, 256), "logits": (2, 50)}
    by_hand = sum(frames * bands * 9 * (1 if i == 0 else 128) * 128 for i, (frames, bands) in enumerate(sizes)) + 256 * 50
    assert count_macs(network, vgg_shapes(), shapes(1, 187, 96)) == by_hand


def test_musicnn_operations(params):
    by_hand = FRAMES * ((BANDS - 7) * 7 * 8 * 4 + (BANDS - 13) * 7 * 14 * 4 + BANDS * 3 * (16 + 8 + 5) + 7 * 6 * (17 + 6 + 6)) + 2 * CHANNELS * 9 + 9 * 5
    assert count_macs(musicnn, params, shapes(1, FRAMES, BANDS)) == by_hand
    assert count_macs(jax.jit(musicnn), params, shapes(2, FRAMES, BANDS)) == 2 * by_hand


def test_grouped_convolution_counts_its_own_inputs_only():
    def depthwise(values, kernel):
        return jax.lax.conv_general_dilated(values, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=6)

    assert count_macs(depthwise, shapes(1, 10, 8, 6), shapes(3, 3, 1, 6)) == 10 * 8 * 6 * 9
