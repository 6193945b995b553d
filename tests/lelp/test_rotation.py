import jax
import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import kstest

from jaxkd.errors import ConfigError
from jaxkd.lelp.rotation import coordinate_map, equalising_rotation, haar_rotation, simplex_frame

SPECTRA = [np.array([10, 5, 1, 0.5, 0.1]), 1 / np.arange(1, 17), np.ones(4), np.array([3.0, 0, 0]), np.array([2.0, 1.0]), np.array([1.0])]


@pytest.mark.parametrize("variances", SPECTRA, ids=len)
def test_equaliser_makes_all_variances_the_mean(variances):
    rotation = equalising_rotation(variances)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(len(variances)), atol=1e-14)
    diagonal = np.diagonal(rotation.T @ np.diag(variances) @ rotation)
    np.testing.assert_allclose(diagonal, variances.mean(), rtol=1e-13)


def test_haar_rotation_has_the_law_of_a_uniform_column():
    """An entry squared of a Haar matrix follows Beta(1/2, (S - 1) / 2); without the sign of R the corner would never be positive or never negative."""
    size = 4
    matrices = np.stack([haar_rotation(jax.random.key(seed), size) for seed in range(400)])
    np.testing.assert_allclose(np.einsum("nij,nik->njk", matrices, matrices), np.tile(np.eye(size), (400, 1, 1)), atol=1e-13)
    for i, j in ((0, 0), (1, 3), (3, 2)):
        assert kstest(matrices[:, i, j] ** 2, "beta", args=(0.5, (size - 1) / 2)).pvalue > 1e-3
        assert 0.4 < np.mean(matrices[:, i, j] > 0) < 0.6


def test_haar_rotation_evens_out_the_variances_in_expectation():
    variances = SPECTRA[0]
    turned = [np.diagonal(q.T @ np.diag(variances) @ q) for q in (haar_rotation(jax.random.key(seed), 5) for seed in range(600))]
    np.testing.assert_allclose(np.mean(turned, axis=0), variances.mean(), rtol=0.1)
    assert 4 < np.median(np.max(turned, axis=1) / np.min(turned, axis=1)) < 9  # 100 before


@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_simplex_frame_carries_its_coordinates_through_a_softmax(size):
    frame = simplex_frame(size)
    np.testing.assert_allclose(frame.T @ frame, np.eye(size - 1), atol=1e-15)
    np.testing.assert_allclose(frame.sum(axis=0), 0, atol=1e-15)
    y = np.random.default_rng(0).standard_normal((6, size - 1))
    np.testing.assert_allclose(log_softmax(y @ frame.T, axis=1) @ frame, y, atol=1e-14)


def test_maps_have_the_shape_of_their_kind():
    variances = np.array([3.0, 2.0, 1.0])
    assert coordinate_map(variances, rotation="off", simplex=False, key=None).tolist() == np.eye(3).tolist()
    assert coordinate_map(variances, rotation="haar", simplex=True, key=jax.random.key(0)).shape == (3, 4)
    assert coordinate_map(variances[:0], rotation="equal", simplex=True, key=None).shape == (0, 1)
    with pytest.raises(ConfigError, match="pass key"):
        coordinate_map(variances, rotation="haar", simplex=False, key=None)
    with pytest.raises(ConfigError, match="Did you mean 'haar'"):
        coordinate_map(variances, rotation="har", simplex=False, key=None)
