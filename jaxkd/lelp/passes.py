"""Principal directions of each class by several passes over the rows: for embeddings so wide that C matrices [D, D] are too much."""

import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from jaxkd.errors import ConfigError, DataError
from jaxkd.lelp.leading import EQUAL, block_width, next_block, ritz
from jaxkd.lelp.moments import check_rows
from jaxkd.lelp.null_space import project_out
from jaxkd.lelp.principal import PrincipalDirections, require_every_class, select_directions
from jaxkd.lelp.take import take_float32
from jaxkd.types import Array

PASSES = 12
"""Products at most, each of which reads the rows once; one pass for the means comes before them."""
SINE = 1e-4
"""No further pass is made when the largest angle to the exact directions is below this for every class."""


class Again:
    """An iterable that is made anew each time it is read.

    Args:
      make: () -> iterator.
    """

    def __init__(self, make: Callable[[], Iterable[tuple[Array, Array]]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        return iter(self._make())


def from_passes(batches: Iterable[tuple[Array, Array]], num_classes: int, basis: np.ndarray, wanted: int) -> list[PrincipalDirections]:
    """Eigenvectors of N Sigma_c N from products of the rows with random vectors and with what came of them: a block Krylov space of each class.

    A range finder (Halko, Martinsson and Tropp, SIAM Review 2011) of which every pass is used (Musco and Musco, NeurIPS 2015). The memory grows by
    32 C D S bytes with each pass, S directions, and not with the rows. Products are float32, their sums float64.

    Args:
      batches: pairs of embeddings [n, D] and class ids [n], which can be read several times.
      num_classes: C.
      basis: U, [D, r].
      wanted: directions of a class at most.

    Returns:
      The directions of each class, with the error that is measured on them: `sine`.

    Raises:
      ConfigError: batches that can be read only once.
      DataError: a class without rows, or rows that do not fit.
    """
    if iter(batches) is batches:
        raise ConfigError("solver='randomized' reads the batches several times, and these can be read once: pass a list, or solver='covariance'.")
    dim, rng = basis.shape[0], np.random.default_rng(0)
    room = dim - basis.shape[1]
    counts, means, totals = _statistics(batches, num_classes, dim)
    require_every_class(counts)
    width = min(block_width(wanted), room)
    new = [np.linalg.qr(project_out(basis, rng.standard_normal((dim, width))))[0] for _ in range(num_classes)]
    spaces = images = [np.zeros((dim, 0))] * num_classes
    found, done = [], 0
    while done < PASSES and width:
        products = [project_out(basis, product) for product in _products(batches, means, new)]
        spaces, images = ([np.concatenate(pair, axis=1) for pair in zip(old, added, strict=True)] for old, added in ((spaces, new), (images, products)))
        found = [_of_space(*parts, basis, wanted) for parts in zip(counts.tolist(), means, totals.tolist(), spaces, images, strict=True)]
        done, width = done + 1, min(width, room - spaces[0].shape[1])
        if max(one.sine for one in found) <= SINE:
            break
        new = [next_block(space, product[:, :width], rng) for space, product in zip(spaces, products, strict=True)]
    worst = max(range(num_classes), key=lambda c: found[c].sine)
    if found[worst].sine > SINE:
        words = f"after {done + 1} passes over the rows the directions of class {worst} are known up to an angle of sine {found[worst].sine:.2g}"
        print(f"{words}: its variance falls off slowly behind them.", file=sys.stderr)
    return found


def _of_space(count: int, mean: np.ndarray, total: float, space: np.ndarray, image: np.ndarray, basis: np.ndarray, wanted: int) -> PrincipalDirections:
    """The directions that the space of a class holds, and the bound of their error: the residual over the gap behind them (Davis and Kahan 1970)."""
    degrees, kept = max(count - 1, 1), min(wanted + 1, space.shape[1])
    values, vectors, _ = ritz(space, image, kept, wanted)
    principal = select_directions(count, mean, values / degrees, vectors, total / degrees, wanted, basis)
    used = len(principal.variances)
    if not used:
        return principal
    residual = ritz(space, image, kept, used)[2]
    gap = values[used - 1] - (values[used] if used < kept else 0.0)
    return principal._replace(sine=float(min(1.0, residual / max(gap, EQUAL * values[0]))))


def _centred(batches: Iterable[tuple[Array, Array]], means: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of each class in each batch, float32, less a mean of the class."""
    num_classes, dim = means.shape
    for batch in batches:
        embedding, labels = check_rows(*batch, num_classes, dim)
        embedding = np.ascontiguousarray(embedding)
        for c in np.unique(labels).tolist():
            own = np.flatnonzero(labels == c)
            rows = np.empty((len(own), dim), np.float32)
            take_float32(embedding, own, rows)
            with np.errstate(invalid="ignore"):
                rows -= means[c].astype(np.float32)
            yield c, rows


def _statistics(batches: Iterable[tuple[Array, Array]], num_classes: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows [C], mean [C, D] and sum of squares about the mean [C] of each class, float64, merged as in Chan, Golub and LeVeque (1983)."""
    counts, means, squares = np.zeros(num_classes, np.int64), np.zeros((num_classes, dim)), np.zeros(num_classes)
    for c, rows in _centred(batches, np.zeros((num_classes, dim))):
        count = counts[c] + len(rows)
        with np.errstate(invalid="ignore", over="ignore"):
            own = rows.mean(axis=0, dtype=np.float64)
            spread = float(np.sum(np.square(rows - own.astype(np.float32)), dtype=np.float64))
        if not np.isfinite(spread):
            raise DataError(f"embeddings of class {c} are NaN, infinite or too large for float32: look at the teacher's inputs and weights.")
        apart = own - means[c]
        squares[c] += spread + apart @ apart * (counts[c] * len(rows) / count)
        means[c] += apart * (len(rows) / count)
        counts[c] = count
    return counts, means, squares


def _products(batches: Iterable[tuple[Array, Array]], means: np.ndarray, vectors: list[np.ndarray]) -> list[np.ndarray]:
    """For each class the sum of (h - mean) (h - mean)^T V over its rows, with V = `vectors[c]` [D, k]; float64."""
    narrow, sums = [own.astype(np.float32) for own in vectors], [np.zeros(own.shape) for own in vectors]
    for c, rows in _centred(batches, means):
        sums[c] += rows.T @ (rows @ narrow[c])
    return sums
