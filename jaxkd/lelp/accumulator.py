"""Sums over the rows of each class of a stream: count, mean, and the product of what is left of the rows without their mean."""

import dataclasses
import functools
import itertools
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import ThreadpoolController

from jaxkd.errors import DataError
from jaxkd.lelp.take import CHUNK_VALUES, take_float32

BLOCK_ROWS = 4096
BUFFER_BYTES = 512 << 20
"""Of the blocks of rows; and as much again of the products, unless two of them are more."""

MIN_BLOCK_ROWS = 64
THREADS = 4
"""Classes whose rows are converted, copied and centred at once; panels that are added at once."""

PANEL = 512
"""Rows of a symmetric matrix whose part from the diagonal to the right is formed, or changed, at a time."""


@jax.jit
def _device_gram(rows: jax.Array) -> jax.Array:
    return jnp.matmul(rows.T, rows, precision="highest")


def _panels(dim: int) -> Iterator[tuple[slice, slice, slice]]:
    """Of the panels of a matrix [D, D]: the rows, which are also the columns of its square on the diagonal; the columns right of the square; both columns."""
    for start in range(0, dim, PANEL):
        stop = min(start + PANEL, dim)
        yield slice(start, stop), slice(stop, dim), slice(start, dim)


def _gram(rows: np.ndarray, out: np.ndarray, device: Any) -> None:
    """rows^T rows of rows [n, D] into `out` [D, D], float32, of which what is left of a panel's square means nothing afterwards.

    On a CPU it is made by BLAS, panel by panel, through NumPy, which leaves other threads at work: the squares as symmetric updates, so that little more than
    half of a full product is multiplied, and nothing is mirrored beyond them. Elsewhere by XLA on `device`.
    """
    if jax.default_backend() != "cpu":
        out[:] = _device_gram(jax.device_put(rows, device))
        return
    for own, right, _ in _panels(len(out)):
        panel = rows[:, own].T
        with np.errstate(over="ignore", invalid="ignore"):
            np.matmul(panel, rows[:, own], out=out[own, own])
            np.matmul(panel, rows[:, right], out=out[own, right])


@functools.cache
def _blas() -> Any:
    return ThreadpoolController().select(user_api="blas")


_limiting = threading.Lock()
"""Held by the accumulator that holds BLAS to one thread: only the thread that set a limit can lift it."""


