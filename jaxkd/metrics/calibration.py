"""Calibration of multi-class probabilities by one temperature, fitted on held-out rows (Guo et al. 2017, arXiv 1706.04599)."""

import numpy as np
import scipy.optimize
import scipy.special

from jaxkd.errors import DataError
from jaxkd.metrics import multiclass
from jaxkd.metrics.probabilities import log_probabilities

TEMPERATURES = (0.05, 20.0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None) -> float:
    """The temperature T at which softmax(logits / T) has the least negative log-likelihood, in [0.05, 20].

    Args:
      logits: before the softmax, or log-probabilities (`log_probabilities`), [n, C].
      labels: one-hot, [n, C].
      mask: [n, C], a row all True (labelled) or all False (left out); None = all rows are labelled.

    Raises:
      DataError: bad shapes, a logit that is not finite, labels that are not one-hot, or no labelled row.
    """
    logits = np.asarray(logits, np.float64)
    if not np.all(np.isfinite(logits)):
        raise DataError(f"{np.sum(~np.isfinite(logits))} of {logits.size} logits are not finite: pass probabilities through `log_probabilities`.")
    truth, labelled = multiclass.labelled_rows(labels, logits.shape, mask)
    counted = logits[labelled]

    def loss(log_temperature: float) -> float:
        return -float(scipy.special.log_softmax(counted * np.exp(-log_temperature), axis=1)[truth].mean())

    found = scipy.optimize.minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def calibration_after_scaling(labels: np.ndarray, probabilities: np.ndarray, mask: np.ndarray | None = None, *, temperature: float) -> dict[str, float]:
    """Calibration error and Brier score of softmax(log(probabilities) / temperature), the predicted classes being the same.

    Args:
      labels: one-hot, [n, C].
      probabilities: rows that sum to one, [n, C].
      mask: [n, C], a row all True (labelled) or all False (unlabelled); None = all rows are labelled.
      temperature: of `fit_temperature`, fitted on other rows.

    Returns:
      {"ece_scaled", "brier_scaled"} -> float.

    Raises:
      DataError: as in `multiclass_metrics`.
    """
    scaled = scipy.special.softmax(log_probabilities(np.asarray(probabilities)) / temperature, axis=1)
    return {"ece_scaled": multiclass.ece(labels, scaled, mask), "brier_scaled": multiclass.brier(labels, scaled, mask)}
