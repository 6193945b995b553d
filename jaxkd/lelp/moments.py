"""Count, mean and centred second moment of the embeddings of each class: one pass, memory that does not grow with the rows."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.errors import DataError, require_count
from jaxkd.lelp.accumulator import Accumulator
from jaxkd.types import Array


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
        batch = check_rows(embedding, labels, num_classes, dim)
        return self.merge(class_moments([batch], num_classes=num_classes))

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


def class_moments(batches: Iterable[tuple[Array, Array]], *, num_classes: int) -> ClassMoments:
    """Moments of each class in one pass over any number of rows, which go on being read while those before them are multiplied.

    Memory: C matrices [D, D] of float64, and of float32 one more than there are cores (512 MB at most, or two); up to 512 MB of rows (or 64 rows for each class
    and product). On a CPU with several cores a product is made on each; BLAS is held to one thread in the whole process meanwhile, so `batches` must not
    change that over a `yield`.

    Args:
      batches: pairs of embeddings [n, D] (floats, float16 and bfloat16 too: a few rows at a time become float32) and class ids [n].
      num_classes: C.

    Raises:
      ConfigError: C is not an integer of at least 1.
      DataError: no rows, or rows that do not fit; the message names the first.
    """
    require_count("num_classes", num_classes)
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise DataError("no embeddings were given: the moments of the classes need at least one batch.")
    dim = require_width(first[0])
    with Accumulator(num_classes, dim) as accumulator:
        accumulator.add(*check_rows(*first, num_classes, dim))
        del first
        for embedding, labels in batches:
            accumulator.add(*check_rows(embedding, labels, num_classes, dim))
        return ClassMoments(*accumulator.finish())


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
