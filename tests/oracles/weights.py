"""Weights that an oracle's script and its test draw alike, each from the name it has in jaxkd; no file holds them."""

import zlib

import numpy as np


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter or running statistic, float32: kernels [..., in, out] keep the spread of what they take, the rest is away from where training starts."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    kind = name.rpartition("/")[2]
    if kind in ("scale", "var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if kind in ("bias", "mean"):
        return rng.normal(0, 0.2, shape).astype(np.float32)
    return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)


def batch(name: str, rows: int, frames: int, bands: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel float32 [rows, frames, bands] and targets float32 [rows, labels] in (0, 1)."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.normal(size=(rows, frames, bands)).astype(np.float32), rng.uniform(size=(rows, labels)).astype(np.float32)
