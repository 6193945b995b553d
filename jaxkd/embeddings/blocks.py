"""Reads a store in blocks of examples, so that memory does not grow with their number, and shares the blocks out to the processes of a job."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxkd import hosts
from jaxkd.together import stopping_together

BLOCK_ROWS = 4096
ROUND_BLOCKS = 16
"""Blocks that each process of a job computes between two exchanges."""


def block_slices(rows: int) -> list[slice]:
    """Places of so many rows in order, BLOCK_ROWS at a time; the last slice may end beyond them."""
    return [slice(start, start + BLOCK_ROWS) for start in range(0, rows, BLOCK_ROWS)]


def id_blocks(ids: list[str]) -> Iterator[list[str]]:
    """The ids in order, BLOCK_ROWS at a time."""
    return (ids[block] for block in block_slices(len(ids)))


def all_frames(store: Any, ids: list[str]) -> np.ndarray:
    """Every frame of the examples of a store, joined or not, in the stored dtype [n, D], without the zeros after short examples."""
    frames, lengths = store.gather(ids), store.lengths(ids)
    return frames[np.arange(frames.shape[1]) < lengths[:, None]]


def shared_out(function: Callable[[list[str]], np.ndarray], ids: list[str]) -> Iterator[np.ndarray]:
    """function(block) of every block of ids in order, of which process N of P computes every P-th alone, from N on; every process must go through all of it.

    On the main thread; a signal to one process while it computes ends all.

    Args:
      function: its results differ in the length of their first axis at most.
      ids: the same in every process.
    """
    starts, processes = range(0, len(ids), BLOCK_ROWS), hosts.count()
    for first in range(0, len(starts), ROUND_BLOCKS * processes):
        of_round = starts[first : first + ROUND_BLOCKS * processes]
        places = range(hosts.index(), -(-len(of_round) // processes) * processes, processes)
        with stopping_together():
            own = [function(ids[start : start + BLOCK_ROWS]) for start in (of_round[min(place, len(of_round) - 1)] for place in places)]
        for place, result in zip(range(0, len(of_round), processes), own, strict=True):
            for brought in hosts.gathered_bytes(result.tobytes())[: len(of_round) - place]:
                yield np.frombuffer(brought, result.dtype).reshape(-1, *result.shape[1:])


def _moments(rows: np.ndarray) -> np.ndarray:
    """Count, mean and variance (divisor n) of each column, float64 [3, D]."""
    return np.stack([np.full(rows.shape[1], len(rows)), rows.mean(axis=0, dtype=np.float64), rows.var(axis=0, dtype=np.float64)])


def mean_and_std(read: Callable[[list[str]], np.ndarray], ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (divisor n) of each column, float64 [D], in one pass: blocks are merged as in Chan, Golub and LeVeque (1983).

    A column that does not vary beyond the rounding of float32 has the standard deviation 1, so that it can be divided by. The blocks are shared out to the
    processes of a job, each of which must call it, with the same result to the bit.

    Args:
      read: f(ids) -> rows [n, D] of any float dtype.
      ids: at least one.
    """
    count, mean, squares = np.zeros(()), np.zeros(()), np.zeros(())
    for rows, of_block, spread in shared_out(lambda block: _moments(read(block)), ids):
        total, apart = count + rows, of_block - mean
        squares = squares + rows * spread + apart**2 * (count * rows / total)
        mean, count = mean + apart * (rows / total), total
    std = np.sqrt(squares / count)
    return mean, np.where(std > np.finfo(np.float32).eps * np.abs(mean), std, 1.0)
