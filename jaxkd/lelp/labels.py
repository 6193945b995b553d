"""The multi-label form of LELP's subspaces: each label is two classes, absent and present, with subclasses of their own."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxkd.errors import DataError, unknown_name
from jaxkd.lelp.moments import class_moments
from jaxkd.lelp.null_space import pair_kernel
from jaxkd.lelp.subspaces import Subspaces, fit_subspaces, random_subspaces
from jaxkd.types import Array

DIRECTIONS = ("principal", "random")

LabelBatches = Iterable[tuple[Array, Array, Array]]


def _checked(batches: LabelBatches, num_labels: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for embedding, labels, label_mask in batches:
        embedding, labels, label_mask = np.asarray(embedding), np.asarray(labels), np.asarray(label_mask, bool)
        if labels.shape != label_mask.shape or labels.shape != (len(embedding), num_labels):
            wanted = f"[n, D], [n, {num_labels}] and [n, {num_labels}]"
            raise DataError(f"embeddings {embedding.shape}, labels {labels.shape}, label mask {label_mask.shape}: {wanted} are needed.")
        yield embedding, labels > 0.5, label_mask


def _rows_of_label(batches: LabelBatches, num_labels: int, label: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of which a label is known, as two classes."""
    for embedding, present, known in _checked(batches, num_labels):
        yield embedding[known[:, label]], present[known[:, label], label].astype(np.int64)


def _require_both(present: np.ndarray, known: np.ndarray, names: Sequence[str]) -> None:
    """Raises DataError if a label is never present, or never absent, among the rows where it is known, bool [n, L]; the message names all such labels."""
    for value, word in ((present, "present"), (~present, "absent")):
        never = [name for name, rows in zip(names, np.sum(value & known, axis=0), strict=True) if not rows]
        if never:
            raise DataError(
                f"in no training row {', '.join(never)} is {word}: the subclasses of that side cannot be found. "
                "Add rows, leave the label out, or take the classes from the teacher."
            )


def fit_label_subspaces(
    batches: LabelBatches,
    *,
    num_labels: int,
    num_subclasses: int,
    classifier_kernel: Array | None = None,
    directions: str = "principal",
    names: Sequence[str] = (),
    key: jax.Array | None,
    **options: Any,
) -> Subspaces:
    """For each label the subspaces of two classes, absent and present, in the null space of the weights of all labels (arXiv 2409.20449, several labels).

    Args:
      batches: triples of teacher embeddings [n, D], labels [n, L] (present above 0.5) and label mask bool [n, L], True where a label is known. They are read
        once a label, so that the memory is that of two classes; what can be read only once (a generator) is kept as a list.
      num_labels: L.
      num_subclasses: S.
      classifier_kernel: of the teacher's last layer, one logit for each label, [D, L].
      directions: "principal" = those of largest variance; "random" = the control, as `random_subspaces`.
      names: of the labels, for messages; their numbers if empty.
      key: random key; each label takes its own of it.
      **options: as `fit_subspaces`, or `random_subspaces`.

    Returns:
      Subspaces of 2 * L classes, absent (2 l) before present (2 l + 1).

    Raises:
      ConfigError: unknown directions; as `fit_subspaces`.
      DataError: a label that is never present or never absent, by name; as `fit_subspaces`.
    """
    if directions not in DIRECTIONS:
        raise unknown_name("directions", directions, DIRECTIONS)
    if iter(batches) is batches:
        batches = list(batches)
    names = names or [f"label {label}" for label in range(num_labels)]
    known = [(present, mask) for _, present, mask in _checked(batches, num_labels)]
    if not known:
        raise DataError("no embeddings were given: subspaces need at least one batch.")
    _require_both(np.concatenate([present for present, _ in known]), np.concatenate([mask for _, mask in known]), names)
    if classifier_kernel is not None:
        classifier_kernel = pair_kernel(classifier_kernel)
    options |= {"num_subclasses": num_subclasses, "classifier_kernel": classifier_kernel, "kernel_classes": 2 * num_labels}
    found = []
    for label in range(num_labels):
        rows, own = _rows_of_label(batches, num_labels, label), None if key is None else jax.random.fold_in(key, label)
        if directions == "random":
            assert own is not None
            found.append(random_subspaces(class_moments(rows, num_classes=2), key=own, **options))
        else:
            found.append(fit_subspaces(rows, num_classes=2, key=own, **options))
    classes = {field: np.concatenate([getattr(one, field) for one in found]) for field in Subspaces._fields if field != "null_basis"}
    return Subspaces(**classes, null_basis=found[0].null_basis)
