"""What must hold between LELP's targets and its loss (arXiv 2409.20449), against SciPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import entr, log_softmax, logsumexp, rel_entr, softmax

from jaxkd.errors import ConfigError, DataError
from jaxkd.lelp import (
    Subspaces,
    fit_label_subspaces,
    fit_subspaces,
    fold_label_logits,
    fold_logits,
    joint_probs,
    multilabel_pseudo_class_loss,
    project_coordinates,
    pseudo_class_loss,
    pseudo_class_probs,
    subclass_probs,
)
from jaxkd.lelp.rotation import simplex_frame
from jaxkd.losses import bernoulli_kd, softmax_cross_entropy

B, C, S, D = 16, 3, 4, 10
RNG = np.random.default_rng(7)
STUDENT = RNG.standard_normal((B, C * S)).astype(np.float32)
TEACHER = 2 * RNG.standard_normal((B, C)).astype(np.float32)
PI = softmax(RNG.standard_normal((B, C, S)), axis=-1).astype(np.float32)
EMBEDDING = (RNG.standard_normal((200, D)) * np.linspace(2, 0.5, D)).astype(np.float32)
LABELS = RNG.integers(0, C, 200)
KERNEL = RNG.standard_normal((D, C))


@functools.cache
def fit(**options) -> Subspaces:
    settings = dict(num_classes=C, num_subclasses=S, classifier_kernel=KERNEL, key=jax.random.key(0)) | options
    return fit_subspaces([(EMBEDDING, LABELS)], **settings)


def joint(tau: float = 1.0) -> np.ndarray:
    return softmax(TEACHER.astype(np.float64) / tau, axis=1)[:, :, None] * PI.astype(np.float64)


@pytest.mark.parametrize("tau", [1.0, 2.5])
def test_loss_is_the_divergence_of_pseudo_classes(tau):
    expected = rel_entr(joint(tau).reshape(B, -1), softmax(STUDENT.astype(np.float64) / tau, axis=1)).sum(axis=1).mean()
    assert pseudo_class_loss(STUDENT, TEACHER, PI, temperature=tau) == pytest.approx(tau**2 * expected, rel=1e-5)
    assert pseudo_class_loss(STUDENT, TEACHER, PI, temperature=tau, tau_squared=False) == pytest.approx(expected, rel=1e-5)
    only_teacher = rel_entr(joint(tau).reshape(B, -1), softmax(STUDENT.astype(np.float64), axis=1)).sum(axis=1).mean()
    assert pseudo_class_loss(STUDENT, TEACHER, PI, temperature=tau, temperature_on="teacher", tau_squared=False) == pytest.approx(only_teacher, rel=1e-5)


def test_cross_entropy_against_the_joint_differs_by_its_entropy():
    cross_entropy = softmax_cross_entropy(STUDENT / 2, joint_probs(TEACHER, PI, temperature=2.0))
    divergence = cross_entropy - entr(joint(2.0)).sum(axis=(1, 2)).mean()
    assert 4 * divergence == pytest.approx(float(pseudo_class_loss(STUDENT, TEACHER, PI, temperature=2.0)), rel=1e-5)


def test_a_subclass_that_does_not_exist_is_driven_down_and_then_counts_for_nothing():
    valid = np.arange(S) < np.array([[4], [2], [1]])
    exists = valid.reshape(-1)
    pi = np.where(valid, PI, 0)
    pi /= pi.sum(axis=2, keepdims=True)
    loss = jax.jit(jax.value_and_grad(functools.partial(pseudo_class_loss, temperature=2.0)))
    np.testing.assert_allclose(loss(STUDENT, TEACHER, pi)[1][:, ~exists], 2 * softmax(STUDENT / 2, axis=1)[:, ~exists] / B, rtol=1e-4)
    low = np.where(exists, STUDENT, np.float32(-1e4))
    value, gradient = loss(low, TEACHER, pi)
    target = (softmax(TEACHER.astype(np.float64) / 2, axis=1)[:, :, None] * pi).reshape(B, -1)[:, exists]
    assert value == pytest.approx(4 * rel_entr(target, softmax(STUDENT[:, exists].astype(np.float64) / 2, axis=1)).sum(axis=1).mean(), rel=1e-5)
    assert np.all(gradient[:, ~exists] == 0)
    by_class = [logsumexp(STUDENT.reshape(B, C, S)[:, c, valid[c]], axis=1) for c in range(C)]
    np.testing.assert_allclose(fold_logits(low, C), np.stack(by_class, axis=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 2.0])
def test_chain_rule_splits_the_loss_into_classes_and_subclasses(weight):
    q = softmax(STUDENT.astype(np.float64), axis=1).reshape(B, C, S)
    p_class, q_class = joint().sum(axis=2), q.sum(axis=2)
    classes = rel_entr(p_class, q_class).sum(axis=1)
    subclasses = (p_class * rel_entr(PI.astype(np.float64), q / q_class[:, :, None]).sum(axis=2)).sum(axis=1)
    np.testing.assert_allclose(classes + subclasses, rel_entr(joint(), q).sum(axis=(1, 2)), rtol=1e-6)  # PI is rounded to float32
    assert pseudo_class_loss(STUDENT, TEACHER, PI, weight=weight) == pytest.approx(np.mean(classes + weight * subclasses), rel=1e-5)


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_one_subclass_is_knowledge_distillation(tau):
    student = STUDENT[:, :C]
    expected = tau**2 * rel_entr(softmax(TEACHER / tau, axis=1), softmax(student / tau, axis=1)).sum(axis=1).mean()
    assert pseudo_class_loss(student, TEACHER, np.ones((B, C, 1)), temperature=tau) == pytest.approx(expected, rel=1e-5)
    one = fit(num_subclasses=1)
    np.testing.assert_allclose(pseudo_class_probs(one, EMBEDDING[:B], TEACHER, temperature=tau), softmax(TEACHER / tau, axis=1), rtol=1e-5)


def test_subclass_temperature_runs_from_hard_to_uniform():
    coordinates = np.asarray(project_coordinates(fit(), EMBEDDING))
    np.testing.assert_allclose(subclass_probs(fit(), EMBEDDING, subclass_temperature=0.7), softmax(coordinates / 0.7, axis=-1), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(subclass_probs(fit(), EMBEDDING, subclass_temperature=1e6), 1 / S, rtol=1e-4)
    hard = np.asarray(subclass_probs(fit(), EMBEDDING, subclass_temperature=1e-6))
    np.testing.assert_array_equal(hard, np.eye(S)[coordinates.argmax(axis=-1)])


def test_sum_over_subclasses_gives_the_classes_back():
    probs = np.asarray(pseudo_class_probs(fit(), EMBEDDING[:B], TEACHER, temperature=2.0, subclass_temperature=0.5))
    np.testing.assert_allclose(probs.reshape(B, C, S).sum(axis=2), softmax(TEACHER / 2, axis=1), rtol=1e-5)
    np.testing.assert_allclose(softmax(np.asarray(fold_logits(STUDENT, C)), axis=1), softmax(STUDENT, axis=1).reshape(B, C, S).sum(axis=2), rtol=1e-5)
    np.testing.assert_allclose(fold_logits(STUDENT, C), logsumexp(STUDENT.reshape(B, C, S), axis=2), rtol=1e-6)


def test_a_temperature_on_the_joint_is_not_one_on_the_folded_logits():
    joint_then_sum = softmax(STUDENT / 2, axis=1).reshape(B, C, S).sum(axis=2)
    assert np.max(np.abs(joint_then_sum - softmax(np.asarray(fold_logits(STUDENT, C)) / 2, axis=1))) > 0.01


def test_the_common_part_of_the_coordinates_does_not_reach_the_student():
    subspaces = fit(scale="off")
    along = subspaces.directions[0].sum(axis=1)
    moved = np.asarray(EMBEDDING + 3 * along, np.float32)
    assert np.abs(project_coordinates(subspaces, moved)[:, 0] - project_coordinates(subspaces, EMBEDDING)[:, 0]).min() > 1
    np.testing.assert_allclose(subclass_probs(subspaces, moved)[:, 0], subclass_probs(subspaces, EMBEDDING)[:, 0], atol=2e-6)


@pytest.mark.parametrize("rotation", ["haar", "off"])
def test_simplex_form_loses_no_direction(rotation):
    """The S - 1 coordinates y are read back from the logarithm of the probabilities, which two rotations of one subspace share."""
    beta, subspaces = 0.5, fit(simplex=True, rotation=rotation)
    plain = fit(num_subclasses=S - 1, scale="off", rotation="off")
    coordinates = np.asarray(project_coordinates(plain, EMBEDDING), np.float64)
    log_probs = np.log(np.asarray(subclass_probs(subspaces, EMBEDDING, subclass_temperature=beta), np.float64))
    frame = simplex_frame(S)
    for c in range(C):
        y = beta * log_probs[:, c] @ frame * subspaces.scale[c, 0]
        turn = plain.directions[c].T @ subspaces.directions[c] @ frame
        np.testing.assert_allclose(turn.T @ turn, np.eye(S - 1), atol=1e-5)
        np.testing.assert_allclose(y, coordinates[:, c] @ turn, atol=1e-4)


def test_centring_decides_the_subclasses():
    """At its mean a class prefers no subclass; without centring it would."""
    subspaces = fit()
    for c in range(C):
        np.testing.assert_allclose(subclass_probs(subspaces, subspaces.mean[c : c + 1])[0, c], 1 / S, rtol=1e-5)
    far = fit_subspaces([(EMBEDDING + 1000, LABELS)], num_classes=C, num_subclasses=S, classifier_kernel=KERNEL, key=jax.random.key(0))
    np.testing.assert_allclose(subclass_probs(far, EMBEDDING + 1000), subclass_probs(subspaces, EMBEDDING), atol=5e-3)


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_gradient_is_the_difference_of_probabilities(tau):
    gradient = jax.grad(pseudo_class_loss)(jnp.asarray(STUDENT), TEACHER, PI, temperature=tau)
    np.testing.assert_allclose(gradient, tau * (softmax(STUDENT / tau, axis=1) - joint(tau).reshape(B, -1)) / B, atol=1e-7)


def test_gradient_against_finite_differences():
    with jax.enable_x64(True):
        loss = functools.partial(pseudo_class_loss, temperature=1.7, weight=0.4, where=np.arange(B) % 3 > 0)
        check_grads(lambda v, u, pi: loss(v, u, pi), (STUDENT.astype(np.float64), TEACHER.astype(np.float64), PI.astype(np.float64)), order=1, modes=["rev"])


def test_the_teachers_own_logits_are_the_optimum():
    optimum = np.log(joint().reshape(B, -1)).astype(np.float32) + 5
    value, gradient = jax.value_and_grad(pseudo_class_loss)(jnp.asarray(optimum), TEACHER, PI)
    assert abs(value) < 1e-6
    np.testing.assert_allclose(gradient, 0, atol=1e-7)
    assert pseudo_class_loss(optimum + 0.1 * STUDENT, TEACHER, PI) > 1e-4


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_masked_subclasses_and_certain_teachers_stay_finite(weight):
    pi = np.where(np.arange(S) < 2, PI, 0)
    pi[:, 1] = np.eye(S)[0]
    pi = pi / pi.sum(axis=-1, keepdims=True)
    teacher = TEACHER * np.array([1, 1, 1e5], np.float32)
    value, gradient = jax.jit(jax.value_and_grad(functools.partial(pseudo_class_loss, weight=weight), argnums=(0, 1)))(jnp.asarray(30 * STUDENT), teacher, pi)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(part)) for part in gradient)


def test_rows_that_are_left_out_may_hold_anything():
    where = np.arange(B) < 10
    broken = [np.where(where.reshape(-1, *[1] * (x.ndim - 1)), x, np.nan) for x in (STUDENT, TEACHER, PI)]
    value, gradient = jax.value_and_grad(pseudo_class_loss)(*map(jnp.asarray, broken), where=where)
    assert value == pytest.approx(float(pseudo_class_loss(STUDENT[:10], TEACHER[:10], PI[:10])), rel=1e-6)
    assert np.all(gradient[10:] == 0) and np.all(np.isfinite(gradient))
    assert pseudo_class_loss(STUDENT, TEACHER, PI, where=np.zeros(B, bool)) == 0


def test_splitting_the_batch_does_not_change_the_loss():
    where = np.arange(B) < 13
    shares = [x.reshape(4, B // 4, *x.shape[1:]) for x in (STUDENT, TEACHER, PI, where)]

    def loss(student, teacher, pi, rows):
        return pseudo_class_loss(student, teacher, pi, where=rows, axis_name="data")

    whole = pseudo_class_loss(STUDENT, TEACHER, PI, where=where)
    np.testing.assert_allclose(jax.vmap(loss, axis_name="data")(*shares), np.full(4, whole), rtol=1e-6)
    one_device = jax.pmap(loss, axis_name="data")(*(x[None] for x in (STUDENT, TEACHER, PI, where)))
    np.testing.assert_allclose(one_device, [whole], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(dtype):
    parts = [jnp.asarray(x, dtype) for x in (STUDENT, TEACHER, PI)]
    value = pseudo_class_loss(*parts)
    assert value.dtype == jnp.float32
    assert value == pytest.approx(float(pseudo_class_loss(*(np.asarray(x, np.float32) for x in parts))), rel=1e-6)
    assert fold_logits(parts[0], C).dtype == jnp.float32


def test_one_logit_teacher_is_two_classes():
    u, pi = TEACHER[:, :1], PI[:, :2]
    student = STUDENT[:, : 2 * S]
    for two in (np.concatenate([0 * u, u], axis=1), np.concatenate([-u / 2, u / 2], axis=1)):
        assert pseudo_class_loss(student, u, pi, temperature=2.0) == pytest.approx(float(pseudo_class_loss(student, two, pi, temperature=2.0)), rel=1e-5)
        np.testing.assert_allclose(joint_probs(u, pi, temperature=2.0), joint_probs(two, pi, temperature=2.0), rtol=1e-5)


def test_multi_label_loss_is_the_mean_over_the_labels_that_count():
    labels = np.stack([LABELS == 0, LABELS == 1, LABELS == 2], axis=1)
    subspaces = fit_label_subspaces(
        [(EMBEDDING, labels, np.ones_like(labels))], num_labels=3, num_subclasses=S, classifier_kernel=KERNEL, key=jax.random.key(0)
    )
    pi = np.asarray(subclass_probs(subspaces, EMBEDDING[:B]))
    student = RNG.standard_normal((B, 3 * 2 * S)).astype(np.float32)
    expected = np.zeros((B, 3))
    for label in range(3):
        p = 1 / (1 + np.exp(-TEACHER[:, label].astype(np.float64)))
        target = np.stack([1 - p, p], axis=1)[:, :, None] * pi[:, 2 * label : 2 * label + 2]
        q = softmax(student[:, label * 2 * S : (label + 1) * 2 * S].astype(np.float64), axis=1)
        expected[:, label] = rel_entr(target.reshape(B, -1), q).sum(axis=1)
    assert multilabel_pseudo_class_loss(student, TEACHER, pi) == pytest.approx(expected.mean(), rel=1e-5)
    counts, rows = np.random.default_rng(3).random((B, 3)) < 0.6, np.arange(B) < 10
    loss = multilabel_pseudo_class_loss(student, TEACHER, pi, label_mask=counts, where=rows)
    assert loss == pytest.approx(expected[counts & rows[:, None]].mean(), rel=1e-5)
    present = softmax(student.reshape(B, 3, 2 * S), axis=2)[:, :, S:].sum(axis=2)
    np.testing.assert_allclose(1 / (1 + np.exp(-fold_label_logits(student, 3))), present, rtol=1e-5)
    with pytest.raises(ConfigError, match="are needed"):
        multilabel_pseudo_class_loss(student, TEACHER, pi[:, :4])


def test_splitting_the_batch_does_not_change_the_multi_label_loss():
    rng = np.random.default_rng(5)
    parts = rng.standard_normal((B, C * 2 * S)), TEACHER, softmax(rng.standard_normal((B, 2 * C, S)), axis=-1), rng.random((B, C)) < 0.6, np.arange(B) < 13

    def loss(student, teacher, pi, counts, rows, axis_name=None):
        return multilabel_pseudo_class_loss(student, teacher, pi, label_mask=counts, where=rows, axis_name=axis_name)

    halves = jax.vmap(functools.partial(loss, axis_name="data"), axis_name="data")(*(x.reshape(2, B // 2, *x.shape[1:]) for x in parts))
    np.testing.assert_allclose(halves, np.full(2, loss(*parts)), rtol=1e-6)


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_multi_label_loss_with_one_subclass_is_distillation_label_by_label(tau):
    student = RNG.standard_normal((B, C * 2)).astype(np.float32)
    counts = np.random.default_rng(4).random((B, C)) < 0.6
    expected = bernoulli_kd(fold_label_logits(student, C), TEACHER, counts, temperature=tau)
    loss = multilabel_pseudo_class_loss(student, TEACHER, np.ones((B, 2 * C, 1)), label_mask=counts, temperature=tau)
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_targets_work_in_jit_vmap_and_on_parts_of_the_rows():
    whole = np.asarray(subclass_probs(fit(), EMBEDDING))
    np.testing.assert_allclose(jax.jit(subclass_probs)(fit(), EMBEDDING), whole, atol=1e-6)
    parts = jax.vmap(lambda rows: subclass_probs(fit(), rows))(EMBEDDING.reshape(4, 50, D))
    np.testing.assert_allclose(np.reshape(parts, whole.shape), whole, atol=1e-6)
    np.testing.assert_allclose(log_softmax(np.asarray(project_coordinates(fit(), EMBEDDING)), axis=-1), np.log(whole), atol=1e-4)
    gradient = jax.grad(lambda h: jnp.sum(subclass_probs(fit(), h)[..., 0]))(jnp.asarray(EMBEDDING))
    assert np.all(np.isfinite(gradient)) and np.any(gradient != 0)


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (ConfigError, lambda: pseudo_class_loss(STUDENT[:, :11], TEACHER, PI), r"\[16, 12\] and \[16, 3\] are needed"),
        (ConfigError, lambda: pseudo_class_loss(STUDENT, TEACHER[:3], PI), "do not fit"),
        (ConfigError, lambda: pseudo_class_loss(STUDENT, TEACHER, PI, temperature_on="student"), "Valid: both, teacher"),
        (DataError, lambda: pseudo_class_loss(STUDENT, TEACHER[:, :2], PI), "2 columns, but there are 3 classes"),
        (DataError, lambda: pseudo_class_probs(fit(), EMBEDDING[:5], TEACHER), "16 rows of teacher logits came with 5 rows"),
        (DataError, lambda: pseudo_class_probs(fit(), EMBEDDING[:, :5], TEACHER), "do not fit subspaces of width 10"),
        (ConfigError, lambda: multilabel_pseudo_class_loss(STUDENT, TEACHER, np.ones((B, 6, 4))), r"student logits \(16, 12\).*\[B, L \* 2 \* S\], \[B, L\]"),
        (ConfigError, lambda: multilabel_pseudo_class_loss(STUDENT, TEACHER[:, 0], np.ones((B, 6, 2))), r"teacher logits \(16,\)"),
        (ConfigError, lambda: multilabel_pseudo_class_loss(STUDENT, TEACHER, np.ones((B, 12))), r"subclass probabilities \(16, 12\)"),
        (DataError, lambda: pseudo_class_loss(STUDENT, TEACHER, PI.reshape(B, -1)), r"shape \(16, 12\) were given where \[n, C, S\]"),
        (ConfigError, lambda: fold_logits(STUDENT, 0), "is 0: pass an integer, at least 1"),
        (ConfigError, lambda: fold_logits(STUDENT, 5), "12 outputs, which do not divide over 5 classes"),
    ],
)
def test_bad_input_is_refused_by_name(error, call, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("value", [0, 0.0, -1.0, np.nan, np.inf, np.float32(0)])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("subclass_temperature", lambda value: subclass_probs(fit(), EMBEDDING, subclass_temperature=value)),
        ("temperature", lambda value: joint_probs(TEACHER, PI, temperature=value)),
        ("temperature", lambda value: pseudo_class_loss(STUDENT, TEACHER, PI, temperature=value)),
    ],
)
def test_a_temperature_is_finite_and_above_zero(name, call, value):
    with pytest.raises(ConfigError, match=f"^{name} is {value}: .* a finite number above 0"):
        call(value)


def test_a_traced_temperature_passes():
    traced = jax.jit(lambda tau: joint_probs(TEACHER, PI, temperature=tau))(2.0)
    np.testing.assert_allclose(traced, joint(2.0).reshape(B, -1), rtol=1e-5)
