"""A few clips with stored VGGish-like embeddings, and the probe on these as a teacher's classifier; as a program one process of a job that makes it.

Arguments of the program: folder of `write`, address of the job, number of its processes, place of this one.
"""

import json
import sys
from pathlib import Path

import ml_collections
import numpy as np

from jaxkd import hosts
from jaxkd.data.dataset import Dataset, Split, write_dataset
from jaxkd.training import sgd_probe, teacher
from jaxkd.training.preparation import trained_teacher
from tests.small import load_config

CLASSES, FRAMES, DIM = ("a", "b", "c"), 4, 6
ROWS = {"train": 80, "valid": 40, "test": 30}
STEPS = 400
"""Of gradient descent, whose many passes over few rows would take longest."""


def write(folder: Path, task: str = "multilabel") -> Dataset:
    """Clips of noise in `folder/data`, whose embeddings in `folder/embeddings.npz`, integers from 0 to 255, tell the labels; some of these are unknown."""
    rng, splits, stored = np.random.default_rng(0), {}, {}
    directions = 40 * rng.standard_normal((len(CLASSES), DIM))
    for split, count in ROWS.items():
        ids = [f"{split}{row}" for row in range(count)]
        labels = np.eye(3)[rng.integers(0, 3, count)] if task == "multiclass" else (rng.random((count, 3)) < 0.4)
        known = np.repeat(rng.random((count, 1)) < 0.9, 3, axis=1) if task == "multiclass" else rng.random((count, 3)) < 0.8
        frames = 128 + (labels @ directions)[:, None] + 40 * rng.standard_normal((count, FRAMES, DIM))
        stored |= dict(zip(ids, np.clip(np.round(frames), 0, 255).astype(np.uint8), strict=True))
        splits[split] = Split(ids, rng.integers(-99, 99, (count, 8)).astype(np.int16), labels.astype(np.float32), known)
    np.savez(folder / "embeddings.npz", ids=[*stored], embeddings=np.stack([*stored.values()]))
    fields = {"name": "clips", "fingerprint": task, "modality": "audio", "notes": {}, "licence": "none", "sample_rate": 32_000}
    return write_dataset(folder / "data", task=task, classes=CLASSES, splits=splits, **fields)


def config_of(folder: Path) -> ml_collections.ConfigDict:
    config = load_config("openmic", "teacher=vggish,method=kd")
    config.teacher.archive = str(folder / "embeddings.npz")
    return config


def main() -> None:
    folder, process = Path(sys.argv[1]), int(sys.argv[4])
    hosts.join(hosts.Job(sys.argv[2], int(sys.argv[3]), process, join_seconds=120, heartbeat_seconds=60))
    sgd_probe.MAX_STEPS = STEPS
    fitted, fit = [], teacher.fit_on_embedding
    teacher.fit_on_embedding = lambda *given: lambda *rows, **options: [fitted.append(1), fit(*given)(*rows, **options)][1]
    made, _ = trained_teacher(config_of(folder), Dataset.open(folder / "data"), folder / "cache")
    (folder / f"{process}.json").write_text(json.dumps({"fits": len(fitted), "hash": made.weight_hash, "training": made.training}))


if __name__ == "__main__":
    main()
