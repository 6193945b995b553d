"""The teacher's own linear probe: a logistic regression a label on its clip embedding, by scikit-learn."""

from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from jaxkd.metrics import multilabel_metrics, sigmoid

INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Probe(NamedTuple):
    """A fitted probe.

    Attributes:
      mean, std: of the training embeddings, float32 [D].
      kernel: float32 [D, K].
      bias: float32 [K].
      inverse_penalty: C of scikit-learn's LogisticRegression, chosen on the validation split.
    """

    mean: np.ndarray
    std: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    inverse_penalty: float

    def scores(self, embedding: np.ndarray) -> np.ndarray:
        """Clip embeddings [n, D] -> scores in (0, 1), float32 [n, K]."""
        return sigmoid((embedding - self.mean) / self.std @ self.kernel + self.bias)


def _fit(embedding: np.ndarray, labels: np.ndarray, label_mask: np.ndarray, inverse_penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [D, K] and bias [K] of one logistic regression a label on its known rows; a label with one value only gets that value's prior."""
    kernel = np.zeros((embedding.shape[1], labels.shape[1]), np.float32)
    bias = np.zeros(labels.shape[1], np.float32)
    for label, known in enumerate(label_mask.T):
        targets = labels[known, label] > 0.5
        if targets.any() and not targets.all():
            model = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(embedding[known], targets)
            kernel[:, label], bias[label] = model.coef_[0], model.intercept_[0]
        else:
            bias[label] = np.log((targets.sum() + 0.5) / ((~targets).sum() + 0.5))
    return kernel, bias


def fit_probe(train: tuple[np.ndarray, np.ndarray, np.ndarray], valid: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Probe:
    """Fits the probe for each penalty of INVERSE_PENALTIES and keeps the one of the highest validation mAP.

    Args:
      train: clip embeddings [n, D], labels [n, K], label mask [n, K]; rows without a label are left out.
      valid: the same for the validation split.
    """
    known = train[2].any(axis=1)
    embedding = train[0][known].astype(np.float32)
    mean, std = embedding.mean(axis=0), embedding.std(axis=0)
    std = np.where(std > 0, std, np.float32(1))
    best, best_map = None, -1.0
    for inverse_penalty in INVERSE_PENALTIES:
        kernel, bias = _fit((embedding - mean) / std, train[1][known], train[2][known], inverse_penalty)
        probe = Probe(mean, std, kernel, bias, inverse_penalty)
        score = multilabel_metrics(valid[1], probe.scores(valid[0].astype(np.float32)), valid[2])["map"]
        if score > best_map:
            best, best_map = probe, score
    assert best is not None
    return best
