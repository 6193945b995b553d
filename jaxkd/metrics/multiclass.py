"""Multi-class metrics in float64 numpy: one class a row, probabilities over C classes.

The predicted class is the most probable one; of equal probabilities the lowest index is it, on every side. Rows without a label do not count.
All but `agreement` and `resampled` take:
  labels: one-hot, [n, C].
  probabilities: rows that sum to one, [n, C].
  mask: [n, C], a row all True (labelled) or all False (unlabelled); None = all rows are labelled.
and raise DataError where shapes differ, a row is not one-hot, half masked or no distribution, or no row has a label.
"""

from collections.abc import Callable

import numpy as np

from jaxkd.errors import DataError
from jaxkd.metrics.probabilities import CALIBRATION_BINS, bin_of
from jaxkd.metrics.roc import weighted_roc_auc

SUM_TOLERANCE = 1e-3
LEAST_PROBABILITY = float(np.finfo(np.float64).eps)

# Each metric below takes truth [n, C] (bool, False on unlabelled rows), probabilities [n, C], labelled [n] (bool) and weights [R, n] (how often a row
# counts in each of R resamples) and returns [R]; NaN where a resample has nothing to evaluate.


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _correct(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return truth[np.arange(len(truth)), probabilities.argmax(axis=1)]


def _accuracy(truth: np.ndarray, probabilities: np.ndarray, labelled: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ _correct(truth, probabilities), weights @ labelled)


def _f1_macro(truth: np.ndarray, probabilities: np.ndarray, labelled: np.ndarray, weights: np.ndarray) -> np.ndarray:
    predicted = (probabilities.argmax(axis=1)[:, None] == np.arange(truth.shape[1])) & labelled[:, None]
    counts = weights @ np.concatenate([truth & predicted, truth, predicted], axis=1).astype(np.float64)
    both, true, claimed = np.split(counts, 3, axis=1)
    by_class = _ratio(2 * both, true + claimed)
    occurs = np.isfinite(by_class)
    return _ratio(np.where(occurs, by_class, 0).sum(axis=1), occurs.sum(axis=1))


def _roc_auc(truth: np.ndarray, probabilities: np.ndarray, labelled: np.ndarray, weights: np.ndarray) -> np.ndarray:
    classes = (1,) if truth.shape[1] == 2 else range(truth.shape[1])
    by_class = np.stack([weighted_roc_auc(truth[:, k], labelled & ~truth[:, k], probabilities[:, k], weights) for k in classes])
    defined = np.isfinite(by_class)
    return _ratio(np.where(defined, by_class, 0).sum(axis=0), defined.sum(axis=0))


_RESAMPLED: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "accuracy": _accuracy,
    "f1_macro": _f1_macro,
    "roc_auc": _roc_auc,
}


