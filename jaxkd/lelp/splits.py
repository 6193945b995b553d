"""Other ways to divide classes into subclasses, and the controls: each gives a probability of every subclass for all rows and classes.

The splits find groups among the rows of a class (`classes` >= 0) and give every other row, and every other class, the group with the nearest mean.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxkd.errors import ConfigError, DataError, require_count
from jaxkd.lelp.principal import require_every_class
from jaxkd.types import Array

AGGLOMERATIVE_MAX_ROWS = 4096
TSNE_MAX_ROWS = 2000
KMEANS_STARTS: Any = 4  # scikit-learn's signature says "auto", which is one start


def _check(embedding: Array, classes: Array, num_classes: int, num_subclasses: int) -> tuple[np.ndarray, np.ndarray]:
    embedding, classes = np.asarray(embedding), np.asarray(classes)
    if embedding.ndim != 2 or classes.shape != embedding.shape[:1]:
        raise DataError(f"embeddings {embedding.shape} came with classes {classes.shape}: [n, D] and [n] are needed.")
    require_count("num_subclasses", num_subclasses)
    _check_classes(classes, num_classes)
    finite = np.all(np.isfinite(embedding), axis=1)
    if not np.all(finite):
        raise DataError(f"the embedding of row {np.argmin(finite)} is NaN or infinite: look at the teacher's inputs and weights.")
    return embedding - embedding.mean(axis=0, dtype=np.float64).astype(np.float32), classes


def _check_classes(classes: np.ndarray, num_classes: int) -> None:
    require_count("num_classes", num_classes)
    wrong = np.flatnonzero((classes < -1) | (classes >= num_classes))
    if wrong.size:
        raise DataError(f"row {wrong[0]} has class {classes[wrong[0]]}: with {num_classes} classes they run from 0 to {num_classes - 1}, and -1 is no class.")
    require_every_class(np.bincount(classes[classes >= 0], minlength=num_classes))


def _split(
    embedding: Array,
    classes: Array,
    num_classes: int,
    num_subclasses: int,
    seed: int,
    max_rows: int | None,
    group: Callable[[np.ndarray, int], np.ndarray],
) -> np.ndarray:
    """Hard subclasses: `group(rows, count)` numbers the groups of at most `max_rows` distinct rows of a class, chosen at random."""
    from sklearn.metrics import pairwise_distances_argmin

    embedding, classes = _check(embedding, classes, num_classes, num_subclasses)
    probs = np.zeros((len(embedding), num_classes, num_subclasses), np.float32)
    for c in range(num_classes):
        own = np.flatnonzero(classes == c)
        if max_rows is not None and len(own) > max_rows:
            own = np.sort(np.random.default_rng((seed, c)).choice(own, max_rows, replace=False))
        rows = embedding[own]
        distinct = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
        groups = distinct if distinct.max() < num_subclasses else np.asarray(group(rows, num_subclasses))
        means = np.stack([rows[groups == number].mean(axis=0) for number in range(groups.max() + 1)])
        assigned = pairwise_distances_argmin(embedding, means)
        assigned[own] = groups
        probs[np.arange(len(embedding)), c, assigned] = 1
    return probs


def kmeans(embedding: Array, classes: Array, *, num_classes: int, num_subclasses: int, seed: int = 0) -> np.ndarray:
    """Subclasses from k-means on the embeddings of each class, the clustering variant of arXiv 2409.20449.

    Args:
      embedding: the teacher's, of all rows, floats [n, D].
      classes: of the rows to fit on; -1 for those that are only assigned, integers [n].
      num_classes: C.
      num_subclasses: S; a class with fewer distinct rows has as many subclasses as those.
      seed: of the starts.

    Returns:
      One-hot over the last axis, float32 [n, C, S].

    Raises:
      ConfigError: C or S is not an integer of at least 1.
      DataError: shapes that do not fit, a class without rows or out of range, values that are not finite.
    """
    from sklearn.cluster import KMeans

    def group(rows: np.ndarray, count: int) -> np.ndarray:
        return KMeans(count, n_init=KMEANS_STARTS, random_state=seed).fit_predict(rows)

    return _split(embedding, classes, num_classes, num_subclasses, seed, None, group)


def agglomerative(
    embedding: Array, classes: Array, *, num_classes: int, num_subclasses: int, seed: int = 0, max_rows: int = AGGLOMERATIVE_MAX_ROWS
) -> np.ndarray:
    """Subclasses from Ward's agglomerative clustering of the embeddings of each class.

    Its memory grows with the square of the rows, so at most `max_rows` rows of a class (a random choice by `seed`) are clustered; the others
    are assigned. Arguments, result and errors as `kmeans`.
    """
    from sklearn.cluster import AgglomerativeClustering

    def group(rows: np.ndarray, count: int) -> np.ndarray:
        return AgglomerativeClustering(count).fit_predict(rows)

    return _split(embedding, classes, num_classes, num_subclasses, seed, max_rows, group)


def tsne_kmeans(embedding: Array, classes: Array, *, num_classes: int, num_subclasses: int, seed: int = 0, max_rows: int = TSNE_MAX_ROWS) -> np.ndarray:
    """Subclasses from k-means in the plane of t-SNE, for each class (after Yang, Steinhardt, Hu 2023, arXiv 2306.17105).

    t-SNE maps only the rows that it is fitted on: at most `max_rows` rows of a class (a random choice by `seed`); the others go to the group with the
    nearest mean in the space of the embeddings. Arguments, result and errors as `kmeans`.
    """
    from sklearn.cluster import KMeans
    from sklearn.manifold import TSNE

    def group(rows: np.ndarray, count: int) -> np.ndarray:
        plane = TSNE(perplexity=min(30.0, (len(rows) - 1) / 3), init="random", random_state=seed).fit_transform(rows)
        return KMeans(count, n_init=KMEANS_STARTS, random_state=seed).fit_predict(plane)

    return _split(embedding, classes, num_classes, num_subclasses, seed, max_rows, group)


def oracle(fine_labels: Array, classes: Array, *, num_classes: int, num_subclasses: int | None = None) -> np.ndarray:
    """Subclasses from the true fine labels: what a split could reach at best.

    A fine label belongs to the class that most of its rows have, and is there one subclass. For the other classes, and for a row whose fine label is not
    known, the subclasses have the frequencies of the fine labels in the class.

    Args:
      fine_labels: of all rows, -1 where not known, integers [n].
      classes: -1 for rows that are only assigned, integers [n].
      num_classes: C.
      num_subclasses: S; None = the largest number of fine labels of a class. Subclasses that a class does not use have probability 0.

    Returns:
      float32 [n, C, S], sums to 1 over the last axis.

    Raises:
      ConfigError: a class has more than S fine labels; C is not an integer of at least 1.
      DataError: shapes that do not fit, a class out of range, or without fine labels.
    """
    fine_labels, classes = np.asarray(fine_labels), np.asarray(classes)
    if fine_labels.ndim != 1 or fine_labels.shape != classes.shape:
        raise DataError(f"fine labels {fine_labels.shape} came with classes {classes.shape}: one of each for every row is needed.")
    fitted = (classes >= 0) & (fine_labels >= 0)
    _check_classes(np.where(fitted | (classes < -1), classes, -1), num_classes)
    counts = np.zeros((num_classes, int(fine_labels.max()) + 1), np.int64)
    np.add.at(counts, (classes[fitted], fine_labels[fitted]), 1)
    owner = np.where(counts.sum(axis=0) > 0, counts.argmax(axis=0), -1)
    members = [np.flatnonzero(owner == c) for c in range(num_classes)]
    empty = [c for c, fine in enumerate(members) if not len(fine)]
    if empty:
        raise DataError(f"no fine label belongs to class {empty[0]}: every one of its rows has a fine label that is more frequent in another class.")
    needed = max(map(len, members))
    width = needed if num_subclasses is None else num_subclasses
    if needed > width:
        raise ConfigError(f"num_subclasses is {width}, but a class has {needed} fine labels: use at least {needed}.")
    probs = np.zeros((len(classes), num_classes, width), np.float32)
    for c, fine in enumerate(members):
        frequencies = counts[:, fine].sum(axis=0)
        probs[:, c, : len(fine)] = frequencies / frequencies.sum()
        known = np.isin(fine_labels, fine)
        probs[known, c] = np.eye(width, dtype=np.float32)[np.searchsorted(fine, fine_labels[known])]
    return probs


def permuted(subclass_probs: Array, classes: Array, *, seed: int | tuple[int, ...] = 0) -> np.ndarray:
    """Control: the subclasses of another row of the same class, so that they say nothing of the row but are distributed as before.

    Args:
      subclass_probs: float32 [n, C, S].
      classes: integers [n]; rows with -1 are exchanged among themselves.
      seed: of the permutation.

    Returns:
      float32 [n, C, S].

    Raises:
      DataError: not one class for each row.
    """
    subclass_probs, classes = np.asarray(subclass_probs, np.float32), np.asarray(classes)
    if subclass_probs.ndim != 3 or classes.shape != subclass_probs.shape[:1]:
        raise DataError(
            f"subclass probabilities {subclass_probs.shape} came with classes {classes.shape}: [n, C, S] and [n] are needed, one class for each row."
        )
    source, rng = np.arange(len(classes)), np.random.default_rng(seed)
    for c in np.unique(classes):
        source[classes == c] = rng.permutation(source[classes == c])
    return subclass_probs[source]


def uniform(rows: int, *, num_classes: int, num_subclasses: int) -> np.ndarray:
    """Control: every subclass of a class as probable as the others, float32 [rows, C, S]; ConfigError if C or S is not an integer of at least 1."""
    require_count("num_classes", num_classes)
    require_count("num_subclasses", num_subclasses)
    return np.full((rows, num_classes, num_subclasses), 1 / num_subclasses, np.float32)
