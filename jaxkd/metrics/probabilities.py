"""From logits to probabilities and back, and the bins in which their calibration is measured."""

import numpy as np
import scipy.special

CALIBRATION_BINS = 15
FLOOR = float(np.finfo(np.float32).tiny)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-logits)) without overflow, float32 of the same shape."""
    return (0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp(logits) / sum exp(logits) over the last axis without overflow, float32 of the same shape."""
    return scipy.special.softmax(logits.astype(np.float64), axis=-1).astype(np.float32)


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """log(probabilities), float64 of the same shape; a probability below the smallest normal float32 (1.2e-38) counts as that."""
    return np.log(np.maximum(probabilities.astype(np.float64), FLOOR))


def bin_of(probabilities: np.ndarray) -> np.ndarray:
    """The bin of each probability, int of the same shape: 15 of equal width over [0, 1], closed on the right."""
    return np.searchsorted(np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1], probabilities)
