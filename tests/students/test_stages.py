"""What the table says of the stages of the audio students."""

import jax
import jax.numpy as jnp
import pytest

from jaxkd import students


@pytest.mark.parametrize("name", students._TAKES["log_mel"])
def test_channels_of_the_stages_are_those_of_the_network(name):
    student = students.build(name, num_outputs=3)
    outputs = jax.eval_shape(lambda: student.init_with_output(jax.random.key(0), jnp.zeros((1, 96, 96)), train=False)[0])
    assert tuple(tap.shape[-1] for tap in outputs.taps) == students.STAGE_CHANNELS[name]
    assert outputs.features.shape[-1] == students.STAGE_CHANNELS[name][-1]
