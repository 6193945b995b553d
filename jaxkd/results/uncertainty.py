"""Bootstrap intervals of scores: each resample is a vector of weights over the examples, so that all resamples are computed at once.

Examples are resampled, and where a method has several runs its seeds are resampled independently of the examples: both are samples, and the two are
crossed (every seed is tested on every example), which is the pigeonhole bootstrap (Owen, arXiv 0712.1111). It is mildly conservative. The same
weights serve both sides of a difference, so that it is paired by example, and by seed where both sides have the seed.
"""

import numpy as np

from jaxkd import metrics
from jaxkd.errors import unknown_name
from jaxkd.metrics import multiclass
from jaxkd.results.predictions import Predictions

METRICS = {"multilabel": ("map", "roc_auc", "f1_macro"), "multiclass": ("accuracy", "f1_macro", "roc_auc")}
LEVEL = 0.95


def metrics_of(task: str) -> tuple[str, ...]:
    """The metrics that get an interval, the one that matters most first.

    Raises:
      ConfigError: an unknown task.
    """
    if task not in METRICS:
        raise unknown_name("task", task, METRICS)
    return METRICS[task]


def draw_counts(items: int, resamples: int, seed: int) -> np.ndarray:
    """How often each item is drawn in each resample with replacement: float64 [resamples, items], rows summing to `items`."""
    return np.random.default_rng(seed).multinomial(items, np.full(items, 1.0 / items), size=resamples).astype(np.float64)


def bootstrap_weights(items: int, resamples: int) -> np.ndarray:
    """How often each item counts, float64 [1 + resamples, items]: once in the first row, which is the sample itself, then as `draw_counts`."""
    weights = np.ones((1 + resamples, items))
    weights[1:] = draw_counts(items, resamples, seed=0)
    return weights


def interval(samples: np.ndarray) -> list[float]:
    """The percentile interval that holds `LEVEL` of the samples, [low, high]; samples that are NaN are left out."""
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.nanquantile(samples, (tail, 1.0 - tail))
    return [float(low), float(high)]


def includes_zero(ci95: list[float]) -> bool:
    """Whether an interval of a difference leaves open which side is better."""
    return ci95[0] <= 0.0 <= ci95[1]


def resampled_metrics(predictions: Predictions, weights: np.ndarray, *, f1_threshold: float) -> dict[str, np.ndarray]:
    """Each metric under each vector of weights.

    Args:
      predictions: scores and labels of n examples and K classes.
      weights: float [R, n], how often each example counts; a row of ones gives the metric itself.
      f1_threshold: in a multi-label task a class is predicted where its score is strictly above it.

    Returns:
      {metric: float64 [R]} for `metrics_of(predictions.task)`; where it is a mean over classes, over those that can be evaluated in the resample; NaN where
      none can.
    """
    labels, scores, mask = predictions.labels, predictions.scores, predictions.label_mask
    if predictions.task == "multiclass":
        return {metric: multiclass.resampled(metric, labels, scores, mask, weights) for metric in metrics_of(predictions.task)}
    samples = {}
    for metric in metrics_of(predictions.task):
        values = metrics.resampled(metric, labels, scores, mask, weights, f1_threshold)
        defined = np.isfinite(values)
        samples[metric] = _divide(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1))
    return samples


def mean_score_given_class(predictions: Predictions) -> np.ndarray:
    """Mean score of each predicted class (columns) over the examples of each true class (rows), float64 [K, K]; NaN for a class without positives."""
    return _divide(predictions.labels.T.astype(np.float64) @ predictions.scores, predictions.labels.sum(axis=0)[:, None])


def _divide(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=np.broadcast_to(count > 0, total.shape))
