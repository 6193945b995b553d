"""The eigensolver that does not decompose the whole matrix, against SciPy's in float64."""

import numpy as np
import pytest
import scipy.linalg

from jaxkd.lelp import class_moments, fit_subspaces, principal
from jaxkd.lelp.leading import leading_eigenvectors

DIM, WANTED = 520, 8
ROWS = np.random.default_rng(0).standard_normal((2 * DIM, DIM))
DECAY = np.arange(1, DIM + 1) ** -0.5
SPECTRA = {
    "noise": np.ones(DIM),
    "power law": DECAY,
    "a factor and noise": np.where(np.arange(DIM) < 40, 3 * DECAY, 0.3),
    "two that are equal behind the wanted": np.where(np.arange(DIM) < WANTED, 2.0, DECAY),
    "fewer than are wanted": np.where(np.arange(DIM) < 5, DECAY, 0.0),
}


def solve(matrix):
    return leading_eigenvectors(lambda vectors: matrix @ vectors, DIM, WANTED, trace=np.trace(matrix))


@pytest.mark.parametrize("name", SPECTRA)
def test_leading_eigenvectors_are_those_of_scipy(name):
    matrix = np.cov((ROWS * SPECTRA[name]).T)
    values, vectors = solve(matrix)
    expected, expected_vectors = scipy.linalg.eigh(matrix, subset_by_index=(DIM - WANTED, DIM - 1))
    rank = min(WANTED, int(np.sum(SPECTRA[name] > 0)))
    np.testing.assert_allclose(values, expected[::-1], rtol=1e-9, atol=1e-12 * expected[-1])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(WANTED), atol=1e-12)
    assert scipy.linalg.subspace_angles(vectors[:, :rank], expected_vectors[:, ::-1][:, :rank]).max() < 2e-5


def test_equal_eigenvalues_give_some_of_their_space():
    basis = np.linalg.qr(ROWS[:DIM])[0]
    values, vectors = solve(basis[:, :20] @ basis[:, :20].T)
    np.testing.assert_allclose(values, 1, rtol=1e-12)
    np.testing.assert_allclose(basis[:, 20:].T @ vectors, 0, atol=1e-10)


def test_nothing_at_all_has_no_eigenvalues():
    values, _ = solve(np.zeros((DIM, DIM)))
    np.testing.assert_array_equal(values, 0)


def fitted(labels, rows=ROWS):
    return fit_subspaces(
        [(rows.astype(np.float32), labels)], num_classes=2, num_subclasses=WANTED, null_space="rows", classifier_kernel=ROWS[:2].T, key=None, rotation="off"
    )


def test_subspaces_of_both_solvers_are_the_same(monkeypatch, capsys):
    rows, labels = ROWS * SPECTRA["a factor and noise"] + 3, np.arange(len(ROWS)) % 2
    monkeypatch.setattr("jaxkd.lelp.leading.CYCLES", 2)  # few spaces are enough where nothing of the classifier's directions gets into it
    some = fitted(labels, rows)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(principal, "leading_eigenvectors", None)
    monkeypatch.setattr(principal, "WHOLE_DIM", DIM)
    whole = fitted(labels, rows)
    for one, other in zip(some, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_class_of_one_row_and_one_in_the_span_of_the_classifier(capsys):
    rows = np.concatenate([ROWS[:1], ROWS[:300, :2] @ ROWS[:2]])
    subspaces = fitted(np.minimum(np.arange(301), 1), rows)
    assert subspaces.valid.sum(axis=1).tolist() == [1, 1]
    assert capsys.readouterr().err == ""


def test_the_whole_is_decomposed_where_the_solver_gives_up_and_it_is_told(monkeypatch, capsys):
    moments = class_moments([(ROWS.astype(np.float32), np.zeros(len(ROWS), int))], num_classes=1)
    (expected,) = principal.from_covariance(moments, np.zeros((DIM, 0)), WANTED)
    monkeypatch.setattr("jaxkd.lelp.leading.CYCLES", 1)
    (found,) = principal.from_covariance(moments, np.zeros((DIM, 0)), WANTED)
    assert f"of class 0 are too close to the next to be found apart: its {DIM} x {DIM} matrix is decomposed" in capsys.readouterr().err
    np.testing.assert_allclose(found.variances, expected.variances, rtol=1e-6)
    assert scipy.linalg.subspace_angles(found.vectors, expected.vectors).max() < 1e-4
