"""Multi-label metrics in float64 numpy, per class over the entries that are masked in.

A class without a positive or without a negative among its masked-in entries cannot be ranked: it is NaN in the per-class arrays and left
out of every mean (`evaluated_classes` tells which classes count).
"""

from collections.abc import Callable

import numpy as np

from jaxkd.errors import DataError
from jaxkd.metrics.probabilities import CALIBRATION_BINS, bin_of
from jaxkd.metrics.roc import weighted_roc_auc

THRESHOLD = 0.4

# Each class metric takes labels [n] (bool), scores [n] and weights [R, n] (how often a row counts in each of R resamples) and returns [R].


def _class_average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    order = np.argsort(-scores, kind="stable")
    scores, weights = scores[order], weights[:, order]
    positive_weights = weights * labels[order]
    last_of_tie = np.searchsorted(-scores, -scores, side="right") - 1
    true_positives = np.cumsum(positive_weights, axis=1)[:, last_of_tie]
    predicted = np.cumsum(weights, axis=1)[:, last_of_tie]
    precision = true_positives / np.maximum(predicted, 1)
    return np.sum(positive_weights * precision, axis=1) / np.maximum(np.sum(positive_weights, axis=1), 1)


def _class_roc_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weighted_roc_auc(labels, ~labels, scores, weights)


