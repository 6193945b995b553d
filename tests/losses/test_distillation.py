import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import pearsonr

from jaxkd.errors import ConfigError
from jaxkd.losses import bernoulli_kd, degeneracy, dist, dkd, kd, logit_mse, softmax_cross_entropy, standardised_kd, target_classes

RNG = np.random.default_rng(0)
STUDENT, TEACHER = (3 * RNG.standard_normal((9, 5)).astype(np.float32) for _ in range(2))
CLASSES = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3])
LABELS = np.eye(5, dtype=np.float32)[CLASSES]
LABELLED = np.arange(9) % 3 == 0


@functools.cache
def compiled(loss):
    return jax.jit(jax.grad(loss))


def gradient(loss, *args, **kwargs):
    return np.asarray(compiled(loss)(*args, **kwargs))


def test_cross_entropy_is_the_mean_over_fully_labelled_rows():
    mask = np.broadcast_to(LABELLED[:, None], LABELS.shape).copy()
    mask[1, :3] = True
    labels = np.where(mask, LABELS, np.nan)
    expected = -np.mean(np.log(softmax(STUDENT.astype(np.float64), axis=1))[LABELLED, CLASSES[LABELLED]])
    np.testing.assert_allclose(softmax_cross_entropy(STUDENT, labels, mask), expected, rtol=1e-6)
    to_logits = gradient(softmax_cross_entropy, STUDENT, labels, mask)
    assert np.all(to_logits[~LABELLED] == 0)
    where = np.arange(9) != 0
    np.testing.assert_allclose(softmax_cross_entropy(STUDENT, labels, mask, where=where), softmax_cross_entropy(STUDENT[[3, 6]], LABELS[[3, 6]]), rtol=1e-6)


def test_nothing_labelled_is_zero_with_zero_gradient():
    arguments = STUDENT, np.full_like(LABELS, np.nan), np.zeros_like(LABELS, bool)
    assert softmax_cross_entropy(*arguments) == 0
    assert np.all(gradient(softmax_cross_entropy, *arguments) == 0)


def test_soft_labels():
    soft = softmax(TEACHER.astype(np.float64), axis=1)
    expected = -np.mean(np.sum(soft * np.log(softmax(STUDENT.astype(np.float64), axis=1)), axis=1))
    np.testing.assert_allclose(softmax_cross_entropy(STUDENT, soft), expected, rtol=1e-6)


def test_class_is_the_label_or_the_choice_of_the_teacher():
    mask = np.broadcast_to(LABELLED[:, None], LABELS.shape)
    found = target_classes(np.where(mask, LABELS, 0), mask, TEACHER)
    np.testing.assert_array_equal(found, np.where(LABELLED, CLASSES, TEACHER.argmax(axis=1)))
    np.testing.assert_array_equal(target_classes(LABELS, None, TEACHER), CLASSES)
    assert found.dtype == jnp.int32


@pytest.mark.parametrize("loss", [kd, logit_mse, standardised_kd, lambda *args: dkd(*args, CLASSES)], ids=["kd", "logit_mse", "standardised_kd", "dkd"])
def test_zero_at_the_teacher_up_to_a_shift_of_each_row(loss):
    shift = np.arange(9, dtype=np.float32)[:, None] - 4
    np.testing.assert_allclose(loss(TEACHER + shift, TEACHER), 0, atol=1e-5)
    np.testing.assert_allclose(loss(STUDENT + shift, TEACHER), loss(STUDENT, TEACHER), rtol=1e-5)


def test_gradient_of_kd_is_the_difference_of_probabilities():
    expected = 4 * (softmax(STUDENT / 4, axis=1) - softmax(TEACHER / 4, axis=1)) / len(STUDENT)
    np.testing.assert_allclose(gradient(kd, STUDENT, TEACHER, temperature=4.0), expected, atol=1e-6)


def test_large_logits_stay_exact():
    assert kd(np.array([[400.0, 0.0]]), np.array([[0.0, 400.0]]), temperature=1.0) == pytest.approx(400)
    assert dkd(np.array([[400.0, 0.0, 0.0]]), np.array([[0.0, 400.0, 0.0]]), np.array([1]), beta=0.0, temperature=1.0) == pytest.approx(400)


def test_kd_is_dkd_with_the_weight_that_the_teacher_gives_to_the_other_classes():
    """Equation 7 of the paper, row by row."""
    for row, target in enumerate(CLASSES):
        one = STUDENT[row : row + 1], TEACHER[row : row + 1]
        rest = 1 - softmax(TEACHER[row] / 4)[target]
        np.testing.assert_allclose(dkd(*one, [target], alpha=1.0, beta=rest, temperature=4.0), kd(*one, temperature=4.0), rtol=1e-4)