def resampled(name: str, labels: np.ndarray, probabilities: np.ndarray, mask: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A metric under R weightings of the rows.

    Args:
      name: "accuracy", "f1_macro" or "roc_auc".
      labels: one-hot, [n, C].
      probabilities: or other finite scores, [n, C].
      mask: bool [n, C], as of the module.
      weights: float [R, n], how often each row counts; a row of ones gives the metric itself.

    Returns:
      float64 [R]; NaN where a resample has nothing to evaluate. The temporary arrays stay small beside `weights`.
    """
    labelled = np.asarray(mask.all(axis=1))
    return _RESAMPLED[name]((labels == 1) & labelled[:, None], np.asarray(probabilities, np.float64), labelled, weights)


def labelled_rows(labels: np.ndarray, shape: tuple[int, ...], mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The labels of the N labelled rows, bool [N, C], and which rows they are, bool [n].

    Args:
      labels: one-hot, [n, C].
      shape: of the scores that belong to them.
      mask: as of the module.

    Raises:
      DataError: as of the module.
    """
    labels = np.asarray(labels)
    mask = np.asarray(np.ones(labels.shape) if mask is None else mask, bool)
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.shape != shape or labels.shape != mask.shape:
        raise DataError(f"labels {labels.shape}, scores {shape} and mask {mask.shape} must all be [n, C] with at least two classes.")
    labelled, whole = np.asarray(mask.any(axis=1)), np.asarray(mask.all(axis=1))
    if np.any(labelled != whole):
        row = int(np.argmax(labelled != whole))
        raise DataError(f"the mask of row {row} is {mask[row]}: in a multi-class task a row is labelled (all True) or not (all False).")
    if not np.any(labelled):
        raise DataError(f"none of the {len(labels)} rows has a label: use a split with labels.")
    one_hot = np.all((labels == 0) | (labels == 1), axis=1) & (np.sum(labels == 1, axis=1) == 1)
    if not np.all(one_hot[labelled]):
        row = int(np.argmax(labelled & ~one_hot))
        raise DataError(f"the label of row {row} is {labels[row]}, but must be one-hot.")
    return labels[labelled] == 1, labelled


def _checked(labels: np.ndarray, probabilities: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Labels as bool and probabilities as float64, both [N, C], of the N labelled rows."""
    probabilities = np.asarray(probabilities, np.float64)
    truth, labelled = labelled_rows(labels, probabilities.shape, mask)
    sums = probabilities.sum(axis=1)
    wrong = ~(np.abs(sums - 1) <= SUM_TOLERANCE) | np.any(probabilities < 0, axis=1)
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise DataError(f"row {row} is no distribution over classes: {probabilities[row]} has the sum {sums[row]:g}. Apply the softmax first.")
    return truth, probabilities[labelled]


def _of_all_rows(name: str, truth: np.ndarray, probabilities: np.ndarray) -> float:
    rows = np.ones(len(truth), bool)
    return float(_RESAMPLED[name](truth, probabilities, rows, np.ones((1, len(truth))))[0])


def _ece(truth: np.ndarray, probabilities: np.ndarray) -> float:
    confidence = probabilities.max(axis=1)
    excess = np.bincount(bin_of(confidence), weights=_correct(truth, probabilities) - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(excess).sum() / len(truth))


def _brier(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return float(np.square(probabilities - truth).sum(axis=1).mean())


def _nll(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return float(-np.log(np.maximum(probabilities[truth], LEAST_PROBABILITY)).mean())


def accuracy(labels: np.ndarray, probabilities: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Share of the labelled rows whose predicted class is the true one."""
    return _of_all_rows("accuracy", *_checked(labels, probabilities, mask))


def f1_macro(labels: np.ndarray, probabilities: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean of the F1 over the classes that occur among the labels or the predictions, as in scikit-learn."""
    return _of_all_rows("f1_macro", *_checked(labels, probabilities, mask))


def roc_auc(labels: np.ndarray, probabilities: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Area under the ROC curve of each class against the rest, the unweighted mean over classes with both; of two classes, that of class 1.

    A tie counts one half. NaN where no class has both a positive and a negative row.
    """
    return _of_all_rows("roc_auc", *_checked(labels, probabilities, mask))


def ece(labels: np.ndarray, probabilities: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Expected calibration error of the most probable class (Guo et al. 2017, arXiv 1706.04599).

    |mean probability - share of correct rows| over 15 equal bins of that probability, closed on the right, weighted by their size.
    """
    return _ece(*_checked(labels, probabilities, mask))


def brier(labels: np.ndarray, probabilities: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Squared difference of probability and label, summed over classes, mean over rows: Brier's own form, in [0, 2].

    For two classes this is twice the mean over one class.
    """
    return _brier(*_checked(labels, probabilities, mask))


def nll(labels: np.ndarray, probabilities: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean of -log of the true class's probability, in nats; probabilities below 2.2e-16 count as that, as in scikit-learn."""
    return _nll(*_checked(labels, probabilities, mask))


def agreement(probabilities: np.ndarray, teacher: np.ndarray) -> float:
    """Share of all rows, labelled or not, whose predicted class is that of a second system.

    Args:
      probabilities: or other scores, [n, C].
      teacher: of the second system, [n, C].

    Raises:
      DataError: shapes differ.
    """
    if np.ndim(probabilities) != 2 or np.shape(probabilities) != np.shape(teacher):
        raise DataError(f"probabilities {np.shape(probabilities)} and the teacher's {np.shape(teacher)} must both be [n, C].")
    return float(np.mean(np.argmax(probabilities, axis=1) == np.argmax(teacher, axis=1)))


def multiclass_metrics(labels: np.ndarray, probabilities: np.ndarray, mask: np.ndarray | None = None, *, teacher: np.ndarray | None = None) -> dict[str, float]:
    """The metrics of a split.

    Args:
      labels: one-hot, [n, C].
      probabilities: rows that sum to one, [n, C].
      mask: [n, C], a row all True (labelled) or all False (unlabelled); None = all rows are labelled.
      teacher: scores of the teacher on the same rows, [n, C].

    Returns:
      {"accuracy", "f1_macro", "roc_auc", "ece", "brier", "nll"} -> float, and "agreement" where there is a teacher.

    Raises:
      DataError: bad shapes or values, or no row has a label.
    """
    truth, counted = _checked(labels, probabilities, mask)
    values = {name: _of_all_rows(name, truth, counted) for name in _RESAMPLED}
    values |= {"ece": _ece(truth, counted), "brier": _brier(truth, counted), "nll": _nll(truth, counted)}
    return values if teacher is None else values | {"agreement": agreement(probabilities, teacher)}
