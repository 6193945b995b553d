"""The area under the ROC curve under many weightings of the rows at once."""

import numpy as np

CHUNK_VALUES = 1 << 16  # weights taken up at once: the temporary arrays stay in the processor's cache


def weighted_roc_auc(positive: np.ndarray, negative: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted share of pairs of a positive and a negative row in which the positive has the higher score; a tie counts one half.

    Args:
      positive: bool [n].
      negative: bool [n]; rows that are neither do not count.
      scores: float [n], finite.
      weights: float [R, n], how often each row counts in each of R resamples.

    Returns:
      float64 [R]; NaN where a resample has no positive or no negative.
    """
    order = np.argsort(scores, kind="stable")
    positives, negatives = order[positive[order]], order[negative[order]]
    left, right = (np.searchsorted(scores[negatives], scores[positives], side=side) for side in ("left", "right"))
    areas = np.full(len(weights), np.nan)
    step = max(1, CHUNK_VALUES // max(1, len(scores)))
    for start in range(0, len(weights), step):
        chunk = weights[start : start + step]
        of_positives = np.take(chunk, positives, axis=1)
        below = np.zeros((len(chunk), len(negatives) + 1))
        np.cumsum(np.take(chunk, negatives, axis=1), axis=1, out=below[:, 1:])
        wins = np.einsum("rp,rp->r", of_positives, np.take(below, left, axis=1) + np.take(below, right, axis=1))
        pairs = of_positives.sum(axis=1) * below[:, -1]
        np.divide(wins, 2 * pairs, out=areas[start : start + step], where=pairs > 0)
    return areas
