"""A small real teacher: leading components of the digits. As a program it embeds them slowly, so that a test can kill it on the way."""

import hashlib
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from jaxkd.embeddings import embed_dataset

SHARD_ROWS = 20


class Digits:
    sample_rate = 1
    fingerprint = "digits-200"

    def __init__(self):
        self.images = load_digits().data[:200]
        names = [f"digit{i:03d}" for i in range(200)]
        self.splits = {"train": names[:150], "test": names[150:]}
        self.row = {name: i for i, name in enumerate(names)}

    def gather(self, ids):
        return self.images[[self.row[name] for name in ids]]


class PcaTeacher:
    name = "digits_pca"
    embedding = "components"
    dim = 8
    sample_rate = 1
    hop_seconds = 1.0
    parameters = 8 * 64
    tags = ()

    def __init__(self, seconds_per_batch: float = 0.0):
        self.preprocessing = {"scale": 16}
        images = load_digits().data / 16
        self.mean = images.mean(axis=0)
        self.directions = np.linalg.svd(images - self.mean, full_matrices=False)[2][: self.dim]
        self.weight_hash = hashlib.sha256(self.directions.tobytes()).hexdigest()
        self.seconds_per_batch = seconds_per_batch
        self.batch_shapes = []

    def embed(self, inputs):
        time.sleep(self.seconds_per_batch)
        self.batch_shapes.append(inputs.shape)
        return (((inputs / 16) - self.mean) @ self.directions.T).astype(np.float32)[:, None]


if __name__ == "__main__":
    embed_dataset(PcaTeacher(seconds_per_batch=0.1), Digits(), Path(sys.argv[1]), batch_size=8, shard_rows=SHARD_ROWS)
