"""The least time that work can take on this machine: its FLOP at the rate of a bare product, or its bytes at that of a bare copy, whichever is longer."""

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SQUARE, COPIED = 2048, 2**28
"""Rows and columns of the product; bytes of the copy."""
BEST_OF = 3


class Rates(NamedTuple):
    """What all cores do in a second: FLOP of a product of float32 by XLA; bytes of a copy, read and written."""

    flop: float
    bytes: float


class Work(NamedTuple):
    """What has to be done: FLOP, an addition and a multiplication as two; bytes that must be read and written at least once."""

    flop: float
    bytes: float

    def seconds(self, rates: Rates) -> float:
        """The least time."""
        return max(self.flop / rates.flop, self.bytes / rates.bytes)


class Part(NamedTuple):
    """What is timed, and its work; with the bytes that its program reads and writes where nothing stays in a cache, 0 for unknown."""

    call: Callable[[], Any]
    work: Work
    moved: float = 0.0

    def __call__(self) -> Any:
        """Runs it once."""
        return self.call()


def compiled(function: Callable[..., Any], *arguments: Any) -> Part:
    """A call of a JAX function with these arguments; FLOP are XLA's count (a loop is one turn), the bytes those of arguments and results."""
    program = jax.jit(function).lower(*arguments).compile()
    cost: Any = program.cost_analysis()
    memory: Any = program.memory_analysis()
    work = Work(cost.get("flops", 0.0), memory.argument_size_in_bytes + memory.output_size_in_bytes)
    return Part(functools.partial(program, *arguments), work, cost.get("bytes accessed", 0.0))


@functools.cache
def product() -> Part:
    """One bare product of two matrices."""
    square = jnp.ones((SQUARE, SQUARE))
    return compiled(jnp.matmul, square, square)


@functools.cache
def copy() -> Part:
    """One bare copy, a share of it on each core."""
    source, target = np.ones(COPIED, np.uint8), np.zeros(COPIED, np.uint8)
    cores = len(os.sched_getaffinity(0))
    executor, shares = ThreadPoolExecutor(cores), list(zip(np.array_split(target, cores), np.array_split(source, cores), strict=True))
    return Part(lambda: list(executor.map(lambda share: np.copyto(*share), shares)), Work(0, 2 * COPIED))


def rates() -> Rates:
    """Of this moment, the best of three calls each."""

    def least(part: Part) -> float:
        taken = []
        for _ in range(BEST_OF):
            started = time.perf_counter()
            jax.block_until_ready(part())
            taken.append(time.perf_counter() - started)
        return min(taken)

    return Rates(product().work.flop / least(product()), copy().work.bytes / least(copy()))
