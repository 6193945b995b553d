"""Max-pooling against the library's."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxkd.models.pooling import max_pool


@pytest.mark.parametrize(
    ("shape", "window"), [((2, 6, 8, 3), (2, 2)), ((2, 7, 5, 3), (2, 2)), ((1, 14, 9, 2), (4, 3)), ((2, 5, 4, 3), (1, 4)), ((1, 40, 20, 1), (20, 20))]
)
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_equals_the_library(shape, window, ties):
    x = jax.random.normal(jax.random.key(0), shape)
    x = jax.numpy.round(x) if ties else x
    expected, vjp = jax.vjp(lambda x: nn.max_pool(x, window, window), x)
    ours, our_vjp = jax.vjp(jax.jit(lambda x: max_pool(x, *window)), x)
    np.testing.assert_array_equal(ours, expected)
    cotangent = jax.random.normal(jax.random.key(1), expected.shape)
    np.testing.assert_array_equal(our_vjp(cotangent)[0], vjp(cotangent)[0])
