"""The subclasses of data with many labels an example: each label is two classes, absent and present, with subclasses of their own."""

import functools
from typing import Any

import jax
import numpy as np

from jaxkd import lelp
from jaxkd.embeddings.store import mean_embeddings
from jaxkd.lelp import splits
from jaxkd.training.class_rows import require_rows
from jaxkd.training.prepared import Prepared, unaugmented


def fit_labels(config: Any, prepared: Prepared, ids: list[str]) -> tuple[lelp.Subspaces | None, np.ndarray]:
    """The subspaces of the methods that have them, and the probabilities of all `ids`, [n, 2 * L, S].

    They are fitted on the training rows without augmented views; a label that is unknown in a row counts as the teacher says. `rotation` and `solver` do not
    apply to random directions.

    Raises:
      ConfigError: more directions than the null space has.
      DataError: a label that is never present, or never absent.
    """
    settings, dataset, store, classifier = config.lelp, prepared.dataset, prepared.store, prepared.classifier
    assert store is not None and classifier is not None
    num_labels = len(dataset.classes)
    if config.method == "uniform":
        return None, splits.uniform(len(ids), num_classes=2 * num_labels, num_subclasses=settings.subclasses)
    embedding, fitted = mean_embeddings(store, ids), np.isin(ids, unaugmented(dataset, "train"))
    present_by = functools.partial(_present, prepared, ids, classifier.logits(embedding))
    require_rows(config, dataset, lambda source: present_by(source)[fitted])
    present = present_by(settings.classes_from)
    options: dict[str, Any] = {name: settings[name] for name in ("null_space", "scale")}
    if config.method == "random_directions":
        options["directions"] = "random"
    else:
        options |= {name: settings[name] for name in ("rotation", "simplex", "solver")}
    subspaces = lelp.fit_label_subspaces(
        [(embedding[fitted], present[fitted], np.ones((fitted.sum(), num_labels), bool))],
        num_labels=num_labels,
        num_subclasses=settings.subclasses,
        classifier_kernel=classifier.kernel,
        names=dataset.classes,
        key=jax.random.key(config.seed),
        **options,
    )
    probs = np.array(lelp.subclass_probs(subspaces, embedding, subclass_temperature=settings.subclass_temperature))
    if config.method == "permuted":
        train = np.isin(ids, dataset.splits["train"])
        for label in range(num_labels):
            pair, classes = np.s_[train, 2 * label : 2 * label + 2], present[train, label].astype(np.int64)
            probs[pair] = splits.permuted(probs[pair], classes, seed=(config.seed, label))
    return subspaces, probs


def _present(prepared: Prepared, ids: list[str], logits: np.ndarray, source: str) -> np.ndarray:
    """Which labels each row counts as having: those that are known, else (or with the source "teacher" always) the teacher's; bool [n, L]."""
    labels, known = prepared.dataset.labels(ids), prepared.dataset.label_mask(ids)
    if source == "teacher":
        known = np.zeros_like(known)
    return np.where(known, labels > 0.5, logits > 0)
