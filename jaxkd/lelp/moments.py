"""Count, mean and centred second moment of the embeddings of each class: one pass, memory that does not grow with the rows."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import get_blas_funcs

from jaxkd.errors import DataError, require_count
from jaxkd.lelp.take import CHUNK_VALUES, take_float32
from jaxkd.types import Array

BLOCK_ROWS = 4096
BUFFER_BYTES = 256 << 20
MIN_BLOCK_ROWS = 64
THREADS = 4
"""Classes whose rows are converted, copied and centred at once, between two products; panels that are added at once after one."""

PANEL = 128
"""Rows of a matrix whose part right of the diagonal is changed at a time."""

(_symmetric_update,) = get_blas_funcs(("syrk",), dtype=np.float32)


@jax.jit
def _device_gram(rows: jax.Array) -> jax.Array:
    return jnp.matmul(rows.T, rows, precision="highest")


def _gram(rows: np.ndarray, out: np.ndarray) -> None:
    """rows^T rows of rows [n, D] into `out` [D, D], float32, of which the lower triangle means nothing afterwards.

    On a CPU it is a symmetric rank-n update by BLAS, which multiplies half as much as XLA's product and neither allocates nor mirrors (NumPy does both: at
    D = 4096 a fifth of the time).
    """
    if jax.default_backend() == "cpu":
        _symmetric_update(1.0, rows.T, c=out.T, lower=1, overwrite_c=1)
    else:
        out[:] = _device_gram(rows)


def _panels(dim: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the panels that cover the upper triangle of a matrix [D, D]."""
    return ((slice(start, min(start + PANEL, dim)), slice(start, dim)) for start in range(0, dim, PANEL))


def require_width(embedding: Array) -> int:
    """The D of embeddings [n, D]; DataError for another number of dimensions, or none."""
    shape = np.shape(embedding)
    if len(shape) != 2 or not shape[1]:
        raise DataError(f"embeddings of shape {shape} were given where [rows, D] is needed, D at least 1: pass an array, one row for each example.")
    return shape[1]


