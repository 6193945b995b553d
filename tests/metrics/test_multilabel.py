import time

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, roc_auc_score

from jaxkd import metrics
from jaxkd.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, mask and two systems' scores on 400 digits: one sees half of the image, the other less. Rounded, so that scores tie."""
    images, digit = load_digits(return_X_y=True)
    labels = (digit[:400, None] == np.arange(10)).astype(np.float32)
    mask = np.random.default_rng(0).random(labels.shape) < 0.7

    def system(pixels: slice) -> np.ndarray:
        model = LogisticRegression(max_iter=2000).fit(images[400:, pixels] / 16, digit[400:])
        return model.predict_proba(images[:400, pixels] / 16).round(2)

    return labels, mask, system(slice(0, 32)), system(slice(0, 16))


def by_class(metric, labels, scores, mask):
    return [metric(labels[mask[:, k], k], scores[mask[:, k], k]) for k in range(labels.shape[1])]


def calibration_error(labels, scores):
    shares, means = calibration_curve(labels, scores, n_bins=metrics.CALIBRATION_BINS, strategy="uniform")
    sizes = np.bincount(np.digitize(scores, np.linspace(0, 1, metrics.CALIBRATION_BINS + 1)[1:-1], right=True))
    return np.average(np.abs(shares - means), weights=sizes[sizes > 0])


ORACLES = {
    "map": (metrics.average_precision, average_precision_score),
    "roc_auc": (metrics.roc_auc, roc_auc_score),
    "f1_macro": (metrics.f1, lambda labels, scores: f1_score(labels, scores > 0.4, average="macro", labels=[0, 1], zero_division=0)),
    "brier": (metrics.brier, brier_score_loss),
    "ece": (metrics.expected_calibration_error, calibration_error),
}


@pytest.mark.parametrize(("ours", "oracle"), ORACLES.values(), ids=ORACLES)
def test_each_class_equals_scikit_learn(split, ours, oracle):
    labels, mask, scores, _ = split
    np.testing.assert_allclose(ours(labels, scores, mask), by_class(oracle, labels, scores, mask), rtol=1e-12)
    np.testing.assert_allclose(ours(labels, scores), by_class(oracle, labels, scores, np.ones_like(mask)), rtol=1e-12)


@pytest.mark.parametrize(("ours", "oracle"), ORACLES.values(), ids=ORACLES)
def test_all_scores_equal(split, ours, oracle):
    labels, mask, _, _ = split
    scores = np.full(labels.shape, 0.5)
    np.testing.assert_allclose(ours(labels, scores, mask), by_class(oracle, labels, scores, mask), rtol=1e-12)


def test_a_split_is_the_mean_over_classes(split):
    labels, mask, scores, _ = split
    result = metrics.multilabel_metrics(labels, scores, mask)
    assert list(result) == ["map", "roc_auc", "f1_macro", "ece", "brier"]
    for name, (_, oracle) in ORACLES.items():
        assert result[name] == pytest.approx(np.mean(by_class(oracle, labels, scores, mask)), rel=1e-12)
        assert type(result[name]) is float


def test_f1_threshold_is_strict():
    labels = np.array([[1], [0]])
    np.testing.assert_array_equal(metrics.f1(labels, np.array([[0.4], [0.1]])), [(0 + 2 / 3) / 2])
    np.testing.assert_array_equal(metrics.f1(labels, np.array([[0.41], [0.1]])), [1])
    np.testing.assert_array_equal(metrics.f1(labels, np.array([[0.6], [0.55]]), threshold=0.55), [1])


def test_f1_side_that_is_never_predicted_counts_as_zero():
    labels = np.array([[1], [0], [0], [0]])
    np.testing.assert_allclose(metrics.f1(labels, np.ones((4, 1))), [0.4 / 2])
    np.testing.assert_allclose(metrics.f1(labels, np.zeros((4, 1))), [6 / 7 / 2])


def test_class_without_positives_or_negatives_is_left_out_of_all_means(split):
    labels, mask, scores, _ = (x.copy() for x in split)
    labels[:, 2] = 0
    mask[:, 5] &= labels[:, 5] == 1
    mask[:, 7] = False
    kept = [0, 1, 3, 4, 6, 8, 9]
    np.testing.assert_array_equal(np.flatnonzero(metrics.evaluated_classes(labels, mask)), kept)
    assert np.all(np.isnan(metrics.average_precision(labels, scores, mask)[[2, 5, 7]]))
    alone = metrics.multilabel_metrics(labels[:, kept], scores[:, kept], mask[:, kept])
    assert metrics.multilabel_metrics(labels, scores, mask) == pytest.approx(alone, rel=1e-12)


