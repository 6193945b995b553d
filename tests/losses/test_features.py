import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd.errors import ConfigError
from jaxkd.losses import cosine, fitnet, l2


def test_sum_over_channels_is_divided_by_their_number():
    z, e = np.zeros((2, 3, 8), np.float32), np.ones((2, 3, 8), np.float32)
    assert fitnet(z, e) == 1
    assert l2(2 * e, z) == 4


def test_cosine_ignores_the_length_of_each_vector():
    rng = np.random.default_rng(0)
    z, e, lengths = rng.standard_normal((5, 4)), rng.standard_normal((5, 4)), rng.uniform(1e-3, 1e3, (5, 1))
    np.testing.assert_allclose(cosine(z * lengths, e), cosine(z, e), rtol=1e-6)
    np.testing.assert_allclose(cosine(z, -3 * z), 2, rtol=1e-6)


def test_zero_vector_has_cosine_zero_and_no_gradient():
    value, gradient = jax.jit(jax.value_and_grad(cosine))(jnp.zeros((2, 4)), jnp.ones((2, 4)))
    assert value == 1
    assert np.all(gradient == 0)


@pytest.mark.parametrize("loss", [l2, fitnet, cosine])
def test_differing_widths_are_refused(loss):
    with pytest.raises(ConfigError, match=r"\(2, 3, 8\).*\(2, 3, 5\).*TeacherTransformation"):
        loss(np.zeros((2, 3, 8)), np.zeros((2, 3, 5)))
