import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from jaxkd.errors import ConfigError
from jaxkd.losses import class_groups, crd_in_batch, crd_loss, init_memory, sample_negatives
from tests.losses import formulas

ROWS, WIDTH = 20, 6
RNG = np.random.default_rng(0)
STUDENT, TEACHER = (RNG.standard_normal((8, WIDTH)).astype(np.float32) for _ in range(2))
CLASSES = np.array([0, 1, 2, 0] * 5)
INDEX = np.array([3, 17, 0, 9, 4, 12, 7, 1])
MEMORY = init_memory(jax.random.key(0), ROWS, WIDTH)
GROUPS = class_groups(CLASSES)
NEGATIVES = np.asarray(sample_negatives(jax.random.key(1), GROUPS, INDEX, 5))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def expected_loss(memory, student, teacher, z=(None, None)) -> float:
    banks = np.asarray(memory.teacher, np.float64), np.asarray(memory.student, np.float64)
    return sum(
        formulas.memory_contrast(side.astype(np.float64), bank, INDEX, NEGATIVES, constant)
        for side, bank, constant in zip((student, teacher), banks, z, strict=True)
    )


def step(student, teacher, memory, *, index=INDEX, momentum=0.5, where=None):
    """One form of call, so that it is compiled once."""
    return crd_loss(student, teacher, memory, index, NEGATIVES, momentum=momentum, where=np.ones(8, bool) if where is None else where)


def test_pairs_that_match_are_told_apart():
    basis = np.eye(WIDTH, dtype=np.float32)
    np.testing.assert_allclose(crd_in_batch(basis, basis), np.log1p((WIDTH - 1) * np.exp(-1 / 0.07)), atol=1e-6)
    np.testing.assert_allclose(crd_in_batch(basis, np.roll(basis, 1, axis=0)), 1 / 0.07 + np.log1p((WIDTH - 1) * np.exp(-1 / 0.07)), rtol=1e-6)


def test_in_batch_loss_is_that_of_the_formula():
    expected = formulas.info_nce(STUDENT.astype(np.float64), TEACHER.astype(np.float64), np.ones((8, 8), bool))
    np.testing.assert_allclose(crd_in_batch(STUDENT, TEACHER), expected, rtol=1e-5)


def test_rows_of_the_same_class_are_no_negatives_in_the_batch():
    classes = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    assert crd_in_batch(STUDENT, TEACHER, classes=classes) < crd_in_batch(STUDENT, TEACHER)
    assert crd_in_batch(STUDENT, TEACHER, classes=np.zeros(8, int)) == 0
    np.testing.assert_allclose(crd_in_batch(STUDENT, TEACHER, classes=np.arange(8)), crd_in_batch(STUDENT, TEACHER), rtol=1e-6)


def test_memory_starts_with_unit_rows():
    assert MEMORY.student.shape == MEMORY.teacher.shape == (ROWS, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(MEMORY.student, axis=1), np.ones(ROWS), rtol=1e-6)
    assert not np.allclose(MEMORY.student, MEMORY.teacher)


def test_first_batch_sets_z_which_then_stays():
    loss, after = step(STUDENT, TEACHER, MEMORY)
    np.testing.assert_allclose(loss, expected_loss(MEMORY, STUDENT, TEACHER), rtol=1e-5)
    chosen = np.concatenate([INDEX[:, None], NEGATIVES], axis=1)
    z = [
        ROWS * np.exp(np.einsum("bd,bmd->bm", unit(side), bank[chosen]) / 0.07).mean() for side, bank in ((STUDENT, MEMORY.teacher), (TEACHER, MEMORY.student))
    ]
    np.testing.assert_allclose([after.student_z, after.teacher_z], z, rtol=1e-5)
    loss, later = step(2 * TEACHER, STUDENT, after)
    np.testing.assert_allclose(loss, expected_loss(after, TEACHER, STUDENT, z=z), rtol=1e-5)
    assert (later.student_z, later.teacher_z) == (after.student_z, after.teacher_z)


def test_rows_of_the_batch_are_remembered_with_momentum():
    _, after = step(STUDENT, TEACHER, MEMORY, momentum=0.75)
    expected = np.array(MEMORY.student)
    expected[INDEX] = unit(0.75 * expected[INDEX] + 0.25 * unit(STUDENT))
    np.testing.assert_allclose(after.student, expected, rtol=1e-5, atol=1e-6)
    _, fresh = step(STUDENT, TEACHER, MEMORY, momentum=0.0)
    np.testing.assert_allclose(np.asarray(fresh.teacher)[INDEX], unit(TEACHER), rtol=1e-5, atol=1e-6)


