"""The CIFAR residual networks: sizes as published, block by block against SciPy, batch statistics over replicas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from jaxkd.models.macs import count_macs
from jaxkd.models.resnet import CifarResNet
from jaxkd.students import image

V2 = {"widths": (64, 128, 256), "bottleneck": True}


def variables_of(network, shape=(1, 32, 32, 3)):
    return jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros(shape), train=False))


def size_of(network, shape=(1, 32, 32, 3)):
    return sum(leaf.size for leaf in jax.tree.leaves(variables_of(network, shape)["params"]))


@pytest.mark.parametrize(
    ("name", "millions", "exact"),
    [("resnet20", 0.27, 269_722), ("resnet56", 0.85, 853_018), ("resnet110", 1.7, 1_727_962)],
)
def test_basic_networks_have_the_published_sizes(name, millions, exact):
    """Table 6 of arXiv 1512.03385; the exact numbers add up the layers: 3x3 convolutions, two numbers a channel for norms, the head."""
    n = {"resnet20": 3, "resnet56": 9, "resnet110": 18}[name]
    convolutions = 9 * (3 * 16 + 2 * n * 16 * 16 + 16 * 32 + (2 * n - 1) * 32 * 32 + 32 * 64 + (2 * n - 1) * 64 * 64)
    assert exact == convolutions + 2 * (16 + 2 * n * (16 + 32 + 64)) + 64 * 10 + 10
    size = size_of(getattr(image, name)(num_outputs=10))
    assert size == exact
    assert size / 1e6 == pytest.approx(millions, rel=0.03)


def bottleneck_size(n, inputs=3, outputs=10):
    """Convolutions 1x1 to a quarter, 3x3, 1x1; norms before each; a 1x1 shortcut in the first block of a stage."""
    total, before = 9 * inputs * 16, 16
    for channels in (64, 128, 256):
        inner = channels // 4
        for block in range(n):
            entering = before if block == 0 else channels
            total += entering * inner + 9 * inner * inner + inner * channels + 2 * (entering + inner + inner)
        total += before * channels
        before = channels
    return total + 2 * 256 + 256 * outputs + outputs


@pytest.mark.parametrize(("name", "blocks"), [("resnet56_v2", 6), ("resnet92_v2", 10)])
def test_bottleneck_networks_have_the_size_of_their_formula(name, blocks):
    network = getattr(image, name)(num_outputs=10)
    assert size_of(network) == bottleneck_size(blocks)
    kernels = [path for path, leaf in jax.tree_util.tree_leaves_with_path(variables_of(network)["params"]) if leaf.ndim > 1]
    layers = [path for path in kernels if "shortcut" not in str(path)]
    assert len(layers) == 9 * blocks + 2 == int(name[6:8])


def test_resnet_164_has_the_published_size():
    """Table 4 of arXiv 1603.05027: 1.7 million."""
    size = size_of(CifarResNet(num_outputs=10, blocks=18, **V2))
    assert size == bottleneck_size(18)
    assert size / 1e6 == pytest.approx(1.7, abs=0.05)


def test_cost_is_the_published_one():
    """ResNet-56 takes 1.25e8 multiply-accumulates (table 1 of arXiv 1608.08710)."""
    network = image.resnet56(num_outputs=10)
    inputs = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    assert count_macs(lambda v, x: network.apply(v, x, train=False).logits, variables_of(network), inputs) == pytest.approx(1.25e8, rel=0.01)


def random_variables(network, shape, seed=0):
    """Every parameter and statistic different from its start, so that none can be left out unseen."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        value = rng.normal(size=leaf.shape) * (0.3 if leaf.ndim > 1 else 0.5)
        return (np.abs(value) + 0.5 if path[-1].key == "var" else value).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, variables_of(network, shape))


def conv(x, kernel, stride=1):
    """Padded by half the kernel on all sides, by SciPy, in float64."""
    half = kernel.shape[0] // 2
    padded = np.pad(x.astype(np.float64), [(0, 0), (half, half), (half, half), (0, 0)])
    maps = [[sum(correlate(row[..., i], kernel[..., i, o], mode="valid") for i in range(x.shape[-1])) for o in range(kernel.shape[-1])] for row in padded]
    return np.moveaxis(np.array(maps), 1, -1)[:, ::stride, ::stride]


