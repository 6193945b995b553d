import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd.errors import ConfigError
from jaxkd.losses import initial_raw_variance, vid

RNG = np.random.default_rng(0)
PREDICTION, EMBEDDING = (RNG.standard_normal((64, 3)).astype(np.float32) * [0.3, 1, 2] for _ in range(2))


@pytest.mark.parametrize("variance", [1e-4, 1.0, 5.0, 200.0])
def test_initial_variance(variance):
    np.testing.assert_allclose(np.logaddexp(0, initial_raw_variance(variance)) + 1e-5, variance, rtol=1e-12)


def test_equal_vectors_leave_the_logarithm_of_the_variance():
    np.testing.assert_allclose(vid(EMBEDDING, EMBEDDING, np.full(3, initial_raw_variance(5.0))), np.log(5) / 2, rtol=1e-6)


def test_best_variance_is_the_mean_squared_error_of_its_channel():
    best = np.mean((PREDICTION - EMBEDDING) ** 2, axis=0)
    raw = np.array([initial_raw_variance(v) for v in best])
    of_variance = jax.jit(jax.grad(vid, argnums=2))
    np.testing.assert_allclose(of_variance(PREDICTION, EMBEDDING, raw), np.zeros(3), atol=1e-6)
    assert np.all(of_variance(PREDICTION, EMBEDDING, raw + 0.1) > 1e-4)
    assert np.all(of_variance(PREDICTION, EMBEDDING, raw - 0.1) < -1e-4)


def test_variances_get_no_gradient_from_masked_rows():
    where = np.arange(64) < 10
    noisy = np.where(where[:, None], PREDICTION, np.nan)
    raw = jnp.zeros(3)
    of_variance = jax.jit(jax.grad(lambda r, x, e, rows: vid(x, e, r, where=rows)))
    np.testing.assert_allclose(of_variance(raw, noisy, EMBEDDING, where), of_variance(raw, PREDICTION[:10], EMBEDDING[:10], None), rtol=1e-5)
    assert np.all(of_variance(raw, noisy, EMBEDDING, np.zeros(64, bool)) == 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: initial_raw_variance(1e-5), "variance is 1e-05"),
        (lambda: vid(PREDICTION, EMBEDDING, np.zeros(4)), r"\(64, 3\) and \(4,\)"),
        (lambda: vid(PREDICTION[:, :2], EMBEDDING, np.zeros(3)), r"\(64, 2\), \(64, 3\)"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