def test_labels_that_are_masked_out_may_be_anything(split):
    labels, mask, scores, _ = split
    garbled = np.where(mask, labels, np.nan)
    assert metrics.multilabel_metrics(garbled, scores, mask) == metrics.multilabel_metrics(labels, scores, mask)


@pytest.mark.parametrize("name", ORACLES)
def test_bootstrap_is_the_metric_of_resampled_rows(split, name):
    """The interval against a loop that draws the same rows and calls scikit-learn on them."""
    labels, mask, a, b = split
    resamples, seed = 12, 5
    result = metrics.paired_bootstrap(labels, mask, a, b, metric=name, resamples=resamples, seed=seed)
    counts = np.random.default_rng(seed).multinomial(400, np.full(400, 1 / 400), size=resamples)
    oracle = ORACLES[name][1]

    def difference(rows):
        values = [np.mean(by_class(oracle, labels[rows], scores[rows], mask[rows])) for scores in (a, b)]
        return values[0] - values[1]

    drawn = [difference(np.repeat(np.arange(400), count)) for count in counts]
    np.testing.assert_allclose(result, [difference(np.arange(400)), *np.quantile(drawn, [0.025, 0.975])], rtol=1e-9)


def test_bootstrap_over_seeds_takes_their_mean(split):
    labels, mask, a, b = split
    both = metrics.paired_bootstrap(labels, mask, np.stack([a, b]), b, resamples=50)
    single = metrics.paired_bootstrap(labels, mask, a, b, resamples=50)
    np.testing.assert_allclose(both, np.array(single) / 2, rtol=1e-12)


def test_bootstrap_tells_a_real_difference_from_none(split):
    labels, mask, a, b = split
    better = metrics.paired_bootstrap(labels, mask, a, b)
    assert 0 < better.low < better.difference < better.high
    assert metrics.paired_bootstrap(labels, mask, a, a) == (0, 0, 0)
    noise = np.random.default_rng(1).normal(0, 1e-2, (2, *a.shape))
    same = metrics.paired_bootstrap(labels, mask, np.clip(a + noise[0], 0, 1), np.clip(a + noise[1], 0, 1))
    assert same.low < 0 < same.high


def test_bootstrap_is_repeatable_and_seeded(split):
    labels, mask, a, b = split
    first, again, other = (metrics.paired_bootstrap(labels, mask, a, b, resamples=100, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low
    assert first.difference == other.difference


def test_bootstrap_with_a_rare_class_leaves_it_out_where_it_is_not_drawn():
    labels = np.zeros((30, 2))
    labels[:15, 0], labels[0, 1] = 1, 1
    rng = np.random.default_rng(0)
    result = metrics.paired_bootstrap(labels, None, rng.random((30, 2)), rng.random((30, 2)))
    assert np.all(np.isfinite(result))


def test_bootstrap_is_fast():
    rng = np.random.default_rng(0)
    labels = rng.random((400, 16)) < 0.2
    start = time.process_time()
    metrics.paired_bootstrap(labels, None, rng.random((400, 16)), rng.random((400, 16)), resamples=1000)
    assert time.process_time() - start < 2


LABELS = np.array([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.roc_auc(LABELS, np.zeros((2, 3))), DataError, r"\(2, 2\), scores \(2, 3\)"),
        (lambda: metrics.roc_auc(LABELS, np.array([[0, 0], [0, np.nan]])), DataError, "row 1, class 1 is not finite; 1 of 4"),
        (lambda: metrics.roc_auc(LABELS * 0.5, np.zeros((2, 2))), DataError, "row 0, class 1 is 0.5"),
        (lambda: metrics.brier(LABELS, np.full((2, 2), 3.0)), DataError, r"probabilities.*from 3 to 3.*sigmoid"),
        (lambda: metrics.multilabel_metrics(np.ones((3, 2)), np.ones((3, 2))), DataError, "none of the 2 classes"),
        (lambda: metrics.paired_bootstrap(LABELS, None, LABELS, LABELS), DataError, "a resample of 2 rows"),
        (lambda: metrics.paired_bootstrap(LABELS, None, LABELS, LABELS, metric="mAP"), ConfigError, "'mAP'.*Valid: map"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
