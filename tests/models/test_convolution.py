"""The convolution of the audio students: flax's own as oracle of values, gradients, parameters and starting values; the library alone on accelerators."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd.models.convolution import Conv, convolve

CASES = {
    "1x1": ((2, 5, 4, 6), 1, 1, 0, 8),
    "3x3": ((2, 6, 5, 4), 3, 1, 1, 8),
    "stem": ((2, 11, 8, 1), 5, 2, 2, 64),
    "textbook stem": ((2, 11, 8, 1), 5, 2, 1, 64),
    "narrow stem": ((2, 11, 8, 1), 3, 1, 1, 16),
    "strided 1x1": ((2, 6, 5, 4), 1, 2, 0, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_the_library(case):
    shape, size, stride, padding, features = CASES[case]
    init = nn.initializers.normal(1.0)
    ours = Conv(features, size, init, stride, padding)
    theirs = nn.Conv(features, (size, size), stride, [(padding, padding)] * 2, use_bias=False, kernel_init=init)
    inputs = jax.random.normal(jax.random.key(0), shape)
    params = theirs.init(jax.random.key(1), inputs)
    np.testing.assert_array_equal(ours.init(jax.random.key(1), inputs)["params"]["kernel"], params["params"]["kernel"])

    def value_and_gradients(module):
        value, vjp = jax.vjp(module.apply, params, inputs)
        return value, *jax.tree.leaves(vjp(jnp.cos(value)))

    for one, other in zip(jax.jit(lambda: value_and_gradients(ours))(), jax.jit(lambda: value_and_gradients(theirs))(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("case", "on_cpu"), [("1x1", 2), ("stem", 2), ("3x3", 3), ("narrow stem", 3)])
def test_gradients_are_convolutions_on_accelerators_alone(case, on_cpu):
    shape, size, stride, padding, features = CASES[case]

    def gradients(inputs, kernel):
        return jax.grad(lambda x, k: jnp.square(convolve(x, k, stride, padding)).sum(), argnums=(0, 1))(inputs, kernel)

    traced = jax.jit(gradients).trace(jnp.ones(shape), jnp.ones((size, size, shape[-1], features)))
    for platform, expected in (("cpu", on_cpu), ("cuda", 3), ("tpu", 3)):
        assert traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution") == expected
