"""CP-ResNet: sizes as published (arXiv 2306.17424), receptive field by gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import students
from jaxkd.errors import ConfigError
from jaxkd.models.cp_resnet import Stage
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


def test_textbook_network_has_the_published_size():
    student = students.build("cp_resnet_textbook", num_outputs=20)
    shapes, parameters = _parameters(student, 1000, 128)
    assert parameters == 5_524_352 - 3 * 256 * 256 * 8 + 512 * 20 + 2 * 20 == 3_961_768
    outputs = jax.eval_shape(lambda v: student.apply(v, jnp.zeros((1, 1000, 128)), train=False), shapes)
    assert [tap.shape for tap in outputs.taps] == [(1, 62, 128), (1, 62, 256), (1, 62, 512)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frames"), [("cp_resnet", 231), ("cp_resnet_textbook", 135)])
def test_receptive_field(name, frames, monkeypatch):
    """The input frames that a stage-3 frame in the middle depends on, by gradient, with every weight positive so that nothing cancels."""
    student = students.build(name, num_outputs=2)
    narrow = tuple(Stage(4, stage.kernels, stage.pool_after) for stage in student.stages)
    student = student.clone(stem_channels=4, stages=narrow)
    inputs = jax.random.uniform(jax.random.key(1), (1, 480, 128))
    variables = student.init(jax.random.key(0), inputs, train=False)
    variables = jax.tree.map(lambda x: jnp.full_like(x, 0.1), variables)
    # an average has the reach of a maximum, but reaches every input at once
    monkeypatch.setattr("jaxkd.models.cp_resnet.max_pool", lambda x, height, width: nn.avg_pool(x, (height, width), (height, width)))
    gradient = jax.grad(lambda x: student.apply(variables, x, train=False).features[0, 15].sum())(inputs)
    reached = np.flatnonzero(np.abs(np.asarray(gradient[0])).sum(axis=1))
    assert reached[-1] - reached[0] + 1 == frames


def test_small_student_is_a_plain_network_of_the_promised_size():
    student = students.build("cp_resnet_small", num_outputs=16)
    _, parameters = _parameters(student, 94, 64)
    assert 300_000 <= parameters <= 1_000_000
    assert {kernel for stage in student.stages for pair in stage.kernels for kernel in pair} == {3}


def test_blocks_start_as_their_shortcut():
    """Fixup-like start: the second convolution of every block is zero, so a block with an identity shortcut passes its input on."""
    student = students.build("cp_resnet_tiny", num_outputs=3)
    variables = student.init(jax.random.key(0), jnp.zeros((1, 94, 64)), train=False)
    second = [block["second"]["conv"]["kernel"] for name, block in variables["params"].items() if "block" in name]
    assert len(second) == 3
    assert not any(np.any(kernel) for kernel in second)


@pytest.mark.slow
def test_east_network_starts_as_published():
    """Stem by its fan in, first convolutions by L^-0.5 for L = 12 blocks, shortcuts by their channels, head as torch starts it."""
    params = students.build("cp_resnet", num_outputs=20).init(jax.random.key(0), jnp.zeros((1, 16, 16)), train=False)["params"]
    deviation = {name: {part: np.std(layer["conv"]["kernel"]) for part, layer in block.items()} for name, block in params.items() if "block" in name}
    assert np.std(params["stem"]["conv"]["kernel"]) == pytest.approx((2 / 25) ** 0.5, rel=0.05)
    for name, block in params.items():
        if "block" in name:
            size, _, _, channels = block["first"]["conv"]["kernel"].shape
            assert deviation[name]["first"] == pytest.approx(12**-0.5 * (2 / (size**2 * channels)) ** 0.5, rel=0.02)
            assert deviation[name]["second"] == 0
    shortcuts = {name: parts["shortcut"] for name, parts in deviation.items() if "shortcut" in parts}
    assert shortcuts == pytest.approx({"stage2_block1": (2 / 256) ** 0.5, "stage3_block1": (2 / 512) ** 0.5}, rel=0.02)
    assert len(deviation) == 12
    kernel = np.abs(params["head"]["kernel"])
    assert 0.99 * 512**-0.5 < kernel.max() <= 512**-0.5
    assert not np.any(params["head"]["bias"])


def test_unknown_student_shows_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown student 'cp_resnet_smal'. Did you mean 'cp_resnet_small'\?"):
        students.build("cp_resnet_smal", num_outputs=3)
