"""The multi-label form of LELP's subspaces, against an SVD in NumPy label by label."""

import jax
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.special import softmax

from jaxkd.errors import ConfigError, DataError
from jaxkd.lelp import fit_label_subspaces, project_coordinates, subclass_probs

N, D, L, S = 240, 14, 3, 4
RNG = np.random.default_rng(5)
EMBEDDING = (RNG.standard_normal((N, D)) * np.geomspace(3, 0.3, D)).astype(np.float32)
LABELS = (RNG.random((N, L)) < 0.4).astype(np.float32)
KNOWN = RNG.random((N, L)) < 0.8
KERNEL = RNG.standard_normal((D, L))
BATCHES = [(EMBEDDING[:100], LABELS[:100], KNOWN[:100]), (EMBEDDING[100:], LABELS[100:], KNOWN[100:])]
OPTIONS = dict(num_labels=L, num_subclasses=S, classifier_kernel=KERNEL, key=jax.random.key(0))


def _by_svd(label: int, value: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, directions [D, S] and variances [S] of the rows with one value of a label, outside of the span of the weights of all labels."""
    rows = EMBEDDING[KNOWN[:, label] & (LABELS[:, label] == value)].astype(np.float64)
    outside = np.eye(D) - KERNEL @ np.linalg.pinv(KERNEL)
    _, singular, vectors = np.linalg.svd((rows - rows.mean(axis=0)) @ outside, full_matrices=False)
    return rows.mean(axis=0), vectors[:S].T, singular[:S] ** 2 / (len(rows) - 1)


@pytest.mark.parametrize("solver", ["covariance", "svd"])
def test_every_side_of_every_label_is_the_svd_of_its_rows(solver):
    subspaces = fit_label_subspaces(BATCHES, solver=solver, rotation="off", **OPTIONS)
    coordinates = np.asarray(project_coordinates(subspaces, EMBEDDING))
    probs = np.asarray(subclass_probs(subspaces, EMBEDDING, subclass_temperature=0.7))
    assert probs.shape == (N, 2 * L, S)
    for label in range(L):
        for value in (0, 1):
            c, (mean, directions, variances) = 2 * label + value, _by_svd(label, value)
            np.testing.assert_allclose(subspaces.mean[c], mean, atol=1e-5)
            np.testing.assert_allclose(subspaces.eigenvalues[c], variances, rtol=1e-4)
            expected = (EMBEDDING - mean) @ directions / np.sqrt(variances.mean())
            expected *= np.sign(np.sum(expected * coordinates[:, c], axis=0))
            np.testing.assert_allclose(coordinates[:, c], expected, atol=2e-4)
            np.testing.assert_allclose(probs[:, c], softmax(expected / 0.7, axis=1), atol=2e-4)


def test_rotation_turns_within_the_subspace_and_differs_between_labels():
    plain, turned = (fit_label_subspaces(BATCHES, rotation=rotation, **OPTIONS) for rotation in ("off", "haar"))
    turns = [plain.directions[c].T @ turned.directions[c] for c in range(2 * L)]
    for c, turn in enumerate(turns):
        assert subspace_angles(plain.directions[c], turned.directions[c]).max() < 1e-3
        np.testing.assert_allclose(turn.T @ turn, np.eye(S), atol=1e-4)
        assert all(np.abs(turn - other).max() > 0.1 for other in turns[:c])


def test_random_directions_are_in_the_null_space_of_all_labels_and_scaled_by_the_data():
    subspaces = fit_label_subspaces(BATCHES, directions="random", **OPTIONS)
    np.testing.assert_allclose(np.einsum("dk,cds->cks", KERNEL, subspaces.directions), 0, atol=1e-5)
    coordinates = np.asarray(project_coordinates(subspaces, EMBEDDING))
    for label in range(L):
        for value in (0, 1):
            c, own = 2 * label + value, KNOWN[:, label] & (LABELS[:, label] == value)
            np.testing.assert_allclose(np.var(coordinates[own, c], axis=0, ddof=1).mean(), 1, rtol=1e-4)
            assert subspace_angles(subspaces.directions[c], _by_svd(label, value)[1]).max() > 0.1


def test_what_can_be_read_once_gives_the_same():
    for field, once, again in zip(("mean", "directions"), fit_label_subspaces(iter(BATCHES), **OPTIONS), fit_label_subspaces(BATCHES, **OPTIONS), strict=False):
        np.testing.assert_array_equal(once, again, err_msg=field)


@pytest.mark.parametrize(
    ("error", "labels", "options", "message"),
    [
        (DataError, np.where(np.arange(L) == 1, 0, LABELS), {}, "in no training row oboe is present"),
        (DataError, np.where(np.arange(L) > 0, 1, LABELS), {}, "in no training row oboe, viola is absent"),
        (DataError, LABELS[:, :2], {}, r"\[n, 3\] are needed"),
        (ConfigError, LABELS, {"directions": "randon"}, "Did you mean 'random'"),
        (ConfigError, LABELS, {"num_subclasses": 12}, "less the 3 that the classifier reads: use at most 11"),
        (ConfigError, LABELS, {"classifier_kernel": KERNEL[:, :2]}, r"has shape \(14, 2\), but \[14, 3\] \(embedding width, labels\) is needed"),
        (ConfigError, LABELS, {"classifier_kernel": KERNEL[:, 0]}, r"has shape \(14,\), but \[14, 3\]"),
        (ConfigError, LABELS, {"directions": "random", "key": None}, r"pass key=jax\.random\.key\(seed\)"),
        (ConfigError, LABELS, {"directions": "random", "rotation": "off"}, "unknown option of directions='random': 'rotation'. Valid: null_space, scale"),
        (ConfigError, LABELS, {"directions": "random", "solver": "svd"}, "'solver'. Valid: null_space, scale"),
        (ConfigError, LABELS, {"rotatoin": "off"}, "Did you mean 'rotation'"),
        (ConfigError, LABELS, {"names": ("flute", "oboe")}, "2 names were given for 3 labels: give one for each, or none"),
    ],
)
def test_what_does_not_fit_is_named(error, labels, options, message):
    with pytest.raises(error, match=message):
        fit_label_subspaces([(EMBEDDING, labels, KNOWN)], **{**OPTIONS, "names": ("flute", "oboe", "viola"), **options})


@pytest.mark.parametrize("value", [-1.0, 7.0, 1.5, np.nan, np.inf])
def test_a_known_label_that_is_no_share_is_named_by_row_and_label(value):
    row = int(np.flatnonzero(KNOWN[100:, 1])[3]) + 100
    labels = LABELS.copy()
    labels[row, 1] = value
    batches = [(EMBEDDING[:100], labels[:100], KNOWN[:100]), (EMBEDDING[100:], labels[100:], KNOWN[100:])]
    with pytest.raises(DataError, match=rf"row {row} has {value} for oboe, but a label that is known is from 0"):
        fit_label_subspaces(batches, names=("flute", "oboe", "viola"), **OPTIONS)


def test_a_label_that_is_not_known_may_hold_anything():
    hidden = fit_label_subspaces([(EMBEDDING, np.where(KNOWN, LABELS, np.nan), KNOWN)], **OPTIONS)
    np.testing.assert_array_equal(hidden.directions, fit_label_subspaces([(EMBEDDING, LABELS, KNOWN)], **OPTIONS).directions)
