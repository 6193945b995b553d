"""One suite for all losses: each entry must pass every test below."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import dcor
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, rel_entr
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances

from jaxkd import losses

B, T, P, Q, K = 12, 2, 5, 7, 4


def digits(rows: int, width: int, offset: int = 0) -> np.ndarray:
    """Rows of the digits data, centred and scaled, folded to `width` columns."""
    data = load_digits().data[offset : offset + rows]
    folded = data.reshape(rows, -1)[:, : 64 // width * width].reshape(rows, -1, width).mean(axis=1)
    return ((folded - folded.mean()) / folded.std()).astype(np.float32)


def frames(width: int) -> np.ndarray:
    return np.stack([digits(B, width, offset) for offset in (0, 40)], axis=1)


def matching(width: int) -> np.ndarray:
    return 0.5 * frames(width) + 0.5 * np.roll(frames(width), 1, axis=0)


def per_frame(statistic: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda x, y: float(np.mean([statistic(x[:, t], y[:, t]) for t in range(x.shape[1])]))


def flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])


def bernoulli_divergence(x: np.ndarray, y: np.ndarray) -> float:
    p, q = expit(x / 2), expit(y / 2)
    return float(4 * np.mean(rel_entr(q, p) + rel_entr(1 - q, 1 - p)))


class Case(NamedTuple):
    loss: Callable[..., jax.Array]
    student: np.ndarray
    teacher: np.ndarray
    oracle: Callable[[np.ndarray, np.ndarray], float]


LOGITS = 2 * digits(B, K)
CASES = {
    "distance_correlation": Case(losses.distance_correlation_loss, frames(P), frames(Q), per_frame(lambda x, y: 1 - dcor.distance_correlation_sqr(x, y))),
    "distance_correlation_corrected": Case(
        lambda *args, **kwargs: losses.distance_correlation_loss(*args, bias_corrected=True, **kwargs),
        frames(P),
        frames(Q),
        per_frame(lambda x, y: 1 - dcor.u_distance_correlation_sqr(x, y)),
    ),
    "cosine_distance_difference": Case(
        losses.cosine_distance_difference,
        frames(P),
        frames(Q),
        per_frame(lambda x, y: float(np.mean(np.abs(cosine_similarity(x) - cosine_similarity(y))))),
    ),
    "cosine_distance_difference_mse": Case(
        lambda *args, **kwargs: losses.cosine_distance_difference(*args, kind="mse", **kwargs),
        frames(P),
        frames(Q),
        per_frame(lambda x, y: float(np.mean((cosine_similarity(x) - cosine_similarity(y)) ** 2))),
    ),
    "fitnet": Case(losses.fitnet, frames(P), matching(P), lambda x, y: float(np.mean(np.linalg.norm(x - y, axis=-1) ** 2) / P)),
    "l2": Case(losses.l2, frames(P), matching(P), lambda x, y: float(np.mean(np.linalg.norm(x - y, axis=-1) ** 2) / P)),
    "cosine": Case(losses.cosine, frames(P), matching(P), lambda x, y: float(np.mean(paired_cosine_distances(flat(x), flat(y))))),
    "masked_bernoulli_cross_entropy": Case(
        losses.masked_bernoulli_cross_entropy,
        LOGITS,
        (np.roll(LOGITS, 1, axis=0) > 0).astype(np.float32),
        lambda x, y: float(np.mean([log_loss(y[:, k], expit(x[:, k]), labels=[0, 1]) for k in range(K)])),
    ),
    "bernoulli_kd": Case(losses.bernoulli_kd, LOGITS, np.roll(LOGITS, 1, axis=0), bernoulli_divergence),
}

pytestmark = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@functools.cache
def compiled(loss: Callable[..., jax.Array]):
    return jax.jit(jax.value_and_grad(lambda x, y, where: loss(x, y, where=where), argnums=(0, 1)))


def value_and_gradients(case: Case, student, teacher, where=None):
    return compiled(case.loss)(jnp.asarray(student), jnp.asarray(teacher), where)


def test_equals_the_oracle(case: Case):
    oracle = case.oracle(case.student.astype(np.float64), case.teacher.astype(np.float64))
    np.testing.assert_allclose(value_and_gradients(case, case.student, case.teacher)[0], oracle, rtol=2e-6)
    with jax.enable_x64(True):
        exact, _ = value_and_gradients(case, case.student.astype(np.float64), case.teacher.astype(np.float64))
        assert exact.dtype == jnp.float64
        np.testing.assert_allclose(exact, oracle, rtol=1e-12)


def test_gradient_is_that_of_finite_differences(case: Case):
    with jax.enable_x64(True):
        student, teacher = case.student.astype(np.float64), case.teacher.astype(np.float64)
        direction = np.random.default_rng(0).standard_normal(student.shape)
        step = 1e-6
        _, (gradient, _) = value_and_gradients(case, student, teacher)
        above, below = (value_and_gradients(case, student + sign * step * direction, teacher)[0] for sign in (1, -1))
        difference = (above - below) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-6)


def test_jit_changes_nothing(case: Case):
    where = np.arange(B) != 3
    value, _ = value_and_gradients(case, case.student, case.teacher, where)
    np.testing.assert_allclose(value, case.loss(case.student, case.teacher, where=where), rtol=1e-5)


def test_vmap_is_a_loop(case: Case):
    students = np.stack([case.student, np.roll(case.student, 2, axis=0)])
    mapped = jax.jit(jax.vmap(jax.value_and_grad(case.loss), in_axes=(0, None)))(students, case.teacher)
    for i, student in enumerate(students):
        value, (gradient, _) = value_and_gradients(case, student, case.teacher)
        np.testing.assert_allclose(mapped[0][i], value, rtol=1e-6)
        np.testing.assert_allclose(mapped[1][i], gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("rows", ["equal", "zero", "one", "two equal", "huge", "tiny"])
def test_gradient_is_finite_on_degenerate_rows(case: Case, rows: str):
    change = {
        "equal": lambda x: np.broadcast_to(x[:1], x.shape),
        "zero": np.zeros_like,
        "one": lambda x: x[:1],
        "two equal": lambda x: np.concatenate([x[:1], x[:-1]]),
        "huge": lambda x: x * np.float32(1e15),
        "tiny": lambda x: x * np.float32(1e-30),
    }[rows]
    teacher = case.teacher[:1] if rows == "one" else case.teacher
    for changed, other in ((change(case.student), teacher), (change(case.student), change(case.teacher))):
        value, gradients = value_and_gradients(case, changed, other)
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_all_masked_is_zero_with_zero_gradient(case: Case):
    value, gradients = value_and_gradients(case, case.student, case.teacher, where=np.zeros(B, bool))
    assert value == 0
    assert all(np.all(gradient == 0) for gradient in gradients)


def test_masked_rows_are_left_out_even_if_not_finite(case: Case):
    where = np.arange(B) % 3 != 1
    student, teacher = case.student.copy(), case.teacher.copy()
    student[~where], teacher[~where] = np.nan, np.inf
    value, (to_student, to_teacher) = value_and_gradients(case, student, teacher, where=where)
    kept, (kept_student, kept_teacher) = value_and_gradients(case, case.student[where], case.teacher[where])
    np.testing.assert_allclose(value, kept, rtol=1e-6)
    np.testing.assert_allclose(to_student[where], kept_student, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(to_teacher[where], kept_teacher, rtol=1e-4, atol=1e-7)
    assert np.all(to_student[~where] == 0)
    assert np.all(to_teacher[~where] == 0)


def test_bfloat16_inputs_are_computed_in_float32(case: Case):
    student, teacher = jnp.asarray(case.student, jnp.bfloat16), jnp.asarray(case.teacher, jnp.bfloat16)
    value, (gradient, _) = value_and_gradients(case, student, teacher)
    assert value.dtype == jnp.float32
    assert gradient.dtype == jnp.bfloat16
    in_float32, _ = value_and_gradients(case, student.astype(jnp.float32), teacher.astype(jnp.float32))
    np.testing.assert_allclose(value, in_float32, rtol=1e-6)


def test_order_of_rows_does_not_matter(case: Case):
    order = np.random.default_rng(1).permutation(B)
    value, _ = value_and_gradients(case, case.student, case.teacher)
    np.testing.assert_allclose(value_and_gradients(case, case.student[order], case.teacher[order])[0], value, rtol=1e-5)


def test_split_over_an_axis_it_is_the_global_loss(case: Case):
    """Uneven masks, so that a mean of local means would differ; gradients of shared parameters, averaged, are the global ones."""
    where = np.arange(B) >= 2
    mix = np.eye(case.student.shape[-1], dtype=np.float32) + 0.1

    def loss(weights, student, teacher, rows, **kwargs):
        return case.loss(student @ weights, teacher, where=rows, **kwargs)

    value, gradient = jax.jit(jax.value_and_grad(loss))(mix, case.student, case.teacher, where)
    split = [x.reshape((3, B // 3, *x.shape[1:])) for x in (case.student, case.teacher, where)]

    def local(student, teacher, rows):
        return jax.value_and_grad(lambda weights: loss(weights, student, teacher, rows, axis_name="devices"))(mix)

    values, gradients = jax.jit(jax.vmap(local, axis_name="devices"))(*split)
    np.testing.assert_allclose(values, np.full(3, value), rtol=1e-6)
    np.testing.assert_allclose(np.mean(gradients, axis=0), gradient, rtol=1e-4, atol=1e-7)
