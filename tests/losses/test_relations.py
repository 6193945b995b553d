import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from jaxkd.errors import ConfigError
from jaxkd.losses import (
    EAST_EPS,
    align_time,
    cka,
    cosine_distance_correlation_loss,
    cosine_distance_difference,
    distance_correlation_loss,
    distance_correlation_sqr,
)
from tests.dcor_oracle import dcor

Z = np.array([[0, 0], [1, 0], [0, 2], [3, 1]], np.float64)
E = np.array([[1, 0, 2], [3, 1, 0], [2, 2, 2], [0, 1, 5]], np.float64)
ORACLES = {False: dcor.distance_correlation_sqr, True: dcor.u_distance_correlation_sqr}

both_statistics = pytest.mark.parametrize("bias_corrected", [False, True], ids=["plain", "corrected"])


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Two views of 256 digits, standardised: a wide noisy one and its leading components."""
    images = load_digits().data[:256]
    rng = np.random.default_rng(0)
    wide = images @ rng.standard_normal((64, 256)) + 20 * rng.standard_normal((256, 256))
    narrow = PCA(32, random_state=0).fit_transform(images)
    return tuple((x - x.mean(axis=0)) / x.std(axis=0) for x in (wide, narrow))


def test_known_values():
    with jax.enable_x64(True):
        assert distance_correlation_sqr(Z, E) == pytest.approx(0.8079843294, abs=1e-10)
        assert distance_correlation_sqr(Z, E, eps=EAST_EPS) == pytest.approx(0.8079842198, abs=1e-10)
        assert distance_correlation_loss(Z, E, eps=EAST_EPS) == pytest.approx(0.1920157802, abs=1e-10)
        assert cosine_distance_difference(Z + 1, E) == pytest.approx(0.2130985232, abs=1e-10)
    assert distance_correlation_loss(Z, E, eps=EAST_EPS) == pytest.approx(0.1920157802, abs=1e-6)


def test_gram_matrices_in_place_of_distances_are_kernel_alignment_and_take_the_constant_of_east(pair):
    x, y = (side.astype(np.float32) for side in pair)
    np.testing.assert_allclose(cosine_distance_correlation_loss(x, y), cka(x, y), rtol=1e-5)
    a, b = (dcor.double_centered(1e-3 * side @ (1e-3 * side).T) for side in (Z, E))
    expected = 1 - np.mean(a * b) / np.sqrt(np.mean(a * a) * np.mean(b * b) + 1e-9)
    with jax.enable_x64(True):
        assert cosine_distance_correlation_loss(1e-3 * Z, 1e-3 * E, eps=EAST_EPS) == pytest.approx(expected, rel=1e-12)
    assert expected > 0.99


@pytest.mark.parametrize("group_size", [4, 6, 8])
@pytest.mark.parametrize("loss", [distance_correlation_loss, cosine_distance_correlation_loss, cosine_distance_difference])
def test_every_relation_has_groups_on_the_global_batch(loss, group_size):
    """Each device has 4 rows: groups of 4 are those of one, groups of 6 straddle them, groups of 8 are of two, but for the last. A row is left out."""
    rng = np.random.default_rng(11)
    z, e, where = rng.standard_normal((12, 1, 3)), rng.standard_normal((12, 1, 6)), np.arange(12) != 7

    def by_groups(z):
        groups = [np.arange(first, min(first + group_size, 12)) for first in range(0, 12, group_size)]
        counted = [rows[where[rows]] for rows in groups if where[rows].sum() >= 2]
        return sum(len(rows) * loss(z[rows], e[rows]) for rows in counted) / sum(map(len, counted))

    def of_device(z, e, rows):
        return jax.value_and_grad(loss)(z, e, group_size=group_size, where=rows, axis_name="devices")

    expected, gradient = jax.jit(jax.value_and_grad(by_groups))(z.astype(np.float32))
    parts = z.reshape(3, 4, 1, 3), e.reshape(3, 4, 1, 6), where.reshape(3, 4)
    values, gradients = jax.jit(jax.vmap(of_device, axis_name="devices"))(*parts)
    np.testing.assert_allclose(values, np.full(3, expected), rtol=1e-5)
    np.testing.assert_allclose(gradients.reshape(12, 1, 3) / 3, gradient, rtol=1e-4, atol=1e-6)


@both_statistics
@pytest.mark.parametrize("change", [lambda x: x, lambda x: x + 100, lambda x: 1 + 1e-3 * x], ids=["standardised", "shifted", "nearly collapsed"])
def test_float32_is_accurate(pair, change, bias_corrected):
    """The oracle sees the same rounded inputs, in float64; the gradient comes from automatic differentiation of the textbook form."""
    x, y = (change(side).astype(np.float32) for side in pair)
    value, gradients = jax.jit(jax.value_and_grad(distance_correlation_sqr_of(bias_corrected), argnums=(0, 1)))(x, y)
    assert abs(value - ORACLES[bias_corrected](x.astype(np.float64), y.astype(np.float64))) < 1e-6
    with jax.enable_x64(True):
        exact = jax.jit(jax.grad(lambda a, b: textbook(a, b, bias_corrected), argnums=(0, 1)))(x.astype(np.float64), y.astype(np.float64))
    for gradient, truth in zip(gradients, exact, strict=True):
        assert np.linalg.norm(np.asarray(gradient) - np.asarray(truth)) < 1e-5 * np.linalg.norm(truth)


@pytest.mark.parametrize("scale", [1, 1e-2, 1e-4])
def test_float32_is_accurate_with_the_constants_of_east(pair, scale):
    """In the published recipe they are felt where features are small; the oracle has EAsT's own form, constants and all, in float64."""
    x, y = ((scale * side).astype(np.float32) for side in pair)

    def east(a, b):
        distances = [jnp.sqrt(jnp.sum((side[:, None] - side[None]) ** 2, axis=-1) + EAST_EPS[0]) for side in (a, b)]
        a, b = (d - d.mean(axis=0) - d.mean(axis=1)[:, None] + d.mean() for d in distances)
        return jnp.mean(a * b) / jnp.sqrt(jnp.mean(a * a) * jnp.mean(b * b) + EAST_EPS[1])

    value, gradients = jax.jit(jax.value_and_grad(lambda a, b: distance_correlation_sqr(a, b, eps=EAST_EPS), argnums=(0, 1)))(x, y)
    with jax.enable_x64(True):
        truth, exact = jax.jit(jax.value_and_grad(east, argnums=(0, 1)))(x.astype(np.float64), y.astype(np.float64))
    assert abs(float(value) - float(truth)) < 1e-6
    for gradient, true in zip(gradients, exact, strict=True):
        assert np.linalg.norm(np.asarray(gradient) - np.asarray(true)) < 1e-5 * np.linalg.norm(true)