def _products_at_once(dim: int) -> int:
    """One on each core by BLAS of one thread, which scales better than BLAS's own threads; one by all of these if memory is for less than half the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min([cores, *(library["num_threads"] or 1 for library in _blas().info())])
    fitting = min(cores, BUFFER_BYTES // (4 * dim**2) - 1)
    return fitting if jax.default_backend() == "cpu" and 2 * fitting >= cores else 1


def _chunks(embedding: np.ndarray, places: np.ndarray) -> Iterator[np.ndarray]:
    """The places of rows, as many at a time as stay in the processor's cache."""
    rows = max(1, CHUNK_VALUES // embedding.shape[1])
    return (places[start : start + rows] for start in range(0, len(places), rows))


def block_rows(blocks: int, dim: int) -> int:
    """Rows of each of so many blocks: one for each class, and one for each product that is made or waits."""
    return min(BLOCK_ROWS, max(MIN_BLOCK_ROWS, BUFFER_BYTES // (4 * blocks * dim)))


@dataclasses.dataclass
class _Block:
    """Rows of one class less a centre near their mean.

    Attributes:
      rows: room for them, float32 [n, D].
      centre: float32 [D].
      sums: of the rows less the centre, float64 [D].
      filled: number of rows.
    """

    rows: np.ndarray
    centre: np.ndarray
    sums: np.ndarray
    filled: int = 0

    def append(self, embedding: np.ndarray, places: np.ndarray) -> None:
        """Adds embedding[places], for which there is room; threads do it for several classes at once."""
        for taken in _chunks(embedding, places):
            space = self.rows[self.filled : self.filled + len(taken)]
            take_float32(embedding, taken, space)
            with np.errstate(invalid="ignore", over="ignore"):
                space -= self.centre
                self.sums += space.sum(axis=0)
            self.filled += len(taken)

    def move(self, centre: np.ndarray) -> None:
        """Takes another centre."""
        rows = self.rows[: self.filled]
        rows -= centre - self.centre
        self.centre, self.sums = centre, rows.sum(axis=0, dtype=np.float64)


class Accumulator:
    """Collects the rows of each class in a block; the product of a full block is made while the next rows come, then added to the class's sums.

    To be entered by `with`. A centre that proves far from later rows is moved, and the sums about it with it. What is added when does not depend on time: the
    same batches give the same bits where as many products are made at once. Of the products only the panels of the upper triangle are kept until the end.
    """

    def __init__(self, num_classes: int, dim: int):
        (self._device,) = jnp.zeros(()).devices()  # of the caller; other threads have another default
        self._at_once = _products_at_once(dim)
        products = self._at_once + 1  # made, or waiting for their turn
        self._block_rows = block_rows(num_classes + products, dim)
        self._free_rows = [np.empty((self._block_rows, dim), np.float32) for _ in range(num_classes + products)]
        self._free_products = [np.zeros((dim, dim), np.float32) for _ in range(products)]
        self._count, self._sums, self._products = np.zeros(num_classes), np.zeros((num_classes, dim)), np.zeros((num_classes, dim, dim))
        self._centres: dict[int, np.ndarray] = {}
        self._blocks: dict[int, _Block] = {}
        self._under_way: deque[tuple[int, _Block, np.ndarray, Future[None]]] = deque()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._at_once > 1 and _limiting.acquire(blocking=False):
                stack.callback(_limiting.release)
                stack.enter_context(_blas().limit(limits=1))
            self._copying = stack.enter_context(ThreadPoolExecutor(THREADS))
            self._multiplying = stack.enter_context(ThreadPoolExecutor(self._at_once))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is not None:
                self._multiplying.shutdown(cancel_futures=True)
        finally:
            self._exit.close()

    def add(self, embedding: np.ndarray, labels: np.ndarray) -> None:
        """Adds rows [n, D], floats, of the classes `labels`, integers [n].

        Raises:
          DataError: values that are not finite, or whose squares are not.
        """
        embedding, order = np.ascontiguousarray(embedding), np.argsort(labels, kind="stable")
        classes, starts = np.unique(labels[order], return_index=True)
        left = dict(zip(classes.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}
        while left:
            blocks = {c: self._blocks[c] if c in self._blocks else self._begin_block(c, embedding, places) for c, places in left.items()}
            room = {c: self._block_rows - block.filled for c, block in blocks.items()}
            list(self._copying.map(_Block.append, blocks.values(), itertools.repeat(embedding), [places[: room[c]] for c, places in left.items()]))
            left = {c: places[room[c] :] for c, places in left.items() if len(places) > room[c]}
            for c, block in blocks.items():
                if block.filled == self._block_rows:
                    self._multiply(c)

    def _begin_block(self, c: int, embedding: np.ndarray, places: np.ndarray) -> _Block:
        """A block for the rows of a class that come next, `places`; those of the first give the centre."""
        if c not in self._centres:
            first = next(_chunks(embedding, places))
            rows = np.empty((len(first), embedding.shape[1]), np.float32)
            take_float32(embedding, first, rows)
            with np.errstate(invalid="ignore", over="ignore"):
                self._centres[c] = rows.mean(axis=0)
        rows = self._free_rows.pop()
        self._blocks[c] = _Block(rows, self._centres[c], np.zeros(rows.shape[1]))
        return self._blocks[c]

    def _multiply(self, c: int) -> None:
        """Has the product of a class's block made; the next rows of the class begin another."""
        block = self._blocks.pop(c)
        if not np.all(np.isfinite(block.sums)):
            raise DataError(f"embeddings of class {c} are NaN, infinite or too large for float32: look at the teacher's inputs and weights.")
        if not self._free_products:
            self._take_oldest()
        product = self._free_products.pop()
        self._under_way.append((c, block, product, self._multiplying.submit(_gram, block.rows[: block.filled], product, self._device)))

    def _take_oldest(self) -> None:
        """Adds the product that was begun first to the sums of its class."""
        c, block, product, made = self._under_way.popleft()
        made.result()
        if block.centre is not self._centres[c]:
            self._move_block(c, block, product)
        count, sums = self._count[c] + block.filled, self._sums[c] + block.sums
        squares = np.maximum(np.diagonal(self._products[c]) + np.diagonal(product), np.finfo(np.float32).tiny)
        if np.any(sums**2 > count / 2 * squares):
            # more than half of a second moment is that of the mean, not of the spread
            self._move_sums(c, (self._centres[c] + sums / count).astype(np.float32))
            self._move_block(c, block, product)
        if not np.all(np.isfinite(np.diagonal(product))):
            raise DataError("the squares of the embeddings exceed float32: divide the embeddings by a constant.")
        self._count[c] += block.filled
        self._sums[c] += block.sums

        def add(panel: tuple[slice, slice, slice]) -> None:
            own, _, columns = panel
            self._products[c, own, columns] += product[own, columns]

        list(self._copying.map(add, _panels(len(product))))
        self._free_rows.append(block.rows)
        self._free_products.append(product)

    def _move_block(self, c: int, block: _Block, product: np.ndarray) -> None:
        """Makes the block and its product those about the centre of its class."""
        block.move(self._centres[c])
        _gram(block.rows[: block.filled], product, self._device)

    def _move_sums(self, c: int, centre: np.ndarray) -> None:
        """Makes the sums of a class those about another centre."""
        total, products = self._sums[c], self._products[c]
        shift = centre.astype(np.float64) - self._centres[c]
        moved = total - self._count[c] * shift
        for own, _, columns in _panels(len(shift)):
            products[own, columns] -= np.outer(total[own], shift[columns]) + np.outer(shift[own], moved[columns])
        total[:], self._centres[c] = moved, centre

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count [C], mean [C, D] and centred second moment [C, D, D] of all rows, float64; the sums become them."""
        for c in sorted(self._blocks):
            self._multiply(c)
        while self._under_way:
            self._take_oldest()
        offset = self._sums / np.maximum(self._count, 1)[:, None]

        def centre(c: int) -> None:
            products = self._products[c]
            for own, right, columns in _panels(len(products)):
                products[own, columns] -= np.outer(self._sums[c, own], offset[c, columns])
                square = products[own, own]
                square[:] = np.triu(square) + np.triu(square, 1).T
                products[right, own] = products[own, right].T

        list(self._copying.map(centre, range(len(offset))))
        centres = np.stack([self._centres.get(c, np.zeros(offset.shape[1])) for c in range(len(offset))])
        return self._count, centres + offset, self._products
