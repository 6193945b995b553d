"""Several steps in one program are those steps one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd.errors import ConfigError, NonFiniteLossError
from jaxkd.training.experiment import assemble
from jaxkd.training.loop import _checked_mean
from jaxkd.training.step import train_steps
from jaxkd.validation import validate
from tests.small import small_config, text_config
from tests.students.test_convolutions_in_loops import convolutions

TOGETHER, STEPS = 3, 6


def assembled(config, inputs, together: int, mode: str = "jit"):
    config.training.steps_per_dispatch, config.parallel.mode = together, mode
    return assemble(config, inputs)


def trained(assembly):
    """State and losses after `STEPS` steps."""
    state, losses = jax.tree.map(jnp.copy, assembly.state), []
    for batch in assembly.loader.batches(0, STEPS, place=assembly.devices.shard):
        state, terms = assembly.train(state, batch)
        losses.append(np.atleast_1d(terms["loss"]))
    return state, np.concatenate(losses)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "mode"), [("crd", "jit"), ("lelp", "pmap")])
def test_steps_together_are_the_steps_one_by_one(text_inputs, method, mode):
    (one, losses), (several, losses_together) = (trained(assembled(text_config(method=method), text_inputs, together, mode)) for together in (1, TOGETHER))
    assert int(several.step) == int(one.step) == STEPS
    np.testing.assert_allclose(losses_together, losses, rtol=1e-5)
    for theirs, ours in zip(jax.tree.leaves(several), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-5)


def test_rows_of_batches_that_go_together_are_equally_long(text_inputs):
    loader = assembled(text_config(), text_inputs, TOGETHER).loader
    single = assembled(text_config(), text_inputs, 1).loader
    for place, batches in enumerate(loader.batches(0, STEPS)):
        alone = [single.batch(place * TOGETHER + step) for step in range(TOGETHER)]
        longest = max(batch.rows.inputs.shape[1] for batch in alone)
        for batch, own in zip(batches, alone, strict=True):
            length = own.rows.inputs.shape[1]
            assert batch.rows.inputs.shape[1] == longest
            np.testing.assert_array_equal(batch.rows.inputs[:, :length], own.rows.inputs)
            assert not batch.rows.inputs[:, length:].any()
            np.testing.assert_array_equal(batch.rows.index, own.rows.index)


@pytest.mark.slow
def test_a_loop_over_the_steps_is_the_program_in_which_they_follow_one_another(text_inputs):
    assembly = assembled(text_config(), text_inputs, TOGETHER)
    (batches,) = assembly.loader.batches(0, TOGETHER)
    looped, unrolled = (jax.jit(functools.partial(train_steps, assembly.experiment, unroll=unroll))(assembly.state, batches) for unroll in (False, True))
    for theirs, ours in zip(jax.tree.leaves(looped), jax.tree.leaves(unrolled), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-5)


def test_embeddings_of_different_lengths_are_for_single_steps(small_inputs, monkeypatch):
    monkeypatch.setattr(small_inputs.store, "frames", None)
    with pytest.raises(ConfigError, match=r"config.training.steps_per_dispatch is 2, but the embeddings have different lengths, .*: set it to 1\."):
        assembled(small_config(), small_inputs, 2)


@pytest.mark.slow
def test_on_a_cpu_no_convolution_of_them_is_inside_a_loop(small_inputs):
    assembly = assembled(small_config(), small_inputs, 2)
    (batches,) = assembly.loader.batches(0, 2)
    inside, everywhere = convolutions(assembly.train.trace(assembly.state, batches))
    assert inside == 0 and everywhere > 0


def test_a_loss_that_is_not_finite_is_that_of_its_step():
    terms = [{"loss": np.array([0.5, 0.25], np.float32)}, {"loss": np.array([1.0, np.inf], np.float32)}]
    assert _checked_mean(terms[:1], 2, None) == {"loss": 0.375}

    class Loader:
        def ids(self, step):
            return [f"id {step}"]

    with pytest.raises(NonFiniteLossError, match=r"not finite at step 8: loss = inf. Batch ids: id 7\."):
        _checked_mean(terms, 8, Loader())


@pytest.mark.parametrize("name", ["steps", "eval_every_steps", "log_every_steps"])
@pytest.mark.parametrize("part", ["training", "teacher_training"])
def test_what_happens_between_steps_that_go_together_is_refused(part, name):
    config = text_config()
    config[part].update({"steps": 32, "eval_every_steps": 8, "log_every_steps": 4, "steps_per_dispatch": 4})
    validate(config)
    config[part][name] += 1
    with pytest.raises(ConfigError, match=rf"config.{part}.{name} is {config[part][name]}, but 4 steps go together .*: set it to {config[part][name] + 3}\."):
        validate(config)
