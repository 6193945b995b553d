"""Runs a student over a split."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxkd.data.audio_dataset import AudioDataset
from jaxkd.data.loader import eval_batches
from jaxkd.metrics import sigmoid
from jaxkd.parallel import Devices
from jaxkd.training.state import TrainState
from jaxkd.types import Gatherable


def predict(
    evaluate: Callable[[TrainState, Any], Any],
    state: TrainState,
    dataset: AudioDataset,
    embeddings: Gatherable | None,
    ids: list[str],
    batch_size: int,
    devices: Devices,
) -> tuple[np.ndarray, dict[str, float]]:
    """Scores of every example of a split, each once.

    Args:
      evaluate: compiled `eval_step`.
      state: with the parameters.
      dataset: read by id.
      embeddings: read by id, or None if the method's terms need none.
      ids: of the examples.
      batch_size: rows a batch; the last is padded.
      devices: where the batches go.

    Returns:
      Scores in (0, 1), float32 [n, K] in the order of `ids`; and the method's terms, averaged over batches by rows.
    """
    logits, terms, rows = [], [], []
    for batch in eval_batches(dataset, embeddings, ids, batch_size):
        batch_logits, batch_terms = evaluate(state, devices.shard(batch))
        rows.append(int(batch.where.sum()))
        logits.append(np.asarray(batch_logits)[: rows[-1]])
        terms.append(batch_terms)
    means = {name: float(np.average([float(batch_terms[name]) for batch_terms in terms], weights=rows)) for name in terms[0]}
    return sigmoid(np.concatenate(logits)), means
