"""Refuses a class, or a side of a label, that no training row has, in the terms of a config."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxkd import methods
from jaxkd.data.dataset import Dataset
from jaxkd.errors import DataError
from jaxkd.training.prepared import unaugmented

_OTHER_SOURCE = {"label": "teacher", "teacher": "label"}


def require_labelled_rows(config: Any, dataset: Dataset) -> None:
    """Refuses, before a teacher is trained, classes and labels that are known in all training rows and never there (or, of a label, never absent).

    It looks at the pseudo-class methods that fit on the labels. What is not known in some row counts there as the teacher will say.

    Raises:
      DataError: names them.
    """
    if config.method not in methods.PSEUDO_CLASS or config.method == "uniform" or config.lelp.classes_from != "label":
        return
    ids = unaugmented(dataset, "train")
    known = dataset.label_mask(ids).all(axis=0)
    # a teacher trained on these labels knows no more of them, so that its classes are no way out
    _refuse(dataset, _empty(dataset, dataset.labels(ids) > 0.5) & (np.repeat(known, 2) if dataset.task == "multilabel" else known))


def require_rows(config: Any, dataset: Dataset, present: Callable[[str], np.ndarray]) -> None:
    """Refuses classes and sides of labels that no training row counts for, before subclasses of them are looked for.

    Args:
      config: of the experiment.
      dataset: whose classes they are.
      present: from the source of the classes, "label" or "teacher", which of them each training row counts as having, bool [n, K].

    Raises:
      DataError: names them, and the other source where by that one none is missing.
    """
    empty = _empty(dataset, present(config.lelp.classes_from))
    if empty.any():
        other = _OTHER_SOURCE[config.lelp.classes_from]
        _refuse(dataset, empty, "" if _empty(dataset, present(other)).any() else f", or set config.lelp.classes_from={other!r}, by which none is missing")


def _empty(dataset: Dataset, present: np.ndarray) -> np.ndarray:
    """Whether no row counts for each class, bool [C], or for the absent and the present side of each label, bool [2 * L]."""
    if dataset.task == "multilabel":
        present = np.stack([~present, present], axis=-1).reshape(len(present), -1)
    return np.asarray(~present.any(axis=0))


def _refuse(dataset: Dataset, empty: np.ndarray, way_out: str = "") -> None:
    if dataset.task == "multilabel":
        kind, names = "label", [f"{name} {side}" for name in dataset.classes for side in ("absent", "present")]
    else:
        kind, names = "class", list(dataset.classes)
    if empty.any():
        missing = ", ".join(names[place] for place in np.flatnonzero(empty))
        raise DataError(f"no training row counts as {missing}: subclasses of that cannot be found. Add such rows, leave the {kind} out{way_out}.")
