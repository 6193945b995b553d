"""A few images in two views each, with random embeddings and a random classifier: what subclasses are fitted on, in milliseconds."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from jaxkd.data.dataset import Split, write_dataset
from jaxkd.data.views import Views
from jaxkd.embeddings import EmbeddingStore
from jaxkd.training.inputs import StudentInputs
from jaxkd.training.prepared import Classifier, Prepared

CLASSES = ("ash", "beech", "cedar")
ROWS, DIM = 90, 12


def random_labels(task: str) -> np.ndarray:
    """Labels of the training rows, float32 [ROWS, 3]."""
    rng = np.random.default_rng(1)
    return np.eye(3, dtype=np.float32)[rng.integers(0, 3, ROWS)] if task == "multiclass" else (rng.random((ROWS, 3)) < 0.5).astype(np.float32)


def few_rows(folder: Path, task: str, labels: np.ndarray | None = None, known: np.ndarray | None = None) -> Prepared:
    """Training rows alone, all labelled at random unless `labels` or `known` says otherwise."""
    rng, labels = np.random.default_rng(0), random_labels(task) if labels is None else labels
    known = np.ones((ROWS, 3), bool) if known is None else known
    split = Split([f"train/{row:02d}" for row in range(ROWS)], rng.integers(0, 255, (ROWS, 4, 4, 1)), labels, known)
    kind = {"name": "few", "fingerprint": "few", "modality": "image", "licence": "none", "notes": {}}
    images = write_dataset(folder / "data", task=task, classes=CLASSES, splits={"train": split}, **kind)
    dataset = Views(images, views=2, pad=1, flip=True, seed=0)
    writer = EmbeddingStore.create(folder / "store", identity={"teacher": "random"}, dim=DIM, dtype="float32")
    writer.append(dataset.splits["train"], rng.standard_normal((2 * ROWS, 1, DIM)) * np.geomspace(3, 0.3, DIM))
    classifier = Classifier(rng.standard_normal((DIM, 3)).astype(np.float32), np.zeros(3, np.float32), "random")
    return Prepared(dataset, StudentInputs(dataset, SimpleNamespace(), {}, {}), writer.finish(), classifier)
