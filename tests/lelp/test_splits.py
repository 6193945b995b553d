import subprocess
import sys

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from jaxkd.errors import ConfigError, DataError
from jaxkd.lelp import splits

DIGITS = load_digits()
ROWS = DIGITS.data[:800].astype(np.float32)
FINE = DIGITS.target[:800]
CLASSES = np.where(np.arange(800) < 600, FINE % 2, -1)
TSNE = pytest.param(splits.tsne_kmeans, marks=pytest.mark.slow)
CLUSTERINGS = [splits.kmeans, splits.agglomerative, TSNE]


def quick(split, rows=ROWS, classes=CLASSES, **options):
    return split(rows, classes, **dict(num_classes=2, num_subclasses=5) | options)


@pytest.fixture(scope="module", params=CLUSTERINGS, ids=lambda split: split.__name__)
def clustered(request):
    return request.param, quick(request.param)


def test_every_row_has_one_subclass_of_every_class(clustered):
    _, probs = clustered
    assert probs.shape == (800, 2, 5) and probs.dtype == np.float32
    np.testing.assert_array_equal(np.sort(probs, axis=-1)[..., -1], 1)
    np.testing.assert_array_equal(probs.sum(axis=-1), 1)


def test_groups_recover_the_digits(clustered):
    _, probs = clustered
    for c in range(2):
        for rows in (c == CLASSES, (CLASSES < 0) & (c == FINE % 2)):
            assert adjusted_rand_score(FINE[rows], probs[rows, c].argmax(axis=-1)) > 0.4


def test_rows_outside_of_the_class_go_to_the_nearest_mean(clustered):
    _, probs = clustered
    for c in range(2):
        groups = probs[:, c].argmax(axis=-1)
        own = c == CLASSES
        means = np.stack([ROWS[own & (groups == s)].mean(axis=0) for s in range(5)])
        distances = np.linalg.norm(ROWS[:, None] - means, axis=-1)
        np.testing.assert_array_equal(groups[~own], distances[~own].argmin(axis=1))


@pytest.mark.parametrize(
    ("split", "peer"), [(splits.kmeans, KMeans(5, n_init=4, random_state=0)), (splits.agglomerative, AgglomerativeClustering(5))], ids=["kmeans", "ward"]
)
def test_groups_are_those_of_scikit_learn(split, peer):
    probs = quick(split, ROWS + 100)
    own = CLASSES == 1
    assert adjusted_rand_score(peer.fit_predict(ROWS[own]), probs[own, 1].argmax(axis=-1)) == pytest.approx(1)


@pytest.mark.parametrize("split", [splits.agglomerative, TSNE])
def test_a_cap_clusters_part_of_the_rows_and_assigns_the_rest(split):
    capped = quick(split, max_rows=60, num_subclasses=3)
    assert np.all(capped.sum(axis=-1) == 1)
    np.testing.assert_array_equal(capped, quick(split, max_rows=60, num_subclasses=3))
    assert not np.array_equal(capped, quick(split, max_rows=60, num_subclasses=3, seed=1))


@pytest.mark.parametrize("split", CLUSTERINGS)
def test_few_or_equal_rows_have_as_many_subclasses(split):
    classes = np.full(800, -1)
    classes[:3], classes[3:4] = 0, 1
    rows = ROWS.copy()
    rows[1] = rows[0]
    probs = quick(split, rows, classes)
    assert np.flatnonzero(probs[:, 0].any(axis=0)).tolist() == [0, 1]
    assert np.flatnonzero(probs[:, 1].any(axis=0)).tolist() == [0]
    assert np.array_equal(probs[0, 0], probs[1, 0]) and not np.array_equal(probs[0, 0], probs[2, 0])


