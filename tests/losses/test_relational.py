import functools

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from jaxkd.errors import ConfigError
from jaxkd.losses import cka, pkt, rkd, similarity_preserving
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
    """Above 161 rows the anchors no longer go through at once."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((170, 4)), rng.standard_normal((170, 3))
    np.testing.assert_allclose(rkd(x, y), formulas.relational(x, y), rtol=1e-5)


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