def test_two_classes_make_dkd_a_multiple_of_kd():
    student, teacher, classes = STUDENT[:, :2], TEACHER[:, :2], CLASSES % 2
    np.testing.assert_allclose(dkd(student, teacher, classes, alpha=3.0, beta=8.0), 3 * kd(student, teacher), rtol=1e-5)
    of_dkd, of_kd = gradient(dkd, student, teacher, classes, alpha=3.0, beta=8.0), gradient(kd, student, teacher)
    np.testing.assert_allclose(of_dkd, 3 * of_kd, atol=1e-6)


def test_two_classes_leave_no_gradient_in_the_first_term_of_dist():
    student, teacher = STUDENT[:, :2], TEACHER[:, :2]
    to_first = gradient(dist, student, teacher, inter_weight=1.0, intra_weight=0.0)
    to_second = gradient(dist, student, teacher, inter_weight=0.0, intra_weight=1.0)
    assert np.abs(to_first).max() < 1e-6 * np.abs(to_second).max()
    agree = np.mean((student[:, 0] > student[:, 1]) == (teacher[:, 0] > teacher[:, 1]))
    np.testing.assert_allclose(dist(student, teacher, intra_weight=0.0), 2 * (1 - agree), atol=1e-6)
    assert np.abs(gradient(dist, STUDENT, TEACHER, inter_weight=1.0, intra_weight=0.0)).max() > 1e-3


def test_two_classes_leave_standardised_logits_only_their_order():
    confident, hesitant = np.array([[9.0, -9.0], [0.0, 5.0]]), np.array([[0.02, 0.01], [-0.01, 0.0]])
    np.testing.assert_allclose(standardised_kd(confident, TEACHER[:2, :2]), standardised_kd(hesitant, TEACHER[:2, :2]), rtol=1e-5)
    half = np.array([[0.5**0.5, -(0.5**0.5)], [-(0.5**0.5), 0.5**0.5]])
    np.testing.assert_allclose(standardised_kd(confident, -confident), kd(half, -half, temperature=2.0), rtol=1e-5)


@pytest.mark.parametrize(("name", "words"), [("dkd", "alpha * kd"), ("dist", "zero gradient"), ("standardised_kd", "0.707")])
def test_degeneracies_are_told_at_two_classes_only(name, words):
    sentence = degeneracy(name, 2)
    assert sentence is not None
    assert sentence.startswith(f"{name} with 2 classes")
    assert words in sentence
    assert degeneracy(name, 3) is None
    assert degeneracy("kd", 2) is None


def test_dist_terms_are_correlations_across_classes_and_across_rows():
    p, q = softmax(STUDENT / 2.0, axis=1), softmax(TEACHER / 2.0, axis=1)
    across_classes = np.mean([pearsonr(a, b).statistic for a, b in zip(p, q, strict=True)])
    across_rows = np.mean([pearsonr(a, b).statistic for a, b in zip(p.T, q.T, strict=True)])
    value = dist(STUDENT, TEACHER, inter_weight=2.0, intra_weight=0.5, temperature=2.0)
    np.testing.assert_allclose(value, 4 * (2 * (1 - across_classes) + 0.5 * (1 - across_rows)), rtol=1e-5)
    np.testing.assert_allclose(dist(TEACHER, TEACHER), 0, atol=1e-6)


def test_a_collapsed_student_has_correlation_zero_and_no_gradient():
    collapsed = np.full((9, 5), 0.1, np.float32)
    assert dist(collapsed, TEACHER) == 2
    assert np.all(gradient(dist, collapsed, TEACHER, inter_weight=1.0, intra_weight=1.0) == 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kd(STUDENT, TEACHER[:, :4]), r"logits \(9, 5\) and teacher_logits \(9, 4\)"),
        (lambda: dist(STUDENT[:3], TEACHER), r"\(3, 5\).*\(9, 5\)"),
        (lambda: softmax_cross_entropy(STUDENT, CLASSES), r"\(9, 5\).*\(9,\)"),
        (lambda: dkd(STUDENT[:, :1], TEACHER[:, :1], CLASSES), "at least 2 classes, the logits have 1"),
        (lambda: kd(STUDENT, TEACHER, temperature=0.0), r"temperature is 0\.0"),
        (lambda: standardised_kd(STUDENT, TEACHER, temperature=-1.0), r"temperature is -1\.0"),
        (lambda: bernoulli_kd(STUDENT, TEACHER, temperature=float("nan")), "temperature is nan"),
        (lambda: dkd(STUDENT, TEACHER, CLASSES, temperature=0), "temperature is 0: .* above 0"),
        (lambda: dist(STUDENT, TEACHER, temperature=-2.0), r"temperature is -2\.0: .* above 0"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_a_traced_temperature_passes():
    traced = jax.jit(lambda temperature: dist(STUDENT, TEACHER, temperature=temperature))(2.0)
    np.testing.assert_allclose(traced, dist(STUDENT, TEACHER, temperature=2.0), rtol=1e-6)