def distance_correlation_sqr_of(bias_corrected: bool):
    return lambda x, y: distance_correlation_sqr(x, y, bias_corrected=bias_corrected)


def textbook(x, y, bias_corrected):
    n = len(x)

    def centred(points):
        squared = jnp.sum((points[:, None] - points[None]) ** 2, axis=-1)
        distances = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
        if bias_corrected:
            by_row = distances.sum(axis=1) / (n - 2)
            return (distances - by_row[:, None] - by_row + distances.sum() / ((n - 1) * (n - 2))) * (1 - jnp.eye(n))
        return distances - distances.mean(axis=0) - distances.mean(axis=1)[:, None] + distances.mean()

    a, b = centred(x), centred(y)
    return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))


@both_statistics
def test_translation_rotation_and_scale_change_nothing(pair, bias_corrected):
    x, y = (side.astype(np.float32) for side in pair)
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((x.shape[1], x.shape[1])))[0].astype(np.float32)
    value = distance_correlation_sqr(x, y, bias_corrected=bias_corrected)
    for moved in (x + 7, x @ rotation, 1e-20 * x, 1e15 * x):
        np.testing.assert_allclose(distance_correlation_sqr(moved, y, bias_corrected=bias_corrected), value, rtol=3e-6)


@both_statistics
def test_gradient_ignores_translation_and_scale_direction(pair, bias_corrected):
    x, y = (side[:64].astype(np.float32) for side in pair)
    gradient = jax.jit(jax.grad(distance_correlation_sqr_of(bias_corrected)))(x, y)
    size = np.linalg.norm(gradient)
    assert np.linalg.norm(np.sum(gradient, axis=0)) < 1e-5 * size
    assert abs(np.sum(gradient * x)) < 1e-5 * size * np.linalg.norm(x)


def test_plain_statistic_is_nearly_blind_in_high_dimension_and_the_corrected_is_not():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((20, 16, 256)), rng.standard_normal((20, 16, 768))
    plain, corrected = (jax.vmap(distance_correlation_sqr_of(bias_corrected))(x, y) for bias_corrected in (False, True))
    assert np.mean(plain) == pytest.approx(0.990, abs=0.002)
    assert abs(np.mean(corrected)) < 3 * np.std(corrected) / np.sqrt(20)


@both_statistics
@pytest.mark.parametrize("eps", [None, EAST_EPS], ids=["scale-free", "absolute"])
def test_collapsed_student_has_value_and_gradient_zero(bias_corrected, eps):
    x = np.full((8, 3), 0.1, np.float32)
    y = np.random.default_rng(4).standard_normal((8, 5)).astype(np.float32)
    value, gradient = jax.jit(jax.value_and_grad(lambda a: distance_correlation_sqr(a, y, bias_corrected=bias_corrected, eps=eps)))(x)
    assert abs(value) < 1e-4
    assert np.all(gradient == 0)


def test_equal_rows_add_no_gradient():
    x = np.random.default_rng(5).standard_normal((6, 4)).astype(np.float32)
    x[1] = x[0]
    y = np.random.default_rng(6).standard_normal((6, 4)).astype(np.float32)
    y[1] = y[0]
    gradient = jax.jit(jax.grad(distance_correlation_sqr_of(False)))(x, y)
    np.testing.assert_allclose(gradient[0], gradient[1], rtol=1e-5)
    assert np.linalg.norm(gradient) > 1e-3


