"""MobileNet and its depthwise convolution: the library's convolution as oracle, sizes as published, batch statistics over replicas."""

import functools
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxkd.models.depthwise import depthwise_conv
from jaxkd.models.macs import count_macs
from jaxkd.models.mobilenet import MobileNet
from jaxkd.students import image


def library(inputs, kernel, stride):
    pads = [(kernel.shape[0] // 2,) * 2, (kernel.shape[1] // 2,) * 2]
    dims = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(inputs, kernel, (stride, stride), pads, dimension_numbers=dims, feature_group_count=inputs.shape[-1])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("shape", "size"), [((3, 8, 6, 5), 3), ((2, 7, 9, 4), 3), ((2, 1, 2, 3), 3), ((2, 5, 4, 3), 5)])
def test_depthwise_and_its_gradients_equal_the_library(shape, size, stride):
    inputs = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (size, size, 1, shape[-1]))
    cotangent = jax.random.normal(jax.random.key(2), (shape[0], -(-shape[1] // stride), -(-shape[2] // stride), shape[3]))

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(convolve, *operands):
        value, vjp = jax.vjp(lambda x, k: convolve(x, k, stride), *operands)
        return value, *vjp(cotangent)

    for ours, expected in zip(value_and_gradients(depthwise_conv, inputs, kernel), value_and_gradients(library, inputs, kernel), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def gradient(inputs, kernel):
    return jax.grad(lambda x, k: depthwise_conv(x, k, 2).sum(), argnums=(0, 1))(inputs, kernel)


@pytest.mark.parametrize("function", [depthwise_conv, gradient])
def test_convolutions_are_the_library_on_accelerators_alone(function):
    traced = jax.jit(function).trace(jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 1, 4)))
    for platform, expected in (("cpu", False), ("cuda", True), ("tpu", True)):
        assert ("stablehlo.convolution" in traced.lower(lowering_platforms=(platform,)).as_text()) == expected


def test_depthwise_under_vmap():
    inputs = jax.random.normal(jax.random.key(0), (3, 2, 5, 5, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 4))
    mapped = jax.jit(jax.vmap(jax.grad(lambda k, x: (depthwise_conv(x, k, 1) ** 2).sum()), in_axes=(None, 0)))(kernel, inputs)
    whole = jax.jit(jax.grad(lambda k: (library(inputs.reshape(6, 5, 5, 4), k, 1) ** 2).sum()))(kernel)
    np.testing.assert_allclose(mapped.sum(axis=0), whole, rtol=1e-4, atol=1e-3)


def shapes_of(network, shape):
    return jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros(shape), train=False))


def test_size_is_the_published_one():
    """4.2 million for ImageNet (table 8 of arXiv 1704.04861), of which 1.025 million are its head of 1,000 outputs."""
    sizes = {outputs: sum(leaf.size for leaf in jax.tree.leaves(shapes_of(MobileNet(outputs), (1, 32, 32, 3))["params"])) for outputs in (10, 1000)}
    assert sizes[1000] / 1e6 == pytest.approx(4.2, abs=0.05)
    channels = [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 5, (512, 1024), (1024, 1024)]
    separable = sum(9 * entering + entering * leaving + 2 * (entering + leaving) for entering, leaving in channels)
    assert sizes[10] == 9 * 3 * 32 + 2 * 32 + separable + 1024 * 10 + 10 == 3_217_226


def test_half_width():
    channels = [16, 32, 64, 64, 128, 128, *[256] * 6, 512, 512]
    separable = sum(9 * entering + entering * leaving + 2 * (entering + leaving) for entering, leaving in pairwise(channels))
    params = shapes_of(image.mobilenet_half(num_outputs=2), (1, 28, 28, 1))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 9 * 16 + 2 * 16 + separable + 512 * 2 + 2


def test_cost_counts_the_depthwise_convolutions():
    network, sides = MobileNet(10), [32, 16, 16, 8, 8, *[4] * 6, 2, 2]
    channels = [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 5, (512, 1024), (1024, 1024)]
    separable = sum(side * side * entering * (9 + leaving) for side, (entering, leaving) in zip(sides, channels, strict=True))
    inputs = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    counted = count_macs(lambda v, x: network.apply(v, x, train=False).logits, shapes_of(network, (1, 32, 32, 3)), inputs)
    assert counted == 9 * 3 * 32 * 32 * 32 + separable + 1024 * 10


SMALL = MobileNet(3, width=0.125, stages=(((64, 1),), ((128, 2), (128, 1))))


def test_outputs():
    images = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    shapes = jax.eval_shape(lambda x: MobileNet(3).init_with_output(jax.random.key(0), x, train=False)[0], images)
    assert [tap.shape for tap in shapes.taps] == [(2, 1, 64), (2, 1, 128), (2, 1, 256), (2, 1, 512), (2, 1, 1024)]
    images = jax.random.normal(jax.random.key(1), (2, 9, 9, 1))
    outputs, variables = jax.jit(functools.partial(SMALL.init_with_output, train=False))(jax.random.key(0), images)
    np.testing.assert_array_equal(outputs.features, outputs.taps[-1])
    head = variables["params"]["head"]
    np.testing.assert_allclose(outputs.logits, outputs.features[:, 0] @ head["kernel"] + head["bias"], rtol=1e-5, atol=1e-5)


def test_batch_statistics_are_those_of_all_replicas():
    images = jax.random.normal(jax.random.key(1), (8, 8, 8, 1)) * jnp.arange(1, 9)[:, None, None, None]
    variables = jax.jit(functools.partial(SMALL.init, train=False))(jax.random.key(0), images)

    def train(network, rows):
        return network.apply(variables, rows, train=True, mutable=["batch_stats"])

    whole, stats = jax.jit(functools.partial(train, SMALL))(images)
    parts, part_stats = jax.jit(jax.vmap(functools.partial(train, SMALL.clone(axis_name="data")), axis_name="data"))(images.reshape(2, 4, 8, 8, 1))
    np.testing.assert_allclose(parts.logits.reshape(8, 3), whole.logits, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda ours, expected: np.testing.assert_allclose(ours[1], expected, rtol=1e-4, atol=1e-6), part_stats, stats)
