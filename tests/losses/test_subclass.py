import jax
import numpy as np
import pytest

from jaxkd.errors import ConfigError
from jaxkd.losses import subclass_auxiliary
from tests.losses import formulas

LOGITS = np.random.default_rng(0).standard_normal((256, 10)).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_zero_when_all_rows_agree_up_to_shift_and_scale(temperature):
    rng = np.random.default_rng(1)
    agreeing = LOGITS[:1] * rng.uniform(0.1, 10, (32, 1)) + rng.standard_normal((32, 1))
    np.testing.assert_allclose(subclass_auxiliary(agreeing, temperature=temperature), 0, atol=5e-6)


def test_negative_when_rows_spread():
    assert subclass_auxiliary(LOGITS) == pytest.approx(-0.94, abs=0.01)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_float32_is_accurate(temperature):
    np.testing.assert_allclose(subclass_auxiliary(LOGITS, temperature=temperature), formulas.spread(LOGITS.astype(np.float64), temperature), rtol=3e-6)


def test_shift_and_scale_of_a_row_change_nothing():
    rng = np.random.default_rng(2)
    moved = LOGITS * rng.uniform(1e-3, 1e3, (256, 1)) + rng.standard_normal((256, 1))
    np.testing.assert_allclose(subclass_auxiliary(moved), subclass_auxiliary(LOGITS), rtol=1e-4)


def test_rows_of_equal_logits_have_no_direction_and_no_gradient():
    logits = np.concatenate([np.full((8, 10), 0.1, np.float32), LOGITS[:8]])
    gradient = jax.jit(jax.grad(subclass_auxiliary))(logits)
    assert np.all(gradient[:8] == 0)
    assert np.any(gradient[8:] != 0)
    np.testing.assert_allclose(subclass_auxiliary(logits[:8]), -1, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_a_temperature_that_is_not_above_0_is_refused(temperature):
    with pytest.raises(ConfigError, match=f"temperature is {temperature}: .* above 0"):
        subclass_auxiliary(LOGITS, temperature=temperature)
