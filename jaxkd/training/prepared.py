"""What the precompute stage hands to training: the data, the student's inputs, and what the teacher said."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxkd.data.dataset import Dataset
from jaxkd.data.views import Views, base_ids
from jaxkd.embeddings.blocks import shared_out
from jaxkd.embeddings.joined import JoinedStore
from jaxkd.embeddings.store import EmbeddingStore, mean_embeddings
from jaxkd.lelp import fold_logits
from jaxkd.training.inputs import StudentInputs
from jaxkd.types import Gatherable, Table


class Classifier(NamedTuple):
    """The teacher's own output layer: logits = embedding @ kernel + bias.

    Attributes:
      kernel: float32 [D, K] (K = C * S, class-major, for a teacher with subclasses).
      bias: float32 [K].
      weight_hash: hex sha256 of the whole classifier's parameters.
    """

    kernel: np.ndarray
    bias: np.ndarray
    weight_hash: str

    def logits(self, embedding: np.ndarray) -> np.ndarray:
        """[n, D] -> float32 [n, K]."""
        return np.asarray(embedding, np.float32) @ self.kernel + self.bias


class Prepared(NamedTuple):
    """All that a run reads by example id.

    Attributes:
      dataset: ids by split and labels.
      inputs: of the student.
      store: the embeddings of the teacher, or of several side by side; with a classifier those that it reads. None while the teacher itself is being trained.
      classifier: the teacher's output layer on the mean over time, or None for a teacher without one.
      targets: what the method precomputed, or None.
      notes: remarks on the teacher for the report.
      frames: the embeddings of the pretrained network below a trained classifier, for the methods that take those; None where `store` is what a method takes.
      other: another data set that the trained student is tested on, with the classes of `dataset`, or None.
    """

    dataset: Dataset
    inputs: StudentInputs
    store: EmbeddingStore | JoinedStore | None = None
    classifier: Classifier | None = None
    targets: Table | None = None
    notes: Mapping[str, str] = MappingProxyType({})
    frames: EmbeddingStore | None = None
    other: "Prepared | None" = None

    def embedding(self) -> EmbeddingStore | JoinedStore | None:
        """The store of the embedding that the batches of a method carry."""
        return self.store if self.frames is None else self.frames

    def teacher_logits(self) -> Table | None:
        """Logits of the classifier for every id of the store, or None without a classifier; the processes of a job share the reading, and must all call it."""
        store, classifier = self.store, self.classifier
        if store is None or classifier is None:
            return None
        ids = list(store.ids)
        logits = shared_out(lambda block: classifier.logits(mean_embeddings(store, block)), ids)
        return Table({example: place for place, example in enumerate(ids)}, np.concatenate(list(logits)))

    def by_view(self, source: Gatherable) -> Gatherable:
        """What was made from the embedded examples, as it is read by the ids of the data set: for images they may be augmented views."""
        return self.dataset.teacher_side(source) if isinstance(self.dataset, Views) else source

    def train_classes(self) -> np.ndarray:
        """Class of each training row: its label, else the class that the teacher's classifier guesses, else -1; int32 [N]. Multi-label rows have none: -1."""
        ids = self.dataset.splits["train"]
        if self.dataset.task != "multiclass":
            return np.full(len(ids), -1, np.int32)
        labels, mask = self.dataset.labels(ids), self.dataset.label_mask(ids)
        logits = None if mask.all() else self.teacher_logits()
        guessed = -1 if logits is None else np.asarray(fold_logits(self.by_view(logits).gather(ids), labels.shape[1])).argmax(axis=1)
        return np.where(mask.all(axis=1), labels.argmax(axis=1), guessed).astype(np.int32)

    def log_odds(self) -> np.ndarray:
        """Logits of a classifier that knows nothing of an example but how often each label or class is true among the known of the training split.

        Counts begin at one of each outcome, so that all logits are finite.

        Returns:
          float32 [K]: of each label, log of known positives over known negatives; of the classes, log of their shares.
        """
        ids = self.dataset.splits["train"]
        labels, mask = self.dataset.labels(ids), self.dataset.label_mask(ids)
        positive = 1 + np.sum(np.where(mask, labels, 0), axis=0)
        if self.dataset.task == "multiclass":
            return np.log(positive / positive.sum()).astype(np.float32)
        return np.log(positive / (1 + np.sum(np.where(mask, 1 - labels, 0), axis=0))).astype(np.float32)


def unaugmented(dataset: Dataset, split: str) -> list[str]:
    """The ids of a split without augmented views."""
    ids = dataset.splits[split]
    return base_ids(ids) if isinstance(dataset, Views) else ids
