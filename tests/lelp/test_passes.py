"""Subspaces from a few passes over the rows: those of the decomposed covariance, and a bound of the error that holds."""

import jax
import numpy as np
import pytest
from scipy.linalg import subspace_angles

from jaxkd.errors import ConfigError, DataError
from jaxkd.lelp import Again, fit_label_subspaces, fit_subspaces, passes, subspaces

DIM, CLASSES, SUBCLASSES = 200, 2, 4
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, CLASSES, 1500)
FACTORS = RNG.standard_normal((CLASSES, 20, DIM)) * np.arange(1, 21)[:, None] ** -0.5
EMBEDDING = np.einsum("nk,nkd->nd", RNG.standard_normal((1500, 20)), FACTORS[LABELS]) + 0.5 * RNG.standard_normal((1500, DIM)) + 7
KERNEL = RNG.standard_normal((DIM, CLASSES))


def fit(solver="randomized", embedding=EMBEDDING, batches=None, **options):
    options = {"num_classes": CLASSES, "num_subclasses": SUBCLASSES, "classifier_kernel": KERNEL, "rotation": "off", "key": None} | options
    embedding = embedding.astype(options.pop("dtype", np.float32))
    parts = [(embedding[i : i + 400], LABELS[i : i + 400]) for i in range(0, len(LABELS), 400)]
    return fit_subspaces(batches(parts) if batches else parts, solver=solver, **options)


def sines(found, dtype=np.float32):
    """Of each class, to the eigenvectors of the projected covariance in float64."""
    outside = np.eye(DIM) - KERNEL @ np.linalg.pinv(KERNEL)
    rows = EMBEDDING.astype(dtype).astype(np.float64)
    exact = [np.linalg.eigh(outside @ np.cov(rows[c == LABELS].T) @ outside)[1][:, -SUBCLASSES:] for c in range(CLASSES)]
    return np.array([np.sin(subspace_angles(own.astype(np.float64), true)).max() for own, true in zip(found.directions, exact, strict=True)])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_subspaces_are_those_of_the_decomposed_covariance(dtype, capsys):
    found, exact = fit(dtype=dtype), fit("covariance", dtype=dtype)
    assert np.all(sines(found, dtype) < 1e-4) and np.all(found.sine <= passes.SINE) and np.all(exact.sine == 0)
    for name in ("mean", "eigenvalues", "scale", "counts", "valid"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("count", [1, 2])
def test_the_error_of_too_few_passes_is_measured_and_told(monkeypatch, capsys, count):
    monkeypatch.setattr(passes, "PASSES", count)
    found = fit()
    assert np.all(sines(found) <= found.sine) and found.sine.max() > passes.SINE
    assert f"after {count + 1} passes over the rows the directions of class {np.argmax(found.sine)} are known up to an angle of sine" in capsys.readouterr().err


def test_flat_classes_and_a_space_that_is_used_up():
    """Twenty dimensions hold no second block; one class has two directions only."""
    embedding = np.where(LABELS[:, None] == 0, EMBEDDING[:, :20], EMBEDDING[:, :2] @ FACTORS[0, :2, :20])
    options = {"classifier_kernel": None, "null_space": "off"}
    found, exact = fit(embedding=embedding, **options), fit("svd", embedding=embedding, **options)
    assert found.valid.sum(axis=1).tolist() == exact.valid.sum(axis=1).tolist() == [4, 2]
    np.testing.assert_allclose(found.directions, exact.directions, atol=1e-4)


def test_batches_are_read_again_or_refused():
    with pytest.raises(ConfigError, match="can be read once: pass a list"):
        fit(batches=iter)
    np.testing.assert_array_equal(fit(batches=lambda parts: Again(lambda: iter(parts))).directions, fit().directions)


def test_auto_is_the_covariance_up_to_a_width(monkeypatch):
    for batches in (None, iter):
        np.testing.assert_array_equal(fit("auto", batches=batches).directions, fit("covariance").directions)
    monkeypatch.setattr(subspaces, "WIDE_DIM", DIM - 1)
    assert np.all(fit("auto").sine > 0)


def test_labels_are_fitted_by_passes_too():
    labels = np.stack([LABELS == 0, LABELS == 1], axis=1).astype(np.float32)
    batches = [(EMBEDDING.astype(np.float32), labels, np.ones(labels.shape, bool))]
    options = {"num_labels": 2, "num_subclasses": SUBCLASSES, "null_space": "off", "rotation": "off", "key": jax.random.key(0)}
    found, exact = (fit_label_subspaces(batches, solver=solver, **options) for solver in ("randomized", "covariance"))
    np.testing.assert_allclose(found.directions, exact.directions, atol=3e-4)
    assert found.sine.shape == (4,)


def test_squares_beyond_float32_are_refused():
    with pytest.raises(DataError, match="too large for float32"):
        fit(embedding=EMBEDDING * 1e25)
