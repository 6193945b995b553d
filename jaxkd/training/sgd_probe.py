"""The linear probe as the code of EAsT trains it (arXiv 2306.17424, "Teacher_LR"): unpenalised, by stochastic gradient descent with an early stop."""

from types import SimpleNamespace

import numpy as np

from jaxkd.metrics import multiclass_metrics, multilabel_metrics, sigmoid, softmax
from jaxkd.training.optimiser import Plateau
from jaxkd.training.probe import Probe

BATCH, MAX_STEPS, CLIP_NORM = 16, 80_000, 1.0
SCHEDULE = SimpleNamespace(plateau_patience=1, plateau_factor=0.1, early_stop_patience=3)
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Vectors [n, D], labels [n, K], label mask [n, K]."""


def gradients(kernel: np.ndarray, bias: np.ndarray, rows: Rows, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Gradients [D, K] and [K] of the mean cross-entropy over the known entries, or over the known rows of a multi-class task, clipped to norm CLIP_NORM.

    Args:
      kernel: [D, K].
      bias: [K].
      rows: of a batch.
      task: "multilabel" or "multiclass".
    """
    vectors, labels, mask = rows
    logits = vectors @ kernel + bias
    known = mask if task == "multilabel" else mask.all(axis=1, keepdims=True)
    error = ((sigmoid(logits) if task == "multilabel" else softmax(logits)) - labels) * known / max(known.sum(), 1)
    of_kernel, of_bias = vectors.T @ error, error.sum(axis=0)
    norm = np.sqrt(np.square(of_kernel).sum() + np.square(of_bias).sum())
    scale = np.float32(CLIP_NORM / max(norm, CLIP_NORM))
    return scale * of_kernel, scale * of_bias


def cross_entropy(logits: np.ndarray, labels: np.ndarray, mask: np.ndarray, task: str) -> float:
    """What `gradients` are of."""
    logits = logits.astype(np.float64)
    if task == "multilabel":
        return float((np.logaddexp(0, logits) - labels * logits)[mask].mean())
    known = mask.all(axis=1)
    return float((np.logaddexp.reduce(logits, axis=1) - (labels * logits).sum(axis=1))[known].mean())


def fit_sgd_probe(
    train: Rows,
    valid: Rows,
    *,
    task: str = "multilabel",
    learning_rate: float = 0.1,
    mean: np.ndarray | float = 0.0,
    std: np.ndarray | float = 1.0,
    seed: int = 0,
) -> Probe:
    """Fits the probe in batches of 16 and keeps the pass of the highest validation mAP, or accuracy for a multi-class task.

    After each pass over the rows, in a new order, the validation loss is measured: the learning rate is cut to a tenth after two passes without a lower one,
    and training stops after three, or after 80,000 steps.

    Args:
      train: rows without a label are left out.
      valid: of the validation split.
      task: "multilabel" or "multiclass".
      learning_rate: at first; 0.1 in EAsT, 0.2 with VGGish on OpenMIC and PaSST on MagnaTagATune.
      mean: subtracted from the vectors, [D] or one number; in EAsT constants of the teacher.
      std: what they are then divided by.
      seed: of the start, as torch's linear layer has it, and of the order of the rows.
    """
    known = train[2].any(axis=1)
    vectors, labels, mask = (np.asarray(part)[known] for part in train)
    vectors = ((vectors - mean) / std).astype(np.float32)
    dim, outputs = vectors.shape[1], labels.shape[1]
    generator, bound = np.random.default_rng(seed), dim**-0.5
    kernel, bias = (generator.uniform(-bound, bound, shape).astype(np.float32) for shape in ((dim, outputs), outputs))
    of_data = np.broadcast_to(np.float32(mean), dim), np.broadcast_to(np.float32(std), dim)
    plateau, steps = Plateau(), 0
    best, best_score = None, -1.0
    while steps < MAX_STEPS and not plateau.stops(SCHEDULE):
        order = generator.permutation(len(vectors))
        for start in range(0, min(len(order), BATCH * (MAX_STEPS - steps)), BATCH):
            picked = order[start : start + BATCH]
            of_kernel, of_bias = gradients(kernel, bias, (vectors[picked], labels[picked], mask[picked]), task)
            kernel, bias = kernel - learning_rate * plateau.scale * of_kernel, bias - learning_rate * plateau.scale * of_bias
            steps += 1
        probe = Probe(*of_data, kernel.astype(np.float32), bias.astype(np.float32), None, task)
        plateau = plateau.update(cross_entropy(probe.logits(valid[0]), valid[1], valid[2], task), SCHEDULE)
        measure, metric = (multiclass_metrics, "accuracy") if task == "multiclass" else (multilabel_metrics, "map")
        score = measure(valid[1], probe.scores(valid[0]), valid[2])[metric]
        if score > best_score:
            best, best_score = probe, score
    assert best is not None
    return best
