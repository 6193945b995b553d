"""The dense layer of sequences, against flax's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd.models.dense import Dense


@pytest.mark.parametrize("shape", [(3, 5, 4), (4,)])
def test_parameters_values_and_gradients_are_those_of_flax(shape):
    inputs = jax.random.normal(jax.random.key(0), shape)
    ours, theirs = Dense(7), nn.Dense(7)
    params = theirs.init(jax.random.key(1), inputs)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), inputs), params)

    def value_and_gradients(module):
        value, vjp = jax.vjp(module.apply, params, inputs)
        return value, vjp(jnp.cos(value))

    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), value_and_gradients(ours), value_and_gradients(theirs))
