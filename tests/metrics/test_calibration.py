import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from jaxkd import metrics
from jaxkd.errors import DataError
from jaxkd.metrics import multiclass


@pytest.fixture(scope="module")
def overconfident() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits and one-hot labels of 400 + 400 digits by a model of 100 others, its logits three times too large."""
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))[:900]
    images, digits = images[order] / 16, digits[order]
    model = LogisticRegression(C=1000.0, max_iter=5000).fit(images[:100], digits[:100])
    logits, labels = 3 * model.decision_function(images[100:]), np.eye(10)[digits[100:]]
    return logits[:400], labels[:400], logits[400:], labels[400:]


def test_of_two_classes_it_is_the_slope_of_a_logistic_regression(overconfident):
    logits, labels, _, _ = overconfident
    pair, truth = logits[:, [3, 8]], labels[:, [3, 8]]
    mask = np.repeat(truth.any(axis=1, keepdims=True), 2, axis=1)
    log_odds, rows = pair[:, 1:] - pair[:, :1], mask[:, 0]
    model = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10).fit(log_odds[rows], truth[rows, 1])
    assert 1 / metrics.fit_temperature(pair, truth, mask) == pytest.approx(model.coef_[0, 0], rel=1e-4)


def test_it_is_stationary_in_many_classes_and_the_same_for_log_probabilities(overconfident):
    """At the best temperature the mean logit of the true class equals its expectation under the probabilities."""
    logits, labels, _, _ = overconfident
    found = metrics.fit_temperature(logits, labels)
    assert 1 < found < 20
    expected = np.mean(np.sum(softmax(logits / found, axis=1) * logits, axis=1))
    assert np.mean(logits[labels == 1]) == pytest.approx(expected, rel=1e-3)
    assert metrics.fit_temperature(np.log(softmax(logits, axis=1)), labels) == pytest.approx(found, rel=1e-4)
    assert metrics.fit_temperature(3 * logits, labels) == pytest.approx(3 * found, rel=1e-4)


def test_unlabelled_rows_are_left_out(overconfident):
    logits, labels, _, _ = overconfident
    mask = np.repeat(np.arange(400)[:, None] < 250, 10, axis=1)
    assert metrics.fit_temperature(logits, np.where(mask, labels, np.nan), mask) == metrics.fit_temperature(logits[:250], labels[:250])


def test_scaling_mends_calibration_on_other_rows_and_keeps_the_classes(overconfident):
    logits, labels, other_logits, other_labels = overconfident
    probabilities = softmax(other_logits, axis=1)
    temperature = metrics.fit_temperature(logits, labels)
    scaled = metrics.calibration_after_scaling(other_labels, probabilities, temperature=temperature)
    direct = softmax(other_logits / temperature, axis=1)
    assert scaled == pytest.approx({"ece_scaled": multiclass.ece(other_labels, direct), "brier_scaled": multiclass.brier(other_labels, direct)}, rel=1e-4)
    assert scaled["ece_scaled"] < 0.5 * multiclass.ece(other_labels, probabilities)
    assert scaled["brier_scaled"] < multiclass.brier(other_labels, probabilities)
    same = metrics.calibration_after_scaling(other_labels, probabilities, temperature=1.0)
    assert same["brier_scaled"] == pytest.approx(multiclass.brier(other_labels, probabilities), rel=1e-9)


def test_temperature_stays_within_its_limits():
    assert metrics.fit_temperature(np.array([[1.0, 0.0], [0.0, 1.0]]), np.eye(2)) == pytest.approx(0.05, rel=1e-3)
    assert metrics.fit_temperature(np.array([[0.0, 1.0], [1.0, 0.0]]), np.eye(2)) == pytest.approx(20, rel=1e-3)


def test_a_logit_that_is_not_finite_is_refused():
    with pytest.raises(DataError, match=r"1 of 4 logits are not finite.*log_probabilities"):
        metrics.fit_temperature(np.array([[0.0, -np.inf], [1.0, 0.0]]), np.eye(2))
