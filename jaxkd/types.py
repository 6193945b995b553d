"""Dataclasses shared by all floors. They are NamedTuples, so that JAX takes them as pytrees."""

from typing import Any, NamedTuple, Protocol

import numpy as np

Array = Any  # numpy.ndarray or jax.Array


class Batch(NamedTuple):
    """Rows that belong together by example id.

    Attributes:
      inputs: what the student's front end takes, [B, ...] (audio: int16 [B, samples]; tokens: int32 [B, L]; images: uint8 [B, H, W, channels]).
      labels: targets in [0, 1], float32 [B, K]; one-hot for a multi-class task.
      label_mask: True where a label counts, bool [B, K]; all False for an unlabelled row.
      embedding: the teacher's embedding [B, T, D], or None for a method that needs none.
      where: True for a row that is an example, False for padding, bool [B].
      teacher_logits: outputs of the teacher's own classifier, float32 [B, K], or None.
      targets: what a method precomputed for each row (the pseudo-class methods: probabilities of the subclasses given each class, float32
        [B, C, S]), or None.
      index: place of the row in its split, int32 [B], or None.
    """

    inputs: Array
    labels: Array
    label_mask: Array
    embedding: Array | None
    where: Array
    teacher_logits: Array | None = None
    targets: Array | None = None
    index: Array | None = None

    @property
    def embedding_dim(self) -> int:
        """D, the width of the embedding that the batch carries."""
        assert self.embedding is not None
        return self.embedding.shape[-1]


class TeacherSide(NamedTuple):
    """What the teacher says of an example, each read by id; None for a method that needs none of it.

    Attributes:
      embedding: its embeddings, [n, T, D].
      logits: outputs of its own classifier, float32 [n, K].
      targets: what a method precomputed, float32 [n, ...].
    """

    embedding: "Gatherable | None" = None
    logits: "Gatherable | None" = None
    targets: "Gatherable | None" = None


class Table(NamedTuple):
    """Rows in memory, read by id.

    Attributes:
      rows: id -> row.
      values: [n, ...].
    """

    rows: dict[str, int]
    values: np.ndarray

    def gather(self, ids: list[str]) -> np.ndarray:
        """Rows in the order of `ids`."""
        return self.values[np.fromiter(map(self.rows.__getitem__, ids), np.int64, len(ids))]


class StudentOutputs(NamedTuple):
    """What a student returns.

    Attributes:
      logits: pre-sigmoid or pre-softmax, float32 [B, K].
      features: the map before global pooling, averaged over frequency, time kept: float32 [B, T, C]. Text, image and vector networks: the
        pooled vector that the last layer takes, [B, 1, C].
      taps: the same for each stage, a tuple of [B, T_k, C_k]; the last is `features`.
    """

    logits: Array
    features: Array
    taps: tuple[Array, ...]


class Gatherable(Protocol):
    """Anything that is read by example id: the store, a data set, tokens, precomputed targets."""

    def gather(self, ids: list[str]) -> Any:
        """Rows in the order of `ids`."""
        ...