def norm(x, params, stats):
    return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]


def relu(x):
    return np.maximum(x, 0)


def basic(x, p, s, stride):
    out = relu(norm(conv(x, p["conv1"]["kernel"], stride), p["norm1"], s["norm1"]))
    out = norm(conv(out, p["conv2"]["kernel"]), p["norm2"], s["norm2"])
    shortcut = np.zeros(out.shape)
    shortcut[..., : x.shape[-1]] = x[:, ::stride, ::stride]
    return relu(out + shortcut)


def bottleneck(x, p, s, stride):
    active = relu(norm(x, p["norm1"], s["norm1"]))
    out = conv(active, p["conv1"]["kernel"], stride)
    out = conv(relu(norm(out, p["norm2"], s["norm2"])), p["conv2"]["kernel"])
    out = conv(relu(norm(out, p["norm3"], s["norm3"])), p["conv3"]["kernel"])
    return out + (conv(active, p["shortcut"]["kernel"], stride) if "shortcut" in p else x)


@pytest.mark.parametrize("kind", [basic, bottleneck])
def test_forward_equals_a_reference(kind):
    network = CifarResNet(num_outputs=3, blocks=2, widths=(4, 8, 12), stem=4 if kind is basic else 5, bottleneck=kind is bottleneck)
    images = np.random.default_rng(1).normal(size=(2, 9, 8, 2)).astype(np.float32)
    variables = random_variables(network, images.shape)
    params, stats = variables["params"], variables["batch_stats"]
    x = conv(images, params["stem"]["kernel"])
    x = relu(norm(x, params["norm"], stats["norm"])) if kind is basic else x
    taps = []
    for stage in (1, 2, 3):
        for block in (1, 2):
            name = f"stage{stage}_block{block}"
            x = kind(x, params[name], stats[name], 2 if stage > 1 and block == 1 else 1)
        if kind is bottleneck and stage == 3:
            x = relu(norm(x, params["norm"], stats["norm"]))
        taps.append(x.mean(axis=(1, 2)))
    outputs = jax.jit(functools.partial(network.apply, train=False))(variables, images)
    for tap, expected in zip(outputs.taps, taps, strict=True):
        assert tap.shape == (2, 1, expected.shape[-1])
        np.testing.assert_allclose(tap[:, 0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(outputs.features, outputs.taps[-1])
    np.testing.assert_allclose(outputs.logits, taps[-1] @ params["head"]["kernel"] + params["head"]["bias"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bottlenecks", [False, True])
def test_batch_statistics_are_those_of_all_replicas(bottlenecks):
    images = jax.random.normal(jax.random.key(1), (8, 8, 8, 1)) * jnp.arange(1, 9)[:, None, None, None]
    alone = CifarResNet(num_outputs=3, blocks=1, widths=(4, 8), stem=4, bottleneck=bottlenecks)
    replica = alone.clone(axis_name="data")
    variables = random_variables(alone, images.shape)

    def train(network, rows):
        return network.apply(variables, rows, train=True, mutable=["batch_stats"])

    whole, stats = jax.jit(functools.partial(train, alone))(images)
    parts, part_stats = jax.jit(jax.vmap(functools.partial(train, replica), axis_name="data"))(images.reshape(2, 4, 8, 8, 1))
    np.testing.assert_allclose(parts.logits.reshape(8, 3), whole.logits, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda ours, expected: np.testing.assert_allclose(ours[1], expected, rtol=1e-4, atol=1e-6), part_stats, stats)


def test_half_precision_images_are_computed_in_float32():
    network = image.resnet_tiny(num_outputs=2)
    images = jnp.ones((1, 8, 8, 1), jnp.bfloat16)
    outputs = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), images, train=False)[0])
    assert outputs.logits.dtype == jnp.float32
