"""Principal directions of each class inside the null space, from the covariance or from the rows themselves."""

import sys
from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxkd.errors import DataError
from jaxkd.lelp.leading import leading_eigenvectors
from jaxkd.lelp.moments import ClassMoments, check_rows
from jaxkd.lelp.null_space import project_out
from jaxkd.types import Array

RANK_TOLERANCE = 8 * float(np.finfo(np.float32).eps)
"""A direction counts if its variance exceeds this share of the class's total variance (null space or not): below it is rounding."""

ROWS_MULTIPLE = 256

WHOLE_DIM, SHARE = 512, 32
"""Up to WHOLE_DIM dimensions, or where more than 1 / SHARE of the directions are wanted, the decomposition of the whole matrix is the faster solver."""

NEIGHBOURS = 8
"""Eigenvectors beyond twice the wanted ones that are refined together with them, so that close eigenvalues are told apart."""


class PrincipalDirections(NamedTuple):
    """Of one class.

    Attributes:
      count: rows.
      mean: float64 [D].
      variances: along the directions, descending, float64 [k]; k is at most what was asked for, the rank, or count - 1.
      vectors: orthonormal columns, float64 [D, k].
      sine: bound of the sine of the largest angle between their span and that of the exact ones; 0 if no more than rounding is between them.
    """

    count: int
    mean: np.ndarray
    variances: np.ndarray
    vectors: np.ndarray
    sine: float = 0.0


def select_directions(
    count: int, mean: np.ndarray, variances: np.ndarray, vectors: np.ndarray, total: float, wanted: int, basis: np.ndarray
) -> PrincipalDirections:
    """The leading directions that count, cleaned of what rounding left of the classifier's, their largest component positive."""
    rank = int(np.sum(variances > RANK_TOLERANCE * total))
    kept = min(wanted, rank, count - 1)
    vectors, upper = np.linalg.qr(project_out(basis, np.asarray(vectors[:, :kept], np.float64)))
    vectors = vectors * np.where(np.diagonal(upper) < 0, -1.0, 1.0)
    largest = np.take_along_axis(vectors, np.argmax(np.abs(vectors), axis=0, keepdims=True), axis=0)
    return PrincipalDirections(count, mean, np.asarray(variances[:kept], np.float64), vectors * np.where(largest < 0, -1.0, 1.0))


def projected_covariance(covariance: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """N Sigma N for a covariance [D, D], with N = I - U U^T and U = `basis` [D, r]."""
    return project_out(basis, project_out(basis, covariance).T)


def _refined(matrix: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, descending, and eigenvectors [D, k] of a symmetric matrix [D, D] from float32 ones: a power step, then Rayleigh-Ritz, in float64."""
    basis, _ = np.linalg.qr(matrix @ vectors)
    values, turn = np.linalg.eigh(basis.T @ matrix @ basis)
    return values[::-1], (basis @ turn)[:, ::-1]


def _of_whole(scatter: np.ndarray, basis: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvalues and eigenvectors of N M N for M = `scatter` [D, D], by `jnp.linalg.eigh` in float32 and refined in float64."""
    scale = float(np.trace(scatter)) or 1.0
    unit = projected_covariance(scatter, basis) / scale
    vectors = np.asarray(jnp.linalg.eigh(jnp.asarray(unit, jnp.float32))[1], np.float64)
    values, vectors = _refined(unit, vectors[:, -(2 * wanted + NEIGHBOURS) :])
    return values * scale, vectors


def _eigenvectors(scatter: np.ndarray, basis: np.ndarray, wanted: int, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvalues, descending, and eigenvectors of N M N for M = `scatter` [D, D] of class c, by the solver that suits their number and D."""
    dim = len(scatter)
    if dim > WHOLE_DIM and SHARE * wanted <= dim:
        found = leading_eigenvectors(lambda vectors: project_out(basis, scatter @ project_out(basis, vectors)), dim, wanted, trace=float(np.trace(scatter)))
        if found:
            return found
        print(f"the leading directions of class {c} are too close to the next to be found apart: its {dim} x {dim} matrix is decomposed.", file=sys.stderr)
    return _of_whole(scatter, basis, wanted)


def from_covariance(moments: ClassMoments, basis: np.ndarray, wanted: int) -> list[PrincipalDirections]:
    """Eigenvectors of N Sigma_c N; of wide matrices only the wanted ones are computed.

    Args:
      moments: of every class.
      basis: U, [D, r].
      wanted: directions of a class at most.

    Raises:
      DataError: a class without rows.
    """
    found = []
    for c, (count, mean, m2) in enumerate(zip(moments.count, moments.mean, moments.m2, strict=True)):
        scatter, degrees = np.asarray(m2, np.float64), max(int(count) - 1, 1)
        values, vectors = _eigenvectors(scatter, basis, wanted, c)
        found.append(select_directions(int(count), np.asarray(mean, np.float64), values / degrees, vectors, float(np.trace(scatter)) / degrees, wanted, basis))
    return found


def from_rows(batches: Iterable[tuple[Array, Array]], num_classes: int, basis: np.ndarray, wanted: int) -> list[PrincipalDirections]:
    """Right singular vectors of (H_c - mean) N, by `jnp.linalg.svd` in float32; keeps all rows in memory.

    Args:
      batches: pairs of embeddings [n, D] and class ids [n].
      num_classes: C.
      basis: U, [D, r].
      wanted: directions of a class at most.

    Raises:
      DataError: a class without rows, or rows that do not fit.
    """
    checked = [check_rows(embedding, labels, num_classes, basis.shape[0]) for embedding, labels in batches]
    rows = np.concatenate([embedding for embedding, _ in checked]) if checked else np.zeros((0, basis.shape[0]))
    classes = np.concatenate([labels for _, labels in checked]) if checked else np.zeros(0, np.int64)
    if not np.all(np.isfinite(rows)):
        raise DataError("embeddings are NaN or infinite: look at the teacher's inputs and weights.")
    counts = np.bincount(classes, minlength=num_classes)
    require_every_class(counts)
    found = []
    for c, count in enumerate(counts):
        own = rows[classes == c].astype(np.float64)
        mean = own.mean(axis=0)
        own -= mean
        degrees = max(count - 1, 1)
        total = float(np.sum(np.square(own))) / degrees
        unit = project_out(basis, own.T).T / np.sqrt(total * degrees or 1.0)
        # rows of zeros change no right singular vector, and classes of like size share one compiled program
        padded = np.pad(unit.astype(np.float32), ((0, -len(unit) % ROWS_MULTIPLE), (0, 0)))
        _, singular, vectors = jnp.linalg.svd(padded, full_matrices=False)
        variances = np.square(np.asarray(singular, np.float64)) * total
        found.append(select_directions(int(count), mean, variances, np.asarray(vectors).T, total, wanted, basis))
    return found


def require_every_class(counts: np.ndarray) -> None:
    """Raises DataError if a class has no rows; the message names all such classes."""
    absent = np.flatnonzero(np.asarray(counts) == 0)
    if absent.size:
        raise DataError(
            f"no row belongs to class {', '.join(map(str, absent))} of {len(counts)}: its subclasses cannot be found. Add rows of it, or correct num_classes."
        )
