import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxkd.losses import bernoulli_kd, masked_bernoulli_cross_entropy

LOGITS = np.array([[0.3, -1.2, 2.0], [1.0, 0.0, -0.5]], np.float32)
LABELS = np.array([[1, 0, 1], [0, 1, 0]], np.float32)


def test_distillation_has_its_known_value():
    student, teacher = np.array([[0.3, -1.2, 2.0]]), np.array([[1.0, -0.5, -2.0]])
    assert bernoulli_kd(student, teacher, temperature=2.0) == pytest.approx(0.6555263, abs=1e-6)
    assert bernoulli_kd(student, teacher, temperature=2.0, eps=1e-9) == pytest.approx(0.6555263, abs=1e-6)


def test_distillation_is_zero_at_the_teacher():
    value, gradient = jax.jit(jax.value_and_grad(bernoulli_kd))(jnp.asarray(LOGITS), jnp.asarray(LOGITS))
    assert value == 0
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


@pytest.mark.parametrize("loss", [masked_bernoulli_cross_entropy, bernoulli_kd])
def test_mean_is_over_entries_not_rows_or_classes(loss):
    """Four entries count: three of the first row, one of the second."""
    mask = np.array([[True, True, True], [False, True, False]])
    entries = [loss(LOGITS[i : i + 1, j : j + 1], LABELS[i : i + 1, j : j + 1]) for i, j in np.argwhere(mask)]
    np.testing.assert_allclose(loss(LOGITS, LABELS, mask), np.mean(entries), rtol=1e-6)


def test_soft_targets():
    soft = np.array([[0.3, 0.9, 0.5]], np.float32)
    p = expit(LOGITS[:1].astype(np.float64))
    expected = -np.mean(soft * np.log(p) + (1 - soft) * np.log1p(-p))
    np.testing.assert_allclose(masked_bernoulli_cross_entropy(LOGITS[:1], soft), expected, rtol=1e-6)


def test_large_logits_stay_exact():
    value, gradient = jax.jit(jax.value_and_grad(masked_bernoulli_cross_entropy))(jnp.array([[200.0, -200.0]]), jnp.array([[0.0, 0.0]]))
    assert value == 100
    np.testing.assert_allclose(gradient, [[0.5, 0.0]])
    assert bernoulli_kd(jnp.array([[200.0]]), jnp.array([[-200.0]])) == pytest.approx(400)


def test_nothing_labelled_is_zero_with_zero_gradient_under_jit():
    nothing = np.zeros_like(LABELS, bool)
    value, gradient = jax.jit(jax.value_and_grad(masked_bernoulli_cross_entropy))(LOGITS, np.full_like(LABELS, np.nan), nothing)
    assert value == 0
    assert np.all(gradient == 0)