def test_masked_rows_are_not_remembered_and_of_repeated_ones_the_first_is():
    where = np.arange(8) >= 2
    index = INDEX.copy()
    index[[0, 4, 6]] = 5
    student = np.where(where[:, None], STUDENT, np.nan)
    _, after = step(student, TEACHER, MEMORY, index=index, momentum=0.0, where=where)
    expected = np.array(MEMORY.student)
    expected[index[[2, 3, 4, 5, 7]]] = unit(STUDENT[[2, 3, 4, 5, 7]])
    np.testing.assert_allclose(after.student, expected, rtol=1e-5, atol=1e-6)


def test_a_batch_without_rows_leaves_the_memory_as_it_is():
    loss, after = step(STUDENT, TEACHER, MEMORY, where=np.zeros(8, bool))
    assert loss == 0
    jax.tree.map(np.testing.assert_array_equal, after, MEMORY)


def test_no_gradient_flows_into_or_out_of_the_memory():
    def remembered(student, teacher, bank):
        loss, after = crd_loss(student, teacher, MEMORY._replace(teacher=bank), INDEX, NEGATIVES)
        return loss, sum(jnp.sum(x) for x in after[:2])

    through_loss = jax.jit(jax.grad(lambda *args: remembered(*args)[0], argnums=(0, 1, 2)))(STUDENT, TEACHER, MEMORY.teacher)
    assert np.all(through_loss[2] == 0)
    assert all(np.linalg.norm(side) > 1e-3 for side in through_loss[:2])
    through_memory = jax.jit(jax.grad(lambda *args: remembered(*args)[1], argnums=(0, 1)))(STUDENT, TEACHER, MEMORY.teacher)
    assert all(np.all(side == 0) for side in through_memory)


def test_a_bank_that_is_large_for_the_negatives_gives_the_same():
    """Here rows are copied; above the whole bank is multiplied."""
    memory = init_memory(jax.random.key(2), 200, WIDTH)
    loss, _ = step(STUDENT, TEACHER, memory)
    np.testing.assert_allclose(loss, expected_loss(memory, STUDENT, TEACHER), rtol=1e-5)


def test_every_device_has_the_memory_of_the_global_batch():
    where = np.arange(8) != 5
    loss, after = step(STUDENT, TEACHER, MEMORY, where=where)
    parts = [x.reshape((4, 2, *x.shape[1:])) for x in (STUDENT, TEACHER, INDEX, NEGATIVES, where)]

    def local(student, teacher, index, negatives, rows):
        return crd_loss(student, teacher, MEMORY, index, negatives, where=rows, axis_name="devices")

    values, memories = jax.jit(jax.vmap(local, axis_name="devices"))(*parts)
    np.testing.assert_allclose(values, np.full(4, loss), rtol=1e-6)
    for device in range(4):
        jax.tree.map(lambda x, y, d=device: np.testing.assert_allclose(x[d], y, rtol=1e-6), memories, after)


def test_negatives_are_uniform_over_the_rows_of_other_classes():
    drawn = np.asarray(sample_negatives(jax.random.key(3), GROUPS, np.arange(ROWS), 4000))
    for row in range(ROWS):
        counts = np.bincount(drawn[row], minlength=ROWS)
        others = CLASSES[row] != CLASSES
        assert np.all(counts[~others] == 0)
        assert chisquare(counts[others]).pvalue > 1e-4


def test_negatives_of_a_row_do_not_depend_on_the_rest_of_the_batch():
    again = sample_negatives(jax.random.key(1), GROUPS, INDEX[[5, 2]], 5)
    np.testing.assert_array_equal(again, NEGATIVES[[5, 2]])
    assert np.any(np.asarray(sample_negatives(jax.random.key(4), GROUPS, INDEX, 5)) != NEGATIVES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: crd_in_batch(STUDENT, TEACHER[:, :4]), r"\(8, 6\).*\(8, 4\).*project both"),
        (lambda: crd_in_batch(STUDENT, TEACHER, temperature=-0.07), r"temperature is -0\.07: .* above 0"),
        (lambda: crd_loss(STUDENT[:, :4], TEACHER[:, :4], MEMORY, INDEX, NEGATIVES), r"memory of width 6.*\(8, 4\)"),
        (lambda: crd_loss(STUDENT, TEACHER, MEMORY, INDEX[:3], NEGATIVES), r"\(3,\)"),
        (lambda: crd_loss(STUDENT, TEACHER, MEMORY, INDEX, NEGATIVES[:, :0]), r"m at least 1.*\(8, 0\)"),
        (lambda: crd_loss(STUDENT, TEACHER, MEMORY, INDEX, NEGATIVES, temperature=0.01), "temperature is 0.01.*0.02"),
        (lambda: class_groups(np.ones(7, int)), "7 rows have 1 class"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
