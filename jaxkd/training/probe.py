"""The teacher's own linear probe: a logistic regression on its mean embedding, by scikit-learn; one a label, or one over the classes."""

from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from jaxkd.metrics import multiclass_metrics, multilabel_metrics, sigmoid, softmax

INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Probe(NamedTuple):
    """A fitted probe.

    Attributes:
      mean, std: what is subtracted from the embeddings and what they are then divided by, float32 [D].
      kernel: float32 [D, K].
      bias: float32 [K].
      inverse_penalty: C of scikit-learn's LogisticRegression, chosen on the validation split; None for a probe without a penalty.
      task: "multilabel" or "multiclass".
    """

    mean: np.ndarray
    std: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    inverse_penalty: float | None
    task: str = "multilabel"

    def logits(self, embedding: np.ndarray) -> np.ndarray:
        """Mean embeddings [n, D] -> logits [n, K]."""
        return (embedding - self.mean) / self.std @ self.kernel + self.bias

    def scores(self, embedding: np.ndarray) -> np.ndarray:
        """Mean embeddings [n, D] -> scores in (0, 1), float32 [n, K]."""
        logits = self.logits(embedding)
        return softmax(logits) if self.task == "multiclass" else sigmoid(logits)

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel [D, K] and bias [K] that make the same logits of embeddings as they are, float32."""
        kernel = (self.kernel / self.std.astype(np.float64)[:, None]).astype(np.float32)
        return kernel, (self.bias - self.mean @ kernel.astype(np.float64)).astype(np.float32)


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


def _fit_classes(embedding: np.ndarray, labels: np.ndarray, inverse_penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [D, C] and bias [C] of one logistic regression over the classes; one that no row has gets a logit far below the others."""
    classes = labels.argmax(axis=1)
    kernel = np.zeros((embedding.shape[1], labels.shape[1]), np.float32)
    bias = np.full(labels.shape[1], -100.0, np.float32)
    present = np.unique(classes)
    if len(present) == 1:
        bias[present] = 0.0
        return kernel, bias
    model = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(embedding, classes)
    if len(present) == 2:
        kernel[:, present[1]], bias[present[0]], bias[present[1]] = model.coef_[0], 0.0, model.intercept_[0]
    else:
        kernel[:, present], bias[present] = model.coef_.T, model.intercept_
    return kernel, bias


def fit_probe(
    train: tuple[np.ndarray, np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    task: str = "multilabel",
    least_std: float = 0.0,
) -> Probe:
    """Fits the probe for each penalty of INVERSE_PENALTIES and keeps the one of the highest validation mAP, or accuracy for a multi-class task.

    Args:
      train: mean embeddings [n, D], labels [n, K], label mask [n, K]; rows without a label are left out.
      valid: the same for the validation split.
      task: "multilabel" or "multiclass".
      least_std: as a share of the root mean square of all standard deviations, the least that a dimension is divided by. Without it one that hardly varies
        in these rows gets a kernel of any size, and rules the logits as soon as the embedding changes.
    """
    known = train[2].any(axis=1)
    embedding = train[0][known].astype(np.float32)
    mean, std = embedding.mean(axis=0), embedding.std(axis=0)
    std = np.maximum(std, np.float32(least_std) * np.sqrt(np.square(std).mean()))
    std = np.where(std > 0, std, np.float32(1))
    best, best_score = None, -1.0
    rows = (embedding - mean) / std
    for inverse_penalty in INVERSE_PENALTIES:
        with threadpool_limits(1):  # threads cost more than they give for so few rows
            if task == "multiclass":
                kernel, bias = _fit_classes(rows, train[1][known], inverse_penalty)
            else:
                kernel, bias = _fit(rows, train[1][known], train[2][known], inverse_penalty)
        probe = Probe(mean, std, kernel, bias, inverse_penalty, task)
        scores = probe.scores(valid[0].astype(np.float32))
        score = multiclass_metrics(valid[1], scores, valid[2])["accuracy"] if task == "multiclass" else multilabel_metrics(valid[1], scores, valid[2])["map"]
        if score > best_score:
            best, best_score = probe, score
    assert best is not None
    return best
