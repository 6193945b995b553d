"""Reads a store in blocks of examples, so that memory does not grow with their number."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

BLOCK_ROWS = 4096


def id_blocks(ids: list[str]) -> Iterator[list[str]]:
    """The ids in order, BLOCK_ROWS at a time."""
    return (ids[start : start + BLOCK_ROWS] for start in range(0, len(ids), BLOCK_ROWS))


def frame_blocks(store: Any, ids: list[str]) -> Iterator[np.ndarray]:
    """Every frame of the examples of a store, joined or not, in the stored dtype: [n, D] for each block of ids, without the zeros after short examples."""
    for block in id_blocks(ids):
        frames, lengths = store.gather(block), store.lengths(block)
        yield frames[np.arange(frames.shape[1]) < lengths[:, None]]


def mean_and_std(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (divisor n) of each column, float64 [D], in one pass: blocks are merged as in Chan, Golub and LeVeque (1983).

    A column that does not vary beyond the rounding of float32 has the standard deviation 1, so that it can be divided by.

    Args:
      blocks: rows [n, D] of any float dtype, together at least one row.
    """
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for block in blocks:
        rows, of_block, spread = len(block), block.mean(axis=0, dtype=np.float64), block.var(axis=0, dtype=np.float64)
        total, apart = count + rows, of_block - mean
        squares = squares + rows * spread + apart**2 * (count * rows / total)
        mean, count = mean + apart * (rows / total), total
    std = np.sqrt(squares / count)
    return mean, np.where(std > np.finfo(np.float32).eps * np.abs(mean), std, 1.0)
