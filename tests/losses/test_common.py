"""One suite for all losses: each entry must pass every test below."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses.cases import CASES, B, Case, flat

pytestmark = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@functools.cache
def compiled(loss: Callable[..., jax.Array]):
    return jax.jit(jax.value_and_grad(lambda x, y, where: loss(x, y, where=where), argnums=(0, 1)))


def value_and_gradients(case: Case, student, teacher, where=None):
    where = np.ones(len(student), bool) if where is None else where
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


def test_jit_and_a_mask_of_all_rows_change_nothing(case: Case):
    value, _ = value_and_gradients(case, case.student, case.teacher)
    np.testing.assert_allclose(value, case.loss(case.student, case.teacher), rtol=1e-5)


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

    value, (to_features, _) = value_and_gradients(case, case.student @ mix, case.teacher, where)
    gradient = flat(case.student).T @ flat(to_features)
    split = [x.reshape((3, B // 3, *x.shape[1:])) for x in (case.student, case.teacher, where)]

    def local(student, teacher, rows):
        return jax.value_and_grad(lambda weights: case.loss(student @ weights, teacher, where=rows, axis_name="devices"))(mix)

    values, gradients = jax.jit(jax.vmap(local, axis_name="devices"))(*split)
    np.testing.assert_allclose(values, np.full(3, value), rtol=1e-6)
    np.testing.assert_allclose(np.mean(gradients, axis=0), gradient, rtol=1e-4, atol=1e-7)
