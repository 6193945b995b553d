"""The final evaluation: predictions of the student and of the teacher's probe on every split, sizes and speeds of both."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxkd.data.audio_dataset import AudioDataset
from jaxkd.embeddings.store import EmbeddingStore
from jaxkd.files import atomic_path
from jaxkd.metrics import multilabel_metrics
from jaxkd.models.macs import count_macs
from jaxkd.results.predictions import predictions_path
from jaxkd.training.probe import Probe, fit_probe

SPEED_BATCH = 16
SPEED_REPEATS = 5


def evaluated_splits(dataset: AudioDataset) -> list[str]:
    """Every split but the training split."""
    return [split for split in dataset.splits if split != "train"]


def clip_embeddings(store: EmbeddingStore, ids: list[str]) -> np.ndarray:
    """Mean over time of the embeddings, float32 [n, D]."""
    lengths = store.lengths(ids)
    frames = store.gather(ids).astype(np.float32)
    present = np.arange(frames.shape[1])[None, :, None] < lengths[:, None, None]
    return np.where(present, frames, 0).sum(axis=1) / lengths[:, None]


def probe_scores(dataset: AudioDataset, store: EmbeddingStore) -> tuple[Probe, dict[str, np.ndarray]]:
    """Fits the teacher's linear probe and scores every evaluated split, float32 [n, K] each."""
    of = {split: (clip_embeddings(store, ids), dataset.labels(ids), dataset.label_mask(ids)) for split, ids in dataset.splits.items()}
    probe = fit_probe(of["train"], of["valid"])
    return probe, {split: probe.scores(of[split][0]) for split in evaluated_splits(dataset)}


def write_predictions(workdir: Path, dataset: AudioDataset, split: str, scores: np.ndarray, *, probe: bool = False) -> None:
    """Keeps the scores [n, K] of a split with its ids, labels and mask."""
    ids = dataset.splits[split]
    path = predictions_path(workdir, split, probe=probe)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, ids=np.array(ids), scores=scores, labels=dataset.labels(ids), label_mask=dataset.label_mask(ids))


def split_metrics(dataset: AudioDataset, scores: dict[str, np.ndarray], threshold: float) -> dict[str, dict[str, float]]:
    """{split: {metric: value}} of scores [n, K]."""
    return {
        split: multilabel_metrics(dataset.labels(dataset.splits[split]), values, dataset.label_mask(dataset.splits[split]), threshold=threshold)
        for split, values in scores.items()
    }


def examples_per_second(function: Callable[[np.ndarray], Any], inputs: np.ndarray) -> float:
    """Rows of `inputs` a second through `function`, the best of a few calls after one to compile."""
    jax.block_until_ready(function(inputs))
    seconds = []
    for _ in range(SPEED_REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(function(inputs))
        seconds.append(time.perf_counter() - started)
    return len(inputs) / min(seconds)


def measure_student(student: Any, variables: dict[str, Any], transform: Callable[[Any, jax.Array], jax.Array], inputs: np.ndarray) -> dict[str, Any]:
    """Parameters, multiply-accumulates an example (front end not counted) and examples a second (front end counted) of a student.

    Args:
      student: module.
      variables: its parameters and statistics.
      transform: from inputs to what it takes.
      inputs: a batch of examples.
    """
    features = jax.eval_shape(lambda x: transform(None, x), inputs[:1])
    macs = count_macs(lambda x: student.apply(variables, x, train=False).logits, features)
    forward = jax.jit(lambda variables, x: student.apply(variables, transform(None, x), train=False).logits)
    parameters = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(variables["params"]))
    return {"parameters": parameters, "macs_per_example": macs, "examples_per_second": examples_per_second(lambda x: forward(variables, x), inputs)}


def measure_teacher(teacher: Any, inputs: np.ndarray) -> dict[str, Any]:
    """The same of a teacher."""
    return {
        "parameters": teacher.parameters,
        "macs_per_example": teacher.macs_per_example(inputs.shape[1]),
        "examples_per_second": examples_per_second(teacher.embed, inputs),
    }
