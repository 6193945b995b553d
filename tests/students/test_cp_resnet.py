"""CP-ResNet: sizes as published (arXiv 2306.17424), receptive field by gradient, pooling against the library's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import students
from jaxkd.errors import ConfigError
from jaxkd.models.cp_resnet import CPResNet, Stage, _max_pool
from jaxkd.models.macs import count_macs


def _parameters(student, frames, bands):
    shapes = jax.eval_shape(lambda: student.init(jax.random.key(0), jnp.zeros((1, frames, bands)), train=False))
    return shapes, sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_east_network_has_the_published_size_and_cost():
    student = students.build("cp_resnet", num_outputs=20)
    shapes, parameters = _parameters(student, 1000, 128)
    assert parameters == 5_534_612
    assert parameters - sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]["head"])) == 5_524_352
    inputs = jax.ShapeDtypeStruct((1, 1000, 128), jnp.float32)
    macs = count_macs(lambda v, x: student.apply(v, x, train=False).logits, shapes, inputs)
    assert macs == pytest.approx(11.1e9, rel=0.01)
    outputs = jax.eval_shape(lambda v, x: student.apply(v, x, train=False), shapes, inputs)
    assert [tap.shape for tap in outputs.taps] == [(1, 62, 128), (1, 62, 256), (1, 62, 512)]
    assert outputs.features.shape == (1, 62, 512)
    assert outputs.logits.shape == (1, 20)


@pytest.mark.slow
def test_receptive_field_of_the_east_network():
    """231 frames: the input frames that a stage-3 frame in the middle depends on, by gradient, with every weight positive so that nothing cancels."""
    narrow = tuple(Stage(4, stage.kernels, stage.pool_after) for stage in CPResNet(num_outputs=2).stages)
    student = CPResNet(num_outputs=2, stem_channels=4, stages=narrow)
    inputs = jax.random.uniform(jax.random.key(1), (1, 480, 128))
    variables = student.init(jax.random.key(0), inputs, train=False)
    variables = jax.tree.map(lambda x: jnp.full_like(x, 0.1), variables)
    # an average has the reach of a maximum, but reaches every input at once
    import jaxkd.models.cp_resnet as module

    original = module._max_pool
    module._max_pool = lambda x: nn.avg_pool(x, (2, 2), (2, 2))
    try:
        gradient = jax.grad(lambda x: student.apply(variables, x, train=False).features[0, 15].sum())(inputs)
    finally:
        module._max_pool = original
    reached = np.flatnonzero(np.abs(np.asarray(gradient[0])).sum(axis=1))
    assert reached[-1] - reached[0] + 1 == 231


def test_small_student_is_a_plain_network_of_the_promised_size():
    student = students.build("cp_resnet_small", num_outputs=16)
    _, parameters = _parameters(student, 94, 64)
    assert 300_000 <= parameters <= 1_000_000
    assert {kernel for stage in student.stages for pair in stage.kernels for kernel in pair} == {3}


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (2, 7, 5, 3)])
def test_max_pool_equals_the_library(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    expected, vjp = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2)), x)
    ours, our_vjp = jax.vjp(_max_pool, x)
    np.testing.assert_array_equal(ours, expected)
    cotangent = jax.random.normal(jax.random.key(1), expected.shape)
    np.testing.assert_array_equal(our_vjp(cotangent)[0], vjp(cotangent)[0])


def test_blocks_start_as_their_shortcut():
    """Fixup-like start: the second convolution of every block is zero, so a block with an identity shortcut passes its input on."""
    student = students.build("cp_resnet_tiny", num_outputs=3)
    variables = student.init(jax.random.key(0), jnp.zeros((1, 94, 64)), train=False)
    second = [block["second"]["conv"]["kernel"] for name, block in variables["params"].items() if "block" in name]
    assert len(second) == 3
    assert not any(np.any(kernel) for kernel in second)


def test_unknown_student_shows_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown student 'cp_resnet_smal'. Did you mean 'cp_resnet_small'\?"):
        students.build("cp_resnet_smal", num_outputs=3)
