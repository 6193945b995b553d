import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score, roc_auc_score

from jaxkd.metrics import multilabel_metrics
from jaxkd.results.comparison import paired_difference
from jaxkd.results.predictions import load_predictions, predictions_path
from jaxkd.results.uncertainty import draw_counts, includes_zero, interval, mean_score_given_class, metrics_of, resampled_metrics


@pytest.fixture(scope="module")
def predictions(finished):
    return load_predictions(predictions_path(finished[0], "test"))


def test_weights_of_one_give_the_metrics_of_the_split(predictions):
    found = resampled_metrics(predictions, np.ones((1, len(predictions.ids))), f1_threshold=0.4)
    expected = multilabel_metrics(predictions.labels, predictions.scores, predictions.label_mask, threshold=0.4)
    assert {name: float(values[0]) for name, values in found.items()} == pytest.approx({name: expected[name] for name in metrics_of("multilabel")})


def test_a_resample_equals_scikit_learn_on_the_repeated_rows(predictions):
    counts = draw_counts(len(predictions.ids), 3, seed=5)
    found = resampled_metrics(predictions, counts, f1_threshold=0.4)
    for index, row in enumerate(counts):
        repeated = np.repeat(np.arange(len(row)), row.astype(int))
        precisions, areas = [], []
        for k in range(predictions.labels.shape[1]):
            rows = repeated[predictions.label_mask[repeated, k]]
            precisions.append(average_precision_score(predictions.labels[rows, k], predictions.scores[rows, k]))
            areas.append(roc_auc_score(predictions.labels[rows, k], predictions.scores[rows, k]))
        assert found["map"][index] == pytest.approx(np.mean(precisions), abs=1e-12)
        assert found["roc_auc"][index] == pytest.approx(np.mean(areas), abs=1e-12)


def test_draw_counts_are_draws_with_replacement():
    counts = draw_counts(50, 2000, seed=1)
    assert np.all(counts.sum(axis=1) == 50)
    assert counts.mean() == pytest.approx(1.0)
    assert counts.var() == pytest.approx(1.0 - 1.0 / 50, abs=0.02)  # of a binomial(50, 1/50)


def test_interval_of_a_paired_mean_agrees_with_scipy(predictions):
    """On a metric that is a mean over clips, the weights must give the interval that SciPy's paired bootstrap gives."""
    ours, theirs = predictions.scores[:, 0], predictions.scores[:, 3]
    counts = draw_counts(len(ours), 20_000, seed=0)
    found = interval(counts @ (ours - theirs) / len(ours))
    expected = bootstrap(
        (ours, theirs),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    width = expected.high - expected.low
    assert found == pytest.approx([expected.low, expected.high], abs=0.03 * width)


def test_spread_over_seeds_and_clips_has_both_parts():
    """With a metric that is seed effect + clip effect, the variance of the interval's samples is the sum of both bootstrap variances."""
    rng = np.random.default_rng(0)
    seeds, clips, resamples = 8, 100, 20_000
    seed_effect, clip_effect = rng.normal(size=seeds) * 0.3, rng.normal(size=clips)
    clip_part = np.concatenate([[clip_effect.mean()], draw_counts(clips, resamples, seed=0) @ clip_effect / clips])
    samples = seed_effect[:, None] + clip_part
    names = tuple(range(seeds))
    difference, (low, high) = paired_difference(samples, np.zeros_like(samples), names, names, by_seed=True)
    expected_std = np.sqrt(seed_effect.var() / seeds + clip_effect.var() / clips)
    assert difference == pytest.approx(seed_effect.mean() + clip_effect.mean())
    assert high - low == pytest.approx(2 * 1.96 * expected_std, rel=0.04)


def test_pairing_removes_what_both_sides_share():
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(5, 1001))
    difference, ci95 = paired_difference(shared + 0.01, shared, (0, 1, 2, 3, 4), (0, 1, 2, 3, 4), by_seed=True)
    assert difference == pytest.approx(0.01)
    assert ci95 == pytest.approx([0.01, 0.01])


def test_seeds_are_paired_by_name_not_by_place():
    values = np.arange(3.0)[:, None] * np.ones((1, 11))
    difference, ci95 = paired_difference(values, values[::-1], (0, 1, 2), (2, 1, 0), by_seed=True)
    assert (difference, ci95) == (0.0, [0.0, 0.0])


@pytest.mark.parametrize(("ci95", "expected"), [([-0.1, 0.2], True), ([0.0, 0.2], True), ([0.01, 0.2], False), ([-0.2, -0.01], False)])
def test_includes_zero(ci95, expected):
    assert includes_zero(ci95) is expected


def test_mean_score_given_class_is_the_mean_over_the_clips_of_that_class(predictions):
    found = mean_score_given_class(predictions)
    for k in range(10):
        assert found[k] == pytest.approx(predictions.scores[predictions.labels[:, k]].mean(axis=0))