@pytest.mark.parametrize("split", CLUSTERINGS)
@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (DataError, dict(classes=np.zeros(800, int)), "class 1 of 2"),
        (DataError, dict(classes=CLASSES + 1), "row [0-9]+ has class 2"),
        (DataError, dict(classes=CLASSES[:5]), "came with classes"),
        (DataError, dict(rows=np.where(np.arange(800)[:, None] == 9, np.nan, ROWS)), "row 9 is NaN"),
        (ConfigError, dict(num_subclasses=0), "num_subclasses is 0"),
        (ConfigError, dict(num_subclasses=4.5), "num_subclasses is 4.5: pass an integer"),
    ],
)
def test_bad_input_is_refused_by_name(split, error, options, message):
    with pytest.raises(error, match=message):
        quick(split, **options)


def test_oracle_is_the_fine_label_within_its_class():
    fine = np.array([0, 1, 1, 2, 3, -1, 4])
    classes = np.array([0, 0, 0, 1, 1, -1, 1])
    probs = splits.oracle(fine, classes, num_classes=2)
    assert probs.shape == (7, 2, 3)
    np.testing.assert_array_equal(probs[[0, 1, 2], 0], [[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(probs[[3, 4, 6], 1], np.eye(3))
    np.testing.assert_allclose(probs[[0, 1, 2, 5], 1], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(probs[[3, 4, 5, 6], 0], [[1 / 3, 2 / 3, 0]] * 4, rtol=1e-6)
    padded = splits.oracle(fine, classes, num_classes=2, num_subclasses=5)
    np.testing.assert_array_equal(padded[..., :3], probs)
    assert np.all(padded[..., 3:] == 0)


def test_oracle_follows_the_majority_and_assigns_rows_without_class():
    """Row 2 carries the class of a teacher that erred; row 4 has no class but a known fine label."""
    probs = splits.oracle(np.array([0, 0, 0, 1, 0]), np.array([0, 0, 1, 1, -1]), num_classes=2)
    np.testing.assert_array_equal(probs[[2, 4], 0], [[1], [1]])


def test_oracle_of_digits_is_exact():
    probs = splits.oracle(FINE, FINE % 2, num_classes=2)
    for c in range(2):
        np.testing.assert_array_equal(2 * probs[c == FINE % 2, c].argmax(axis=-1) + c, FINE[c == FINE % 2])


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (ConfigError, lambda: splits.oracle(FINE, FINE % 2, num_classes=2, num_subclasses=4), "has 5 fine labels: use at least 5"),
        (DataError, lambda: splits.oracle(FINE[:5], FINE % 2, num_classes=2), "one of each"),
        (DataError, lambda: splits.oracle(FINE, FINE % 2, num_classes=3), "class 2 of 3"),
        (DataError, lambda: splits.oracle(FINE, FINE % 2 + 5, num_classes=2), "has class 5|has class 6"),
        (DataError, lambda: splits.oracle(np.array([0, 0, 0]), np.array([0, 0, 1]), num_classes=2), "class 1"),
    ],
)
def test_oracle_refuses_by_name(error, call, message):
    with pytest.raises(error, match=message):
        call()


def test_permuted_keeps_the_distribution_and_loses_the_row():
    probs = quick(splits.kmeans)
    exchanged = splits.permuted(probs, CLASSES, seed=1)
    for c in (-1, 0, 1):
        rows = c == CLASSES
        np.testing.assert_array_equal(np.unique(exchanged[rows], axis=0, return_counts=True)[1], np.unique(probs[rows], axis=0, return_counts=True)[1])
        assert abs(adjusted_rand_score(probs[rows, 0].argmax(axis=-1), exchanged[rows, 0].argmax(axis=-1))) < 0.05
    np.testing.assert_array_equal(exchanged, splits.permuted(probs, CLASSES, seed=1))
    with pytest.raises(DataError, match=r"\(5, 2, 3\) came with classes \(4,\)"):
        splits.permuted(np.full((5, 2, 3), 1 / 3), np.zeros(4, int))


def test_uniform():
    np.testing.assert_array_equal(splits.uniform(3, num_classes=2, num_subclasses=4), np.full((3, 2, 4), 0.25, np.float32))
    with pytest.raises(ConfigError, match="num_subclasses is 0"):
        splits.uniform(3, num_classes=2, num_subclasses=0)


def test_import_does_not_load_scikit_learn():
    program = "import sys, jaxkd.lelp; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "False"
