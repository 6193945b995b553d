"""Finished runs of a two-class task with hidden classes: the parity of scikit-learn's digits, where `oracle` alone is taught the digits themselves."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from jaxkd.metrics import calibration_after_scaling, fit_temperature, log_probabilities, multiclass_metrics
from tests.results.digits_runs import splits

CLASSES = ["even", "odd"]
EVALUATED = ("valid", "test", "unseen")


@functools.cache
def _scores(method: str, seed: int) -> dict[str, np.ndarray]:
    """Probabilities [n, 2] of each evaluated split: of a forest (the teacher), or of a regression taught digits (oracle), quarters (lelp) or parity (kd)."""
    examples = splits()
    images, digits = examples["train"]
    taught = {"teacher": digits, "oracle": digits, "lelp": digits % 4, "kd": digits % 2}[method]
    if method == "teacher":
        model, rows = RandomForestClassifier(50, random_state=seed), np.arange(len(images))
    else:
        model = LogisticRegression(max_iter=2000)
        rows = np.random.default_rng(seed).permutation(len(images))[:80]
    model.fit(images[rows], taught[rows])
    odd = {split: model.predict_proba(examples[split][0])[:, model.classes_ % 2 == 1].sum(axis=1) for split in EVALUATED}
    return {split: np.stack([1 - share, share], axis=1).astype(np.float32) for split, share in odd.items()}


def _save(workdir: Path, name: str, split: str, scores: np.ndarray, digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Writes one file of predictions, a tenth of the rows without a label; returns its labels and mask."""
    labels = np.eye(2, dtype=np.float32)[digits % 2]
    mask = np.repeat(np.random.default_rng(7).random((len(digits), 1)) < 0.9, 2, axis=1)
    ids = np.array([f"{split}/{index:05d}" for index in range(len(digits))])
    (workdir / "predictions").mkdir(parents=True, exist_ok=True)
    arrays = {"ids": ids, "scores": scores, "labels": labels * mask, "label_mask": mask}
    np.savez(workdir / "predictions" / f"{name}.npz", **arrays, task="multiclass", fine_labels=digits.astype(np.int32))
    return labels, mask


def make_parity_run(workdir: Path, *, method: str, seed: int) -> dict[str, Any]:
    """Fits the method's regression on 80 digits, leaves the files of a finished run in `workdir`, and returns its summary."""
    digits = {split: splits()[split][1] for split in EVALUATED}
    student, teacher = _scores(method, seed), _scores("teacher", 0)
    results, of_teacher = {}, {}
    for split in EVALUATED:
        _save(workdir, f"teacher_{split}", split, teacher[split], digits[split])
        labels, mask = _save(workdir, split, split, student[split], digits[split])
        if split == "valid":
            temperature = fit_temperature(log_probabilities(student[split]), labels, mask)
        scaled = calibration_after_scaling(labels, student[split], mask, temperature=temperature)
        results[split] = multiclass_metrics(labels, student[split], mask, teacher=teacher[split]) | scaled
        of_teacher[split] = multiclass_metrics(labels, teacher[split], mask)
    training = {"seconds": 2.0 + seed, "peak_memory_bytes": 512_000_000, "trained_parameters": 1074}
    regression = {"name": "regression", "parameters": 1074, "macs_per_example": 1056, "examples_per_second": 4321.0, "training": training}
    return {
        "schema": 1,
        "name": "parity",
        "config": {
            "name": "parity",
            "method": method,
            "seed": seed,
            "data": {"source": "digits"},
            "evaluation": {"bootstrap_resamples": 400, "f1_threshold": 0.4},
        },
        "fingerprint": f"{method}0000000{seed}",
        "environment": {"python": "3.11"},
        "method": method,
        "seed": seed,
        "task": "multiclass",
        "modality": "image",
        "classes": CLASSES,
        "student": None if method == "teacher" else regression,
        "teacher": {
            "name": "forest",
            "parameters": 9000,
            "macs_per_example": 900,
            "examples_per_second": 800.5,
            "training": {"seconds": 654.0, "peak_memory_bytes": 2_345_000_000, "trained_parameters": 8765} if method in ("teacher", "kd") else None,
            "reference": "teacher",
            "predictions": of_teacher,
        },
        "results": results,
        "timings_s": {"train": 2.5},
        "notes": {},
    }
