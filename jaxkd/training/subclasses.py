"""Fits what a pseudo-class method needs: for every example the probabilities of the subclasses within each class, kept in the cache."""

import functools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxkd import lelp, methods
from jaxkd.data.cache import PART_SUFFIX
from jaxkd.embeddings.blocks import block_slices, shared_out
from jaxkd.embeddings.store import mean_embeddings, mean_embeddings_at
from jaxkd.errors import ArtefactError
from jaxkd.files import atomic_directory, read_json, sha256_file, sha256_json, write_json
from jaxkd.hosts import all_true, gathered, index, wait_for_file
from jaxkd.lelp import passes, splits
from jaxkd.lelp.artefact import load_subspaces, save_subspaces
from jaxkd.together import exclusive_to_job, stopping_together
from jaxkd.training.class_rows import require_rows
from jaxkd.training.label_subclasses import fit_labels
from jaxkd.training.moments_in_parts import moments_in_parts
from jaxkd.training.prepared import Prepared, unaugmented
from jaxkd.types import Table

FORMAT_VERSION = 4
CLUSTERED = {"kmeans": splits.kmeans, "agglomerative": splits.agglomerative, "tsne_kmeans": splits.tsne_kmeans}


def subclass_targets(config: Any, prepared: Prepared, cache_dir: Path) -> Table | None:
    """Subclass probabilities [C, S] by id, for the pseudo-class methods; None for the others. With many labels an example, C is two classes a label.

    They are fitted on the training rows without augmented views, by label, unlabelled rows by the teacher's class, and kept in
    `cache_dir/subclasses/METHOD-FINGERPRINT` with the subspaces that they come from.

    Raises:
      ConfigError: options of `config.lelp` that the embedding cannot give.
      DataError: a class without rows; a label that is never present, or never absent.
      ArtefactError: what lies in the cache was altered.
    """
    if config.method not in methods.PSEUDO_CLASS or prepared.store is None or prepared.classifier is None:
        return None
    identity, ids = _identity(config, prepared), list(prepared.store.ids)
    folder = _folder(config, identity, cache_dir)
    subspaces, parts = folder / "subspaces", folder.with_name(folder.name + PART_SUFFIX)
    with exclusive_to_job(cache_dir, folder.name, "fitting subclasses"):
        if not all_true(folder.exists() and (subspaces.exists() or config.method not in methods.SUBSPACES)):
            _write(config, prepared, ids, folder, parts, identity)
        if index() == 0:
            shutil.rmtree(parts, ignore_errors=True)  # of this pass, or of one that was killed
    wait_for_file(folder / "manifest.json")
    manifest = read_json(folder / "manifest.json")
    if manifest["identity"] != identity or not (folder / "probs.npy").is_file() or sha256_file(folder / "probs.npy") != manifest["probs_sha256"]:
        raise ArtefactError(f"{folder} was altered after it was written: remove it and run again, and it is made anew.")
    if subspaces.exists():
        load_subspaces(subspaces, expected=identity)
    return Table({example: row for row, example in enumerate(ids)}, np.load(folder / "probs.npy", allow_pickle=False))


def _write(config: Any, prepared: Prepared, ids: list[str], folder: Path, parts: Path, identity: dict[str, Any]) -> None:
    print(f"fitting the subclasses of {config.method} on the embeddings of {len(ids):,} rows", file=sys.stderr)
    if prepared.dataset.task == "multilabel":
        with stopping_together():
            subspaces, probs = fit_labels(config, prepared, ids)
    else:
        subspaces, probs = _fit(config, prepared, ids, parts)
    if index() > 0:
        return
    with atomic_directory(folder) as temporary:
        np.save(temporary / "probs.npy", probs.astype(np.float32), allow_pickle=False)
        if subspaces is not None:
            save_subspaces(temporary / "subspaces", subspaces, identity=identity)
        manifest = {"identity": identity, "probs_sha256": sha256_file(temporary / "probs.npy"), "notes": _notes(subspaces, prepared)}
        write_json(temporary / "manifest.json", manifest)


def subclass_notes(config: Any, prepared: Prepared, cache_dir: Path) -> dict[str, str]:
    """What the report says of `prepared.targets`, found in the cache.

    Which classes, or sides of a label, have fewer than `config.lelp.subclasses`, and the error of directions that the solver "randomized" did not find closer.
    """
    if prepared.targets is None:
        return {}
    return read_json(_folder(config, _identity(config, prepared), cache_dir) / "manifest.json")["notes"]


def _notes(subspaces: lelp.Subspaces | None, prepared: Prepared) -> dict[str, str]:
    """The classes, or sides of a label, with fewer than S subclasses: "violin present: 4 of 10; harp present: 1 of 10"; the error, if it is not small."""
    if subspaces is None:
        return {}
    names = prepared.dataset.classes
    if prepared.dataset.task == "multilabel":
        names = [f"{name} {side}" for name in names for side in ("absent", "present")]
    counts, subclasses = subspaces.valid.sum(axis=1).tolist(), subspaces.valid.shape[1]
    fewer = "; ".join(f"{name}: {count} of {subclasses}" for name, count in zip(names, counts, strict=True) if count < subclasses)
    notes = {"too few rows or too little variance for all subclasses": fewer} if fewer else {}
    sine = float(np.max(subspaces.sine))
    return notes | ({"directions": f"known up to an angle of sine {sine:.2g}"} if sine > passes.SINE else {})


