"""Dataclasses shared by all floors. They are NamedTuples, so that JAX takes them as pytrees."""

from typing import Any, NamedTuple, Protocol

import numpy as np

Array = Any  # numpy.ndarray or jax.Array


class Batch(NamedTuple):
    """Rows that belong together by example id.

    Attributes:
      inputs: what the student's front end takes, [B, ...] (audio: int16 [B, samples]).
      labels: targets in [0, 1], float32 [B, K].
      label_mask: True where a label counts, bool [B, K]; all False for an unlabelled row.
      embedding: the teacher's embedding [B, T, D], or None for a method that needs none.
      where: True for a row that is an example, False for padding, bool [B].
    """

    inputs: Array
    labels: Array
    label_mask: Array
    embedding: Array | None
    where: Array


class StudentOutputs(NamedTuple):
    """What a student returns.

    Attributes:
      logits: pre-sigmoid or pre-softmax, float32 [B, K].
      features: the map before global pooling, averaged over frequency, time kept: float32 [B, T, C].
      taps: the same for each stage, a tuple of [B, T_k, C_k]; the last is `features`.
    """

    logits: Array
    features: Array
    taps: tuple[Array, ...]


class Gatherable(Protocol):
    """Anything that is read by example id: the store, a source."""

    def gather(self, ids: list[str]) -> np.ndarray:
        """Rows in the order of `ids`."""
        ...
