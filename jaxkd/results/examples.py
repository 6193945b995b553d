"""The examples that a run is scored on, split by split; its metrics on them, and its predictions kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxkd.files import atomic_path
from jaxkd.metrics import multiclass_metrics, multilabel_metrics
from jaxkd.results.predictions import predictions_path
from jaxkd.training.prepared import Prepared


class Examples(NamedTuple):
    """The examples of a split.

    Attributes:
      data: what they are read from.
      split: their split there.
    """

    data: Prepared
    split: str

    @property
    def ids(self) -> list[str]:
        """Their n ids."""
        return self.data.dataset.splits[self.split]

    @property
    def labels(self) -> np.ndarray:
        """Their targets, float32 [n, K]."""
        return self.data.dataset.labels(self.ids)

    @property
    def label_mask(self) -> np.ndarray:
        """True where a label counts, bool [n, K]."""
        return self.data.dataset.label_mask(self.ids)


def evaluated_examples(prepared: Prepared, other_split: str) -> dict[str, Examples]:
    """By the name of a split in reports: every split but the training split, and as `other_split` the test split of another data set, if there is one."""
    found = {split: Examples(prepared, split) for split in prepared.dataset.splits if split != "train"}
    return found if prepared.other is None else {**found, other_split: Examples(prepared.other, "test")}


def write_predictions(workdir: Path, examples: Mapping[str, Examples], scores: Mapping[str, np.ndarray], *, side: str = "student") -> None:
    """Keeps the scores [n, K] of each split with its ids, labels and mask, and the hidden subclasses where the data set has them."""
    for split, values in scores.items():
        of = examples[split]
        arrays = {"ids": np.array(of.ids), "scores": values, "labels": of.labels, "label_mask": of.label_mask, "task": np.array(of.data.dataset.task)}
        if of.data.dataset.fine_classes:
            arrays["fine_labels"] = of.data.dataset.fine_labels(of.ids)
        with atomic_path(predictions_path(workdir, split, side=side)) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)


def split_metrics(
    examples: Mapping[str, Examples], scores: Mapping[str, np.ndarray], threshold: float, *, teacher: Mapping[str, np.ndarray] | None = None
) -> dict[str, dict[str, float]]:
    """{split: {metric: value}} of scores [n, K]; with the teacher's scores also the agreement with it."""
    results = {}
    for split, values in scores.items():
        labels, mask = examples[split].labels, examples[split].label_mask
        of_teacher = None if teacher is None else teacher[split]
        if examples[split].data.dataset.task == "multiclass":
            results[split] = multiclass_metrics(labels, values, mask, teacher=of_teacher)
        else:
            results[split] = multilabel_metrics(labels, values, mask, threshold=threshold, teacher=of_teacher)
    return results
