"""Linear probes on frozen vectors: the teacher's own, and those that tell how far a representation carries on data that its training never heard."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold

from jaxkd.embeddings.store import mean_embeddings
from jaxkd.metrics import evaluated_classes
from jaxkd.results.examples import Examples
from jaxkd.results.predictions import PROBE_SUFFIX
from jaxkd.training.prepared import Prepared, unaugmented
from jaxkd.training.probe import Probe, fit_probe
from jaxkd.training.probe_solver import Fit, fit_on_embedding, fit_on_vectors

FOLDS = 5
Represent = Callable[[Prepared, list[str]], np.ndarray]
"""f(data, ids) -> frozen vectors of the ids, float32 [n, D]."""


def of_teacher(data: Prepared, ids: list[str]) -> np.ndarray:
    """The teacher as what a probe stands on: its mean embeddings, float32 [n, D]."""
    store = data.embedding()
    assert store is not None
    return mean_embeddings(store, ids)


def fits(config: Any, prepared: Prepared) -> tuple[Fit, Fit]:
    """How probes are fitted on the teacher's embedding and on a student's features; see `jaxkd.training.probe_solver`."""
    store = prepared.embedding()
    assert store is not None
    return fit_on_embedding(config, store, unaugmented(prepared.dataset, "train")), fit_on_vectors(config)


def fit_on(data: Prepared, represent: Represent, fit: Fit = fit_probe) -> Probe:
    """The probe on the labelled training rows of a data set; penalty or early stop by its validation split."""
    dataset = data.dataset
    ids_of = {split: unaugmented(dataset, split) for split in ("train", "valid")}
    train, valid = ((represent(data, ids), dataset.labels(ids), dataset.label_mask(ids)) for ids in ids_of.values())
    return fit(train, valid, task=dataset.task)


def probed_examples(examples: Mapping[str, Examples]) -> tuple[dict[str, Examples], dict[str, str]]:
    """The unseen splits of a multi-label task that a probe of their own is fitted for, by the name of its split, "SPLIT_probe"; and why others have none.

    The test split of another data set is probed for all classes that it has of its own, whichever of them stand for ours.
    """
    probed, missing = {}, {}
    for split, of in examples.items():
        if not split.startswith("unseen") or of.data.dataset.task != "multilabel":
            continue
        if of.split == "test":
            probed[split + PROBE_SUFFIX] = of._replace(data=of.data._replace(dataset=of.data.dataset.fully_labelled))
        elif _folds(of):
            probed[split + PROBE_SUFFIX] = of
        else:
            missing[split + PROBE_SUFFIX] = f"not measured: {split} is too small for {FOLDS} folds that each have a class with and without positives"
    return probed, missing


def probe_scores(examples: Examples, represent: Represent, fit: Fit = fit_probe) -> np.ndarray:
    """Scores of the examples by a linear probe on frozen vectors, float32 [n, K].

    The test split of another data set has a training split beside it: the probe is fitted there. An unseen split has none: the probe is cross-fitted on the
    split itself, in folds that keep the excerpts of one score together. Each fold is scored by a probe fitted on three of the others, whose penalty (or
    early stop) was chosen on the fourth, so that no score was seen by its own probe.
    """
    vectors = represent(examples.data, examples.ids)
    if examples.split == "test":
        return fit_on(examples.data, represent, fit).scores(vectors)
    labels, mask, folds = examples.labels, examples.label_mask, _folds(examples)
    scores = np.empty(labels.shape, np.float32)
    for place, fold in enumerate(folds):
        valid = folds[(place + 1) % FOLDS]
        train = np.setdiff1d(np.arange(len(labels)), np.concatenate([fold, valid]))
        probe = fit(*((vectors[rows], labels[rows], mask[rows]) for rows in (train, valid)))
        scores[fold] = probe.scores(vectors[fold])
    return scores


def _folds(examples: Examples) -> list[np.ndarray]:
    """Rows of each fold; none if there are too few groups, or a fold in which no class can be scored."""
    groups: list[Any] = examples.data.dataset.groups(examples.ids)
    if len(set(groups)) < FOLDS:
        return []
    labels, mask = examples.labels, examples.label_mask
    folds = [rows for _, rows in GroupKFold(FOLDS).split(labels, groups=groups)]
    return folds if all(evaluated_classes(labels[rows], mask[rows]).any() for rows in folds) else []