def check_rows(embedding: Array, labels: Array, num_classes: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and class ids as NumPy arrays.

    Args:
      embedding: [n, D], floats.
      labels: class of each row, integers [n].
      num_classes: C.
      dim: the D that is expected.

    Raises:
      DataError: a shape, width, dtype or label that does not fit; the message names it.
    """
    embedding, labels = np.asarray(embedding), np.asarray(labels)
    if embedding.ndim != 2 or embedding.shape[1] != dim:
        raise DataError(f"embeddings of shape {embedding.shape} were given where [rows, {dim}] is needed: they must all come from one teacher and layer.")
    if labels.shape != embedding.shape[:1]:
        raise DataError(f"{embedding.shape[0]} embeddings came with labels of shape {labels.shape}: give one class for each row.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"the classes are {labels.dtype}: give each row one class number, an integer from 0 to {num_classes - 1}.")
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise DataError(
            f"row {wrong[0]} has class {labels[wrong[0]]}, but with {num_classes} classes they run from 0 to {num_classes - 1}: "
            "correct the labels or num_classes, and leave out rows without a class."
        )
    return embedding, labels


class ClassMoments(NamedTuple):
    """Moments of each class; a pytree, whose leaves are NumPy float64 on the host and float32 inside JAX.

    Attributes:
      count: rows, [C].
      mean: [C, D]; 0 for a class without rows.
      m2: sum over rows of (h - mean)(h - mean)^T, [C, D, D].
    """

    count: Array
    mean: Array
    m2: Array

    @classmethod
    def zeros(cls, num_classes: int, dim: int) -> "ClassMoments":
        """The moments of no rows."""
        return cls(np.zeros(num_classes), np.zeros((num_classes, dim)), np.zeros((num_classes, dim, dim)))

    def update(self, embedding: Array, labels: Array) -> "ClassMoments":
        """Adds rows, on the host. For a stream of small batches `class_moments` is faster: it forms larger blocks.

        Args:
          embedding: [n, D], floats.
          labels: class of each row, integers [n].

        Raises:
          DataError: as `check_rows`, and for values that are not finite.
        """
        num_classes, dim = self.mean.shape
        accumulator = _Accumulator(num_classes, dim)
        accumulator.add(embedding, labels)
        return self.merge(accumulator.finish())

    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """Moments of the rows of both (Chan, Golub, LeVeque 1983)."""
        count = self.count + other.count
        difference = other.mean - self.mean
        share = other.count / (count + (count == 0))
        mean = self.mean + share[:, None] * difference
        between = (self.count * share)[:, None, None] * difference[:, :, None] * difference[:, None, :]
        return ClassMoments(count, mean, self.m2 + other.m2 + between)

    def psum(self, axis_name: str) -> "ClassMoments":
        """Moments of the rows of all devices of a mapped axis (pmap, shard_map, vmap), by one psum: centred before anything is summed.

        Each device puts its count and mean into a place of its own, [devices, C, 1 + D], so that the sum shows every device all of them; the second
        moment between the devices then needs no second round. The means are merged about their first estimate: one far from zero loses no digits.
        """
        num_classes, dim = self.mean.shape
        own = jnp.concatenate([self.count[:, None], self.mean], axis=1)
        places = jnp.zeros((jax.lax.axis_size(axis_name), *own.shape), own.dtype).at[jax.lax.axis_index(axis_name)].set(own)
        sums = jax.lax.psum(jnp.concatenate([self.m2.ravel(), places.ravel()]), axis_name)
        m2, places = sums[: self.m2.size].reshape(self.m2.shape), sums[self.m2.size :].reshape(-1, num_classes, 1 + dim)
        counts, means = places[:, :, :1], places[:, :, 1:]
        count = counts.sum(axis=0)
        rows = jnp.maximum(count, 1)
        estimate = (counts * means).sum(axis=0) / rows
        apart = jnp.where(counts > 0, means - estimate, 0)
        shift = (counts * apart).sum(axis=0) / rows
        apart -= shift
        between = jnp.einsum("pcd,pce->cde", counts * apart, apart, precision="highest")
        return ClassMoments(count[:, 0], estimate + shift, m2 + between)

    def covariance(self) -> Array:
        """Covariance of each class with divisor count - 1, [C, D, D]; 0 for a class of one row."""
        degrees = self.count - 1
        return self.m2 / (degrees + (degrees <= 0) * (1 - degrees))[:, None, None]


class _Accumulator:
    """Collects the rows of each class in a block, less a centre near their mean; the product of a full block is added to the class's sums.

    A centre that proves far from later rows is moved, and the sums about it with it. Of the products only the upper triangle is kept until the end.
    """

    def __init__(self, num_classes: int, dim: int, each: Callable[..., Iterable[None]] = map):
        rows = int(np.clip(BUFFER_BYTES // (4 * num_classes * dim), MIN_BLOCK_ROWS, BLOCK_ROWS))
        self._each = each
        self._blocks = np.empty((num_classes, rows, dim), np.float32)
        self._filled = np.zeros(num_classes, np.int64)
        self._block_sums = np.zeros((num_classes, dim))
        self._product = np.zeros((dim, dim), np.float32)
        self._centres = np.zeros((num_classes, dim), np.float32)
        self._about_centres = ClassMoments.zeros(num_classes, dim)  # count, sum and product of the rows less the centre

    def add(self, embedding: Array, labels: Array) -> None:
        """Adds rows; see `ClassMoments.update`."""
        num_classes, block_rows, dim = self._blocks.shape
        embedding, labels = check_rows(embedding, labels, num_classes, dim)
        embedding, order = np.ascontiguousarray(embedding), np.argsort(labels, kind="stable")
        left = np.split(order, np.searchsorted(labels[order], np.arange(1, num_classes)))
        while any(len(rows) for rows in left):
            fitting = block_rows - self._filled
            list(self._each(self._append, range(num_classes), itertools.repeat(embedding), [rows[:n] for rows, n in zip(left, fitting, strict=True)]))
            left = [rows[n:] for rows, n in zip(left, fitting, strict=True)]
            for c in np.flatnonzero(self._filled == block_rows).tolist():
                self._flush(c)

    def _append(self, c: int, embedding: np.ndarray, rows: np.ndarray) -> None:
        """Rows of class c into its block, which has room for them; threads do it for several classes at once."""
        chunk = max(1, CHUNK_VALUES // embedding.shape[1])
        for taken in (rows[start : start + chunk] for start in range(0, len(rows), chunk)):
            filled = self._filled[c]
            space = self._blocks[c, filled : filled + len(taken)]
            take_float32(embedding, taken, space)
            with np.errstate(invalid="ignore", over="ignore"):
                if not filled and not self._about_centres.count[c]:
                    self._centres[c] = space.mean(axis=0)
                space -= self._centres[c]
                self._block_sums[c] += space.sum(axis=0)
            self._filled[c] += len(taken)

    def _flush(self, c: int) -> None:
        values, sums, product = self._blocks[c, : self._filled[c]], self._block_sums[c], self._product
        if not np.all(np.isfinite(sums)):
            raise DataError(f"embeddings of class {c} are NaN, infinite or too large for float32: look at the teacher's inputs and weights.")
        _gram(values, product)
        if np.any(sums**2 > len(values) / 2 * np.diagonal(product)):
            # more than half of a second moment is that of the mean, not of the spread
            centre = (self._centres[c] + sums / len(values)).astype(np.float32)
            values -= centre - self._centres[c]
            self._move(c, centre)
            _gram(values, product)
            sums = values.sum(axis=0, dtype=np.float64)
        if not np.all(np.isfinite(np.diagonal(product))):
            raise DataError("the squares of the embeddings exceed float32: divide the embeddings by a constant.")
        count, total, products = (part[c] for part in self._about_centres)
        self._about_centres.count[c] = count + len(values)
        total += sums

        def add(panel: tuple[slice, slice]) -> None:
            products[panel] += product[panel]

        list(self._each(add, _panels(len(product))))
        self._filled[c], self._block_sums[c] = 0, 0

    def _move(self, c: int, centre: np.ndarray) -> None:
        """Makes the sums of a class those about another centre."""
        count, total, products = (part[c] for part in self._about_centres)
        shift = centre.astype(np.float64) - self._centres[c]
        moved = total - count * shift
        for rows, columns in _panels(len(shift)):
            products[rows, columns] -= np.outer(total[rows], shift[columns]) + np.outer(shift[rows], moved[columns])
        total[:], self._centres[c] = moved, centre

    def finish(self) -> ClassMoments:
        """The moments of all rows; the sums become them."""
        for c in np.flatnonzero(self._filled).tolist():
            self._flush(c)
        count, total, products = self._about_centres
        offset = total / np.maximum(count, 1)[:, None]

        def centre(c: int, panel: tuple[slice, slice]) -> None:
            rows, columns = panel
            products[c, rows, columns] -= np.outer(total[c, rows], offset[c, columns])
            square, right = products[c, rows, rows], slice(rows.stop, None)
            square[:] = np.triu(square) + np.triu(square, 1).T
            products[c, right, rows] = products[c, rows, right].T

        for c in range(len(count)):
            list(self._each(centre, itertools.repeat(c), _panels(products.shape[-1])))
        return ClassMoments(count, self._centres + offset, products)


def class_moments(batches: Iterable[tuple[Array, Array]], *, num_classes: int) -> ClassMoments:
    """Moments of each class in one pass over any number of rows: the state is (C + 1/2) D^2 float64, and a buffer of at most 256 MB (or 64 rows a class).

    Args:
      batches: pairs of embeddings [n, D] (floats, float16 and bfloat16 too: a few rows at a time become float32) and class ids [n].
      num_classes: C.

    Raises:
      ConfigError: C is not an integer of at least 1.
      DataError: no rows, or rows that do not fit; the message names the first.
    """
    require_count("num_classes", num_classes)
    accumulator = None
    with ThreadPoolExecutor(THREADS) as threads:
        for embedding, labels in batches:
            if accumulator is None:
                accumulator = _Accumulator(num_classes, require_width(embedding), threads.map)
            accumulator.add(embedding, labels)
        if accumulator is None:
            raise DataError("no embeddings were given: the moments of the classes need at least one batch.")
        return accumulator.finish()


merge_program = jax.pmap(lambda part: part.psum("data"), axis_name="data", out_axes=None)
"""What `merge_processes` runs on the moments of each device of the process, stacked, float32."""


def merge_processes(moments: ClassMoments) -> ClassMoments:
    """Moments of the rows of all processes of a JAX run, each of which brings its own; every process must call it.

    Returns:
      The same float32-accurate moments in every process.
    """
    others = jax.local_device_count() - 1
    spread = jax.tree.map(lambda x: np.concatenate([x[None], np.zeros((others, *x.shape))]).astype(np.float32), moments)
    return jax.tree.map(lambda x: np.asarray(x, np.float64), merge_program(spread))
