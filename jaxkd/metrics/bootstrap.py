"""Paired bootstrap intervals of multi-label metrics."""

from typing import NamedTuple

import numpy as np

from jaxkd.errors import ConfigError, DataError
from jaxkd.metrics.multilabel import CLASS_METRICS, THRESHOLD, checked, resampled


class PairedDifference(NamedTuple):
    """A metric of a minus that of b on the same rows, with the ends of its bootstrap interval."""

    difference: float
    low: float
    high: float


def paired_bootstrap(
    labels: np.ndarray,
    mask: np.ndarray | None,
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    *,
    metric: str = "map",
    threshold: float = THRESHOLD,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Difference of a metric between two systems on the same rows, with its percentile bootstrap interval over rows.

    Each resample draws rows with replacement, the same for both systems and all their seeds; with several seeds a system's metric is the
    mean over them. The interval covers the choice of rows, not the choice of seeds. A class that a resample leaves without positives or
    negatives is left out of that resample on both sides.

    Args:
      labels: 0 or 1, [n, K].
      mask: True where a label counts, [n, K]; None = everywhere.
      scores_a: of the first system, [n, K] or, for several seeds, [seeds, n, K].
      scores_b: of the second system; it may have another number of seeds.
      metric: "map", "roc_auc", "f1_macro", "ece" or "brier".
      threshold: of the F1.
      resamples: number of bootstrap draws.
      confidence: of the interval.
      seed: of the generator.

    Returns:
      PairedDifference(difference, low, high): the metric of a minus that of b on all rows, and the interval.

    Raises:
      ConfigError: the metric is unknown.
      DataError: as in `multilabel_metrics`, or a resample has no class to evaluate.
    """
    if metric not in CLASS_METRICS:
        raise ConfigError(f"unknown metric {metric!r}. Valid: {', '.join(CLASS_METRICS)}.")
    rows = len(labels)
    counts = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=resamples)
    weights = np.concatenate([np.ones((1, rows)), counts])

    def system(scores: np.ndarray) -> np.ndarray:
        truth, scores, counted = checked(labels, scores, mask)
        seeds = scores.reshape((-1, *truth.shape))
        return np.mean([resampled(metric, truth, of_seed, counted, weights, threshold) for of_seed in seeds], axis=0)

    by_class = system(scores_a) - system(scores_b)
    if np.any(np.all(np.isnan(by_class), axis=1)):
        raise DataError(f"a resample of {rows} rows has no class with both a positive and a negative: the split is too small for an interval.")
    differences = np.nanmean(by_class, axis=1)
    low, high = np.quantile(differences[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return PairedDifference(float(differences[0]), float(low), float(high))
