import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from jaxkd.errors import ConfigError
from jaxkd.losses import angles, cka, pkt, relational, rkd, similarity_preserving
from tests.losses import formulas

ALL = pytest.mark.parametrize("loss", [rkd, pkt, similarity_preserving, cka], ids=["rkd", "pkt", "similarity_preserving", "cka"])


@functools.cache
def compiled(loss):
    return jax.jit(jax.value_and_grad(loss))


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Two views of 40 digits: a noisy projection and the leading components."""
    images = load_digits().data[:40]
    rng = np.random.default_rng(0)
    noisy = images @ rng.standard_normal((64, 8)) + 20 * rng.standard_normal((40, 8))
    return noisy.astype(np.float32), PCA(8, random_state=0).fit_transform(images).astype(np.float32)


@ALL
def test_rotation_and_scale_change_nothing(pair, loss):
    x, y = pair
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0].astype(np.float32)
    for moved in (x @ rotation, 1e-20 * x, 1e12 * x):
        np.testing.assert_allclose(loss(moved, y), loss(x, y), rtol=1e-4)


@ALL
def test_zero_at_the_teacher(pair, loss):
    value, gradient = compiled(loss)(pair[0], 3 * pair[0])
    np.testing.assert_allclose(value, 0, atol=2e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize("loss", [rkd, cka])
def test_translation_changes_nothing(pair, loss):
    np.testing.assert_allclose(loss(pair[0] + 1000, pair[1]), loss(*pair), rtol=1e-3)


def test_angles_in_blocks_equal_the_formula():
    """Above 101 rows the anchors no longer go through at once."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((170, 4)), rng.standard_normal((170, 3))
    np.testing.assert_allclose(rkd(x, y), formulas.relational(x, y), rtol=1e-5)


def plain_angles(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean over all triplets, from the vectors between rows themselves."""

    def cosines(rows: jax.Array) -> jax.Array:
        legs = rows[None, :] - rows[:, None]
        lengths = jnp.sqrt(jnp.sum(legs**2, axis=-1, keepdims=True) + jnp.eye(len(rows))[:, :, None])
        return jnp.einsum("ijd,ikd->ijk", legs / lengths, legs / lengths, precision="highest")

    return jnp.mean(optax.losses.huber_loss(cosines(x), cosines(y)))


@pytest.mark.parametrize("at_once", [1, 3, 12])
def test_gradients_of_angles_are_those_of_the_plain_formula(pair, at_once, monkeypatch):
    """For both sides, and whether the anchors go through in one block or in several."""
    monkeypatch.setattr(angles, "_ENTRIES_AT_ONCE", at_once * 12**2)
    x, y = (jnp.asarray(side[:12] / side[:12].std()) for side in pair)
    ours = functools.partial(relational._rkd, weights=jnp.ones(12), axis_name=None, distance_weight=0.0, angle_weight=1.0)
    value, gradients = jax.value_and_grad(ours, argnums=(0, 1))(x, y)
    expected, expected_gradients = jax.value_and_grad(plain_angles, argnums=(0, 1))(x, y)
    np.testing.assert_allclose([value, ours(x, y)], 2 * [expected], rtol=1e-5)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-5 * np.abs(other).max())


def test_rkd_of_two_dtypes(pair):
    with jax.enable_x64(True):
        x, y = jnp.asarray(pair[0], jnp.float32), jnp.asarray(pair[1], jnp.float64)
        value, gradients = jax.value_and_grad(rkd, argnums=(0, 1))(x, y)
        assert [gradient.dtype for gradient in gradients] == [x.dtype, y.dtype]
    np.testing.assert_allclose(value, rkd(*pair), rtol=1e-5)


def test_parts_of_rkd_have_their_weights(pair):
    distances, angles = rkd(*pair, angle_weight=0.0), rkd(*pair, distance_weight=0.0)
    np.testing.assert_allclose(rkd(*pair), distances + angles, rtol=1e-5)
    np.testing.assert_allclose(rkd(*pair, distance_weight=50.0, angle_weight=25.0), 2 * distances + angles / 2, rtol=1e-5)


def test_known_angles_and_distances():
    """A right angle with legs 1 against three points on a line: worked by hand."""
    corner, line = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[0.0], [1.0], [2.0]])
    mean = (2 + 2**0.5) / 3
    differences = np.array([1 / mean - 0.75, 1 / mean - 1.5, 2**0.5 / mean - 0.75])
    at_points = (1 - 0.5) + (0.5**0.5 + 1 - 0.5) + (0.5**0.5 - 1) ** 2 / 2  # huber of 0 - 1, of cos 45 - (-1), of cos 45 - 1
    distances, angles = 2 * np.sum(differences**2 / 2) / 9, 2 * at_points / 27
    np.testing.assert_allclose(rkd(corner, line, angle_weight=0.0), 25 * distances, rtol=1e-5)
    np.testing.assert_allclose(rkd(corner, line, distance_weight=0.0), 50 * angles, rtol=1e-5)


def test_groups_bound_distances_and_angles(pair):
    x, y = pair
    parts = [rkd(x[rows], y[rows]) for rows in (slice(0, 20), slice(20, 40))]
    np.testing.assert_allclose(rkd(x, y, group_size=20), np.mean(parts), rtol=1e-5)


@pytest.mark.parametrize(("loss", "value"), [(rkd, None), (cka, 1.0)])
def test_collapsed_student_has_no_gradient(pair, loss, value):
    collapsed = np.full((40, 8), 0.1, np.float32)
    found, gradient = compiled(loss)(collapsed, pair[1])
    assert np.all(gradient == 0)
    assert value is None or found == value


def test_equal_rows_are_not_driven_apart(pair):
    x = pair[0].copy()
    x[1] = x[0]
    y = pair[1].copy()
    y[1] = y[0]
    _, gradient = compiled(rkd)(x, y)
    np.testing.assert_allclose(gradient[0], gradient[1], rtol=1e-4, atol=1e-6 * np.abs(gradient).max())


@ALL
def test_bad_arguments_are_refused(pair, loss):
    with pytest.raises(ConfigError, match="features have 39 rows"):
        loss(pair[0][1:], pair[1])
    with pytest.raises(ConfigError, match="group_size is 1"):
        loss(*pair, group_size=1)
