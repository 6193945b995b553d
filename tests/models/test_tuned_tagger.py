"""A tagger to be fine-tuned: it starts as it was released, and what of it is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd.models.macs import count_macs
from jaxkd.models.musicnn import musicnn, pick_embedding
from jaxkd.models.tuned_tagger import TunedTagger
from tests.models.test_musicnn import BANDS, CHANNELS, FRAMES, KERNELS, norm_block

LABELS = 3
INPUTS = np.random.default_rng(1).normal(size=(2, 3, FRAMES, BANDS)).astype(np.float32)


@pytest.fixture(scope="module")
def released():
    generator = np.random.default_rng(0)
    blocks = {name: {"kernel": generator.normal(size=shape) / 4, "bias": generator.normal(size=shape[-1])} for name, shape in KERNELS.items()}
    blocks = {name: {**block, **norm_block(generator, len(block["bias"]))} for name, block in blocks.items()}
    blocks |= {"input_norm": norm_block(generator, 1), "pool_norm": norm_block(generator, 2 * CHANNELS)}
    blocks["penultimate"] = {"kernel": generator.normal(size=(2 * CHANNELS, 9)), "bias": generator.normal(size=9), **norm_block(generator, 9)}
    blocks["output"] = {"kernel": generator.normal(size=(9, 5)), "bias": generator.normal(size=5)}
    return jax.tree.map(np.float32, blocks)


def _tagger(released, embedding: str):
    module = TunedTagger(musicnn, released, embedding, LABELS)
    return module, jax.jit(lambda key: module.init(key, INPUTS, train=False))(jax.random.key(0))


@pytest.mark.parametrize(("embedding", "unread"), [("max_mean_pool", {"pool_norm", "penultimate", "output"}), ("penultimate", {"output"}), ("logits", set())])
def test_starts_as_released_with_a_head_on_the_mean_over_patches(released, embedding, unread):
    module, variables = _tagger(released, embedding)
    trained = released.keys() - unread - {"input_norm"}
    assert set(variables["params"]) == trained | {"head"}
    for block in trained:
        ours = {**variables["params"][block], **variables["batch_stats"].get(block, {})}
        assert ours.keys() == released[block].keys()
        assert not {"mean", "variance"} & variables["params"][block].keys()
        for name, value in ours.items():
            np.testing.assert_array_equal(value, released[block][name])
    outputs = jax.jit(lambda variables: module.apply(variables, INPUTS, train=False))(variables)
    frozen = jax.jit(lambda patches: pick_embedding(musicnn(released, patches), embedding))(INPUTS.reshape(-1, FRAMES, BANDS))
    np.testing.assert_allclose(outputs.features, np.reshape(frozen, (2, 3, -1)), rtol=1e-5, atol=1e-5)
    head = variables["params"]["head"]
    np.testing.assert_allclose(outputs.logits, np.mean(outputs.features, axis=1) @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-4)


def test_every_parameter_learns_and_no_statistic_moves(released):
    module, variables = _tagger(released, "penultimate")
    # the head as drawn, times 10, so that no gradient is lost in rounding
    params = {**variables["params"], "head": jax.tree.map(lambda x: 10 * x, variables["params"]["head"])}

    def loss(params):
        outputs, mutated = module.apply({**variables, "params": params}, INPUTS, train=True, mutable=["batch_stats"])
        return jnp.sum(outputs.logits**2), mutated

    gradients, mutated = jax.jit(jax.grad(loss, has_aux=True))(params)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.any(gradient != 0), jax.tree_util.keystr(path)
    jax.tree.map(np.testing.assert_array_equal, mutated["batch_stats"], variables["batch_stats"])


def test_a_gradient_costs_three_times_the_network_at_most(released):
    module, variables = _tagger(released, "penultimate")

    def loss(params):
        return module.apply({**variables, "params": params}, INPUTS, train=True).logits.sum()

    assert count_macs(jax.grad(loss), variables["params"]) < 3.1 * count_macs(loss, variables["params"])