def _folder(config: Any, identity: dict[str, Any], cache_dir: Path) -> Path:
    return Path(cache_dir) / "subclasses" / f"{config.method}-{sha256_json(identity)[:12]}"


def _identity(config: Any, prepared: Prepared) -> dict[str, Any]:
    assert prepared.store is not None and prepared.classifier is not None
    fitted = ("subclasses", "subclass_temperature", "null_space", "rotation", "scale", "solver", "classes_from", "simplex")
    return {
        "format": FORMAT_VERSION,
        "method": config.method,
        "seed": config.seed,
        **{name: config.lelp[name] for name in fitted},
        "embeddings": prepared.store.identity,
        "dtype": str(prepared.store.dtype),
        "labels": prepared.dataset.fingerprint,
    }


def _fit(config: Any, prepared: Prepared, ids: list[str], parts: Path) -> tuple[lelp.Subspaces | None, np.ndarray]:
    """The subspaces of the methods that have them, and the probabilities of all `ids`, [n, C, S]; `parts`: where moments are kept on the way."""
    settings, dataset, store = config.lelp, prepared.dataset, prepared.store
    assert store is not None
    num_classes, sizes = len(dataset.classes), {"num_classes": len(dataset.classes), "num_subclasses": settings.subclasses}
    if config.method == "uniform":
        return None, splits.uniform(len(ids), **sizes)
    fitted = np.isin(ids, unaugmented(dataset, "train"))
    classes_by = functools.cache(functools.partial(_classes, prepared, ids))
    require_rows(config, dataset, lambda source: classes_by(source)[fitted, None] == np.arange(num_classes))
    classes = np.where(fitted, classes_by(settings.classes_from), -1)
    if config.method == "oracle":
        return None, splits.oracle(dataset.fine_labels(ids), classes, num_classes=num_classes)
    if config.method in CLUSTERED:
        with stopping_together():
            return None, CLUSTERED[config.method](mean_embeddings(store, ids), classes, seed=config.seed, **sizes)
    blocks = block_slices(len(ids))
    found = _subspaces(config, prepared, classes, blocks, parts)
    subspaces = jax.tree.map(lambda x: gathered(np.asarray(x))[0], found)  # those of process 0: another processor may turn near-equal directions otherwise

    def probs(block: list[str]) -> np.ndarray:
        return np.asarray(lelp.subclass_probs(subspaces, mean_embeddings(store, block), subclass_temperature=settings.subclass_temperature))

    values = np.concatenate(list(shared_out(probs, ids)))
    if config.method == "permuted":
        train = np.isin(ids, dataset.splits["train"])
        values[train] = splits.permuted(values[train], classes_by(settings.classes_from)[train], seed=config.seed)
    return subspaces, values


def _classes(prepared: Prepared, ids: list[str], source: str) -> np.ndarray:
    """The class of each row: its label or the teacher's, as the source says; int32 [n]."""
    dataset, logits = prepared.dataset, prepared.teacher_logits()
    assert logits is not None
    labels, mask = dataset.labels(ids), dataset.label_mask(ids)
    teacher = np.asarray(lelp.fold_logits(logits.values, labels.shape[1]))
    return lelp.classes_of_rows(labels, mask, teacher, source=source)


def _subspaces(config: Any, prepared: Prepared, classes: np.ndarray, blocks: list[slice], parts: Path) -> lelp.Subspaces:
    """The subspaces of the rows with a class, read from the store block by block; `rotation` and `solver` do not apply to random directions."""
    settings, num_classes = config.lelp, len(prepared.dataset.classes)
    assert prepared.classifier is not None and prepared.store is not None
    store, key, kernel = prepared.store, jax.random.key(config.seed), prepared.classifier.kernel

    def batches(blocks: list[slice]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for block in blocks:
            fitted = np.flatnonzero(classes[block] >= 0)
            yield mean_embeddings_at(store, block.start + fitted), classes[block][fitted]

    moments = functools.partial(moments_in_parts, batches, blocks, parts, num_classes=num_classes, dim=store.dim)
    common = {"num_subclasses": settings.subclasses, "classifier_kernel": kernel, "null_space": settings.null_space, "scale": settings.scale, "key": key}
    if config.method == "random_directions":
        found = moments()
        with stopping_together():
            return lelp.random_subspaces(found, **common)
    options = {**common, "rotation": settings.rotation, "simplex": settings.simplex}
    solver = lelp.solver_for(settings.solver, store.dim)
    if solver == "covariance":
        found = moments()
        with stopping_together():
            return lelp.subspaces_from_moments(found, **options)
    with stopping_together():
        return lelp.fit_subspaces(lelp.Again(lambda: batches(blocks)), num_classes=num_classes, solver=solver, **options)
