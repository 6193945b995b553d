"""The multi-label form of LELP's subspaces: each label is two classes, absent and present, with subclasses of their own."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxkd.errors import ConfigError, DataError, require_count, unknown_name
from jaxkd.lelp.moments import class_moments
from jaxkd.lelp.null_space import pair_kernel, require_kernel
from jaxkd.lelp.passes import Again
from jaxkd.lelp.subspaces import Subspaces, fit_subspaces, random_subspaces
from jaxkd.types import Array

DIRECTIONS = {"principal": ("null_space", "rotation", "scale", "simplex", "solver"), "random": ("null_space", "scale")}
"""The kinds of directions, and the options that each has."""

LabelBatches = Iterable[tuple[Array, Array, Array]]


def _require_arguments(directions: str, options: dict[str, Any], names: Sequence[str], num_labels: int, key: jax.Array | None) -> None:
    if directions not in DIRECTIONS:
        raise unknown_name("directions", directions, DIRECTIONS)
    for option in options:
        if option not in DIRECTIONS[directions]:
            raise unknown_name(f"option of directions={directions!r}:", option, DIRECTIONS[directions])
    if directions == "random" and key is None:
        raise ConfigError("directions='random' draws them: pass key=jax.random.key(seed).")
    if len(names) != num_labels:
        raise ConfigError(f"{len(names)} names were given for {num_labels} labels: give one for each, or none.")


def _checked(batches: LabelBatches, names: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Embeddings, which labels are present, and which are known, bool [n, L]."""
    num_labels, before = len(names), 0
    for embedding, labels, label_mask in batches:
        embedding, labels, label_mask = np.asarray(embedding), np.asarray(labels), np.asarray(label_mask, bool)
        if embedding.ndim != 2 or labels.shape != label_mask.shape or labels.shape != (len(embedding), num_labels):
            wanted = f"[n, D], [n, {num_labels}] and [n, {num_labels}]"
            raise DataError(f"embeddings {embedding.shape}, labels {labels.shape}, label mask {label_mask.shape}: {wanted} are needed.")
        wrong = np.argwhere(label_mask & ~((labels >= 0) & (labels <= 1)))
        if wrong.size:
            row, label = wrong[0]
            raise DataError(
                f"row {before + row} has {labels[row, label]} for {names[label]}, but a label that is known is from 0 (absent) to 1 (present): "
                "correct it, or set its label mask to False."
            )
        before += len(labels)
        yield embedding, labels > 0.5, label_mask


def _rows_of_label(batches: LabelBatches, names: Sequence[str], label: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of which a label is known, as two classes."""
    for embedding, present, known in _checked(batches, names):
        yield embedding[known[:, label]], present[known[:, label], label].astype(np.int64)


def _require_both(present: np.ndarray, known: np.ndarray, names: Sequence[str]) -> None:
    """Raises DataError if a label is never present, or never absent, among the rows where it is known, bool [n, L]; the message names all such labels."""
    for value, word in ((present, "present"), (~present, "absent")):
        never = [name for name, rows in zip(names, np.sum(value & known, axis=0), strict=True) if not rows]
        if never:
            raise DataError(f"in no training row {', '.join(never)} is {word}: the subclasses of that side cannot be found. Add rows, or leave the label out.")


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
      batches: triples of teacher embeddings [n, D], labels [n, L] from 0 to 1 (present above 0.5; anything where it is not known) and label mask bool [n, L],
        True where a label is known. They are read once a label, so that the memory is that of two classes; what can be read only once (a generator) is kept
        as a list.
      num_labels: L.
      num_subclasses: S.
      classifier_kernel: of the teacher's last layer, one logit for each label, [D, L].
      directions: "principal" = those of largest variance; "random" = the control, as `random_subspaces`.
      names: of the labels, for messages; their numbers if empty.
      key: random key; each label takes its own of it. None is enough for principal directions without a Haar rotation.
      **options: null_space, rotation, scale, simplex and solver as `fit_subspaces`; of random directions null_space and scale only, as `random_subspaces`.

    Returns:
      Subspaces of 2 * L classes, absent (2 l) before present (2 l + 1).

    Raises:
      ConfigError: unknown directions or option, random directions without a key, names or a kernel that do not fit the labels; as `fit_subspaces`.
      DataError: a known label that is not from 0 to 1, one that is never present or never absent, by name; as `fit_subspaces`.
    """
    require_count("num_labels", num_labels)
    names = names or [f"label {label}" for label in range(num_labels)]
    _require_arguments(directions, options, names, num_labels, key)
    if iter(batches) is batches:
        batches = list(batches)
    known = [(embedding.shape[1], present, mask) for embedding, present, mask in _checked(batches, names)]
    if not known:
        raise DataError("no embeddings were given: subspaces need at least one batch.")
    if classifier_kernel is not None:
        require_kernel(np.asarray(classifier_kernel), num_labels, known[0][0], of="labels")
        classifier_kernel = pair_kernel(classifier_kernel)
    _require_both(np.concatenate([present for _, present, _ in known]), np.concatenate([mask for _, _, mask in known]), names)
    options |= {"num_subclasses": num_subclasses, "classifier_kernel": classifier_kernel, "kernel_classes": 2 * num_labels}
    found = []
    for label in range(num_labels):
        rows, own = Again(functools.partial(_rows_of_label, batches, names, label)), None if key is None else jax.random.fold_in(key, label)
        if directions == "random":
            assert own is not None
            found.append(random_subspaces(class_moments(rows, num_classes=2), key=own, **options))
        else:
            found.append(fit_subspaces(rows, num_classes=2, key=own, **options))
    classes = {field: np.concatenate([getattr(one, field) for one in found]) for field in Subspaces._fields if field != "null_basis"}
    return Subspaces(**classes, null_basis=found[0].null_basis)