def _class_f1(threshold: float) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    def class_f1(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        predicted = scores > threshold
        both, neither = weights @ (labels & predicted), weights @ ~(labels | predicted)
        wrong = weights @ (labels ^ predicted)
        positive = 2 * both / np.maximum(2 * both + wrong, 1)
        negative = 2 * neither / np.maximum(2 * neither + wrong, 1)
        return (positive + negative) / 2

    return class_f1


def _class_brier(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ np.square(scores - labels) / np.sum(weights, axis=1)


def _class_calibration_error(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    member = bin_of(scores)[:, None] == np.arange(CALIBRATION_BINS)
    excess = weights @ (member * (scores - labels)[:, None])
    return np.sum(np.abs(excess), axis=1) / np.sum(weights, axis=1)


CLASS_METRICS = {
    "map": lambda threshold: _class_average_precision,
    "roc_auc": lambda threshold: _class_roc_auc,
    "f1_macro": _class_f1,
    "ece": lambda threshold: _class_calibration_error,
    "brier": lambda threshold: _class_brier,
}


def checked(labels: np.ndarray, scores: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels as bool [n, K], scores as float64 [..., n, K] and the mask as bool [n, K].

    Raises:
      DataError: shapes differ, a score is not finite, or a masked-in label is neither 0 nor 1.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    mask = np.ones(labels.shape, bool) if mask is None else np.asarray(mask, bool)
    if labels.ndim != 2 or labels.shape != scores.shape[-2:] or labels.shape != mask.shape:
        raise DataError(f"labels {labels.shape}, scores {scores.shape} and mask {mask.shape} must all be [n, K].")
    if not np.all(np.isfinite(scores)):
        row, label = np.argwhere(~np.isfinite(scores))[0][-2:]
        raise DataError(f"the score of row {row}, class {label} is not finite; {np.sum(~np.isfinite(scores))} of {scores.size} are not.")
    if np.any((labels != 0) & (labels != 1) & mask):
        row, label = np.argwhere((labels != 0) & (labels != 1) & mask)[0]
        raise DataError(f"the label of row {row}, class {label} is {labels[row, label]}: metrics take labels 0 and 1 where the mask is True.")
    return labels == 1, scores, mask


def _require_probabilities(name: str, scores: np.ndarray) -> None:
    if np.any((scores < 0) | (scores > 1)):
        raise DataError(f"{name} takes probabilities in [0, 1]; the scores reach from {scores.min():g} to {scores.max():g}. Apply the sigmoid first.")


def resampled(name: str, labels: np.ndarray, scores: np.ndarray, mask: np.ndarray, weights: np.ndarray, threshold: float) -> np.ndarray:
    """[R, K] values of a metric of scores [n, K] under R weightings of the rows; NaN where a class lacks positives or negatives."""
    if name in ("ece", "brier"):
        _require_probabilities(name, scores)
    class_metric = CLASS_METRICS[name](threshold)
    values = np.full((len(weights), labels.shape[1]), np.nan)
    for k in range(labels.shape[1]):
        rows = mask[:, k]
        of_class, counts = labels[rows, k], weights[:, rows]
        valid = (counts @ of_class > 0) & (counts @ ~of_class > 0)
        if np.any(valid):
            values[valid, k] = class_metric(of_class, scores[rows, k], counts[valid])
    return values


def _per_class(name: str, labels: np.ndarray, scores: np.ndarray, mask: np.ndarray | None, threshold: float = THRESHOLD) -> np.ndarray:
    labels, scores, mask = checked(labels, scores, mask)
    return resampled(name, labels, scores, mask, np.ones((1, len(labels))), threshold)[0]


def evaluated_classes(labels: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Which classes have at least one positive and one negative among masked-in entries, bool [K]; the others are left out of every mean.

    Args:
      labels: 0 or 1, [n, K].
      mask: True where a label counts, [n, K]; None = everywhere.
    """
    labels, _, mask = checked(labels, np.zeros(np.shape(labels)), mask)
    return np.any(labels & mask, axis=0) & np.any(~labels & mask, axis=0)


def average_precision(labels: np.ndarray, scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Average precision of each class, [K] float64: not interpolated, tied scores taken as one threshold, as in scikit-learn.

    Args:
      labels: 0 or 1, [n, K].
      scores: any finite number, higher = more likely, [n, K].
      mask: True where a label counts, [n, K]; None = everywhere.

    Raises:
      DataError: shapes differ, a score is not finite, or a masked-in label is neither 0 nor 1.
    """
    return _per_class("map", labels, scores, mask)


def roc_auc(labels: np.ndarray, scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve of each class, [K] float64; a tie counts one half. Arguments as in `average_precision`."""
    return _per_class("roc_auc", labels, scores, mask)


def f1(labels: np.ndarray, scores: np.ndarray, mask: np.ndarray | None = None, *, threshold: float = THRESHOLD) -> np.ndarray:
    """Mean of the F1 of the positive and of the negative side of each class, [K] float64 (EAsT, arXiv 2306.17424).

    A score strictly above `threshold` predicts the class. A side that is never predicted has F1 0. Arguments as in `average_precision`.
    """
    return _per_class("f1_macro", labels, scores, mask, threshold)


def expected_calibration_error(labels: np.ndarray, scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Expected calibration error of each class, [K] float64.

    |mean score - share of positives| over 15 equal bins, closed on the right, weighted by their size (Guo et al. 2017, arXiv 1706.04599).
    `scores` are probabilities; other arguments as in `average_precision`.

    Raises:
      DataError: as in `average_precision`, or a score is outside [0, 1].
    """
    return _per_class("ece", labels, scores, mask)


def brier(labels: np.ndarray, scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Mean squared difference of probability and label of each class, [K] float64. Arguments as in `expected_calibration_error`."""
    return _per_class("brier", labels, scores, mask)


def label_agreement(scores: np.ndarray, teacher: np.ndarray, *, threshold: float = THRESHOLD) -> float:
    """Share of entries, known or not, that lie on the same side of the threshold as the teacher's scores, both [n, K]."""
    return float(np.mean((np.asarray(scores) > threshold) == (np.asarray(teacher) > threshold)))


def multilabel_metrics(
    labels: np.ndarray, scores: np.ndarray, mask: np.ndarray | None = None, *, threshold: float = THRESHOLD, teacher: np.ndarray | None = None
) -> dict[str, float]:
    """The metrics of a split, each the unweighted mean over the classes of `evaluated_classes`.

    Args:
      labels: 0 or 1, [n, K].
      scores: probabilities in [0, 1], [n, K].
      mask: True where a label counts, [n, K]; None = everywhere.
      threshold: of the F1 and of the agreement.
      teacher: probabilities of a teacher, [n, K]; None without one.

    Returns:
      {"map", "roc_auc", "f1_macro", "ece", "brier"} -> float, and "agreement" where there is a teacher.

    Raises:
      DataError: bad shapes or values, or no class has both a positive and a negative.
    """
    values = {name: _per_class(name, labels, scores, mask, threshold) for name in CLASS_METRICS}
    if np.all(np.isnan(values["map"])):
        raise DataError(f"none of the {len(values['map'])} classes has both a positive and a negative among {len(labels)} rows: use a larger split.")
    means = {name: float(np.nanmean(value)) for name, value in values.items()}
    return means if teacher is None else means | {"agreement": label_agreement(scores, teacher, threshold=threshold)}
