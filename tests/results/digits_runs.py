"""Finished runs on real data: multi-layer perceptrons on scikit-learn's digits as students, a logistic regression on all pixels as the teacher's probe."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from jaxkd.metrics import multilabel_metrics
from tests.dcor_oracle import dcor

CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LABELLED = {"baseline": 40, "compressed": 160, "probe": 160}


def splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32) / 16.0
    shifted = np.roll(images.reshape(-1, 8, 8), 1, axis=2).reshape(-1, 64)
    return {
        "train": (images[:160], labels[:160]),
        "valid": (images[160:400], labels[160:400]),
        "test": (images[400:700], labels[400:700]),
        "unseen": (shifted[400:700], labels[400:700]),
    }


def _save(workdir: Path, name: str, split: str, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    targets = np.eye(10, dtype=np.float32)[labels]
    mask = np.random.default_rng(7).random(targets.shape) < 0.9
    ids = np.array([f"{split}/{index:05d}" for index in range(len(labels))])
    scores = scores.astype(np.float32)
    (workdir / "predictions").mkdir(parents=True, exist_ok=True)
    np.savez(workdir / "predictions" / f"{name}.npz", ids=ids, scores=scores, labels=np.where(mask, targets, 0.0), label_mask=mask)
    return multilabel_metrics(targets, scores, mask)


def make_run(workdir: Path, *, method: str, seed: int) -> dict[str, Any]:
    """Trains a small network on `LABELLED[method]` digits, leaves the files of a finished run in `workdir`, and returns its summary."""
    examples = splits()
    rows = np.random.default_rng(seed).permutation(160)[: LABELLED[method]]
    images, labels = (array[rows] for array in examples["train"])
    probe = LogisticRegression(max_iter=1000, C=0.05).fit(*examples["train"])
    student = MLPClassifier((24,), random_state=seed, learning_rate_init=0.01)
    lines = []
    for step in range(1, 41):
        student.partial_fit(images, labels, classes=range(10))
        lines.append({"step": step * 10, "split": "train", "values": {"loss": float(student.loss_), "learning_rate": 0.01}})
        if step % 4:
            continue
        scores = student.predict_proba(examples["valid"][0])
        valid = multilabel_metrics(np.eye(10)[examples["valid"][1]], scores)
        distance = 1 - float(dcor.distance_correlation_sqr(scores[:80], probe.predict_proba(examples["valid"][0][:80])))
        lines.append({"step": step * 10, "split": "valid", "values": {**valid, "distance": distance}})
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results, probe_results = {}, {}
    for split in ("valid", "test", "unseen"):
        of_student, of_probe = student.predict_proba(examples[split][0]), probe.predict_proba(examples[split][0])
        results[split] = _save(workdir, split, split, of_probe if method == "probe" else of_student, examples[split][1])
        probe_results[split] = _save(workdir, f"probe_{split}", split, of_probe, examples[split][1])
    return {
        "schema": 1,
        "name": "digits",
        "config": {
            "name": "digits",
            "method": method,
            "seed": seed,
            "data": {"source": "digits", "classes": CLASSES, "labelled": LABELLED[method]},
            "evaluation": {"bootstrap_resamples": 400, "f1_threshold": 0.4},
        },
        "fingerprint": f"{method[:4]}0000000{seed}",
        "environment": {"python": "3.11", "devices": ["cpu"]},
        "method": method,
        "seed": seed,
        "classes": CLASSES,
        "student": None
        if method == "probe"
        else {"name": "mlp_24", "best_step": 40, "parameters": 1810, "macs_per_example": 1776, "examples_per_second": 51234.5},
        "teacher": {"name": "all_pixels", "parameters": 650, "macs_per_example": 640, "examples_per_second": 80123.25, "probe": probe_results},
        "results": results,
        "timings_s": {"render": 1.25, "train": 123.4},
        "notes": {"unseen": "digits moved by one pixel", "leakage": {"shared_samples": 0, "shared_scores": []}},
    }