def test_too_few_rows_for_the_corrected_statistic_is_zero():
    assert distance_correlation_sqr(Z[:3], E[:3], bias_corrected=True) == 0
    assert distance_correlation_sqr(Z[:1], E[:1]) == 0


def _products(loss, argnums, *sides) -> int:
    """Matrix products in the compiled gradient."""
    return jax.jit(jax.grad(loss, argnums=argnums)).lower(*sides).compile().as_text().count(" dot(")


def test_gradient_of_an_unused_side_costs_no_matrix_product(pair):
    """Distances of both sides, and one more product for each side whose gradient is asked for."""
    x, y = (side.astype(np.float32) for side in pair)
    assert [_products(distance_correlation_loss, argnums, x, y) for argnums in (0, 1, (0, 1))] == [3, 3, 4]


def test_distances_of_an_embedding_are_computed_once_for_several_stages():
    """Of each stage its distances and their gradient; of the embedding, which the stages share, its distances alone."""
    rng = np.random.default_rng(12)
    stages, embedding = [rng.standard_normal((8, 3, width)).astype(np.float32) for width in (4, 5, 6)], rng.standard_normal((8, 3, 7)).astype(np.float32)

    def all_stages(stages, embedding):
        return sum(distance_correlation_loss(*align_time(stage, embedding), eps=EAST_EPS) for stage in stages)

    assert _products(all_stages, 0, stages, embedding) == 2 * 3 + 1


def test_without_a_time_axis_there_is_one_frame():
    assert distance_correlation_loss(Z, E) == distance_correlation_loss(Z[:, None], E[:, None])


@both_statistics
def test_groups_are_weighted_by_rows_and_the_remainder_is_kept(bias_corrected):
    rng = np.random.default_rng(7)
    z, e = rng.standard_normal((21, 1, 3)), rng.standard_normal((21, 1, 6))
    groups = [slice(0, 8), slice(8, 16), slice(16, 21)]
    expected = np.average([1 - ORACLES[bias_corrected](z[g, 0], e[g, 0]) for g in groups], weights=[8, 8, 5])
    np.testing.assert_allclose(distance_correlation_loss(z, e, group_size=8, bias_corrected=bias_corrected), expected, rtol=1e-5)


@pytest.mark.parametrize(("bias_corrected", "remainder"), [(False, 1), (True, 3)])
def test_a_remainder_that_is_too_small_is_left_out(bias_corrected, remainder):
    rng = np.random.default_rng(8)
    z, e = rng.standard_normal((16 + remainder, 3)), rng.standard_normal((16 + remainder, 6))
    kept = distance_correlation_loss(z[:16], e[:16], group_size=8, bias_corrected=bias_corrected)
    np.testing.assert_allclose(distance_correlation_loss(z, e, group_size=8, bias_corrected=bias_corrected), kept, rtol=1e-6)


def test_masked_rows_are_left_out_of_their_group():
    rng = np.random.default_rng(9)
    z, e = rng.standard_normal((12, 3)), rng.standard_normal((12, 6))
    where = np.ones(12, bool)
    where[[1, 6, 7, 8]] = False
    first, second = [0, 2, 3, 4, 5], [9, 10, 11]
    expected = np.average([1 - dcor.distance_correlation_sqr(z[g], e[g]) for g in (first, second)], weights=[5, 3])
    np.testing.assert_allclose(jax.jit(lambda rows: distance_correlation_loss(z, e, group_size=6, where=rows))(where), expected, rtol=1e-5)


def test_groups_do_not_change_with_the_number_of_devices():
    """Groups of 6 straddle the parts of 4 rows that each device holds."""
    rng = np.random.default_rng(10)
    z, e = rng.standard_normal((12, 2, 3)), rng.standard_normal((12, 2, 6))
    expected = distance_correlation_loss(z, e, group_size=6)
    parts = z.reshape(3, 4, 2, 3), e.reshape(3, 4, 2, 6)
    values = jax.jit(jax.vmap(lambda a, b: distance_correlation_loss(a, b, group_size=6, axis_name="devices"), axis_name="devices"))(*parts)
    np.testing.assert_allclose(values, np.full(3, expected), rtol=1e-6)


def test_a_group_larger_than_the_batch_is_the_batch():
    np.testing.assert_allclose(distance_correlation_loss(Z, E, group_size=16), distance_correlation_loss(Z, E), rtol=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distance_correlation_sqr(Z, E[:3]), r"\(4, 2\) and \(3, 3\)"),
        (lambda: distance_correlation_loss(Z[:, None], np.zeros((4, 2, 3))), "align_time"),
        (lambda: distance_correlation_loss(Z, E, group_size=3, bias_corrected=True), "group_size is 3.*at least 4"),
        (lambda: cosine_distance_difference(Z, E, difference="square"), r"unknown difference 'square'\. Did you mean 'squared'\? Valid: absolute, squared"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
