"""Runs a student over a split."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from jaxkd.data.loader import eval_batches
from jaxkd.training.prepared import Prepared
from jaxkd.training.state import TrainState

if TYPE_CHECKING:
    from jaxkd.training.experiment import Assembly


def predict(
    assembly: "Assembly", state: TrainState, prepared: Prepared, ids: list[str], batch_size: int, *, after_batch: Callable[[], None] = lambda: None
) -> tuple[np.ndarray, dict[str, float]]:
    """Logits of every example of a split, each once.

    Args:
      assembly: compiled steps and devices.
      state: with the parameters.
      prepared: labels, inputs and teacher, read by id.
      ids: of the examples.
      batch_size: rows a batch; the last is padded.
      after_batch: called after each of them.

    Returns:
      Logits, float32 [n, K] in the order of `ids`; and the method's terms, averaged over batches by rows.
    """
    logits, terms, rows = [], [], []
    own = assembly.devices.own_rows(batch_size)
    for examples, batch in eval_batches(prepared.dataset, prepared.inputs.source, assembly.teacher, ids, batch_size, own):
        batch_logits, batch_terms = assembly.evaluate(state, assembly.devices.shard(batch))
        rows.append(examples)
        logits.append(np.asarray(batch_logits)[: rows[-1]])
        terms.append(batch_terms)
        after_batch()
    means = {name: float(np.average([float(batch_terms[name]) for batch_terms in terms], weights=rows)) for name in terms[0]}
    return np.concatenate(logits), means
