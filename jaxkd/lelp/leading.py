"""The leading eigenvectors of a symmetric matrix, from its products with blocks of vectors alone."""

from collections.abc import Callable

import numpy as np

MIN_WIDTH, STEPS, CYCLES = 16, 6, 40
TOLERANCE = 1e-5
"""The residual of the wanted eigenvectors over the gap behind the last of them, which bounds the sine of their largest angle to the exact ones."""

EQUAL = 8 * float(np.finfo(np.float32).eps)
"""A gap below this share of the largest eigenvalue is rounding of float32 moments: the residual is then compared with this share."""

ROUNDING = 1e-13
"""A residual below this share of the trace is rounding."""

NOTHING_NEW = 1e-14
"""A vector of which less than this is outside of the space so far is rounding too: a random one takes its place."""


def leading_eigenvectors(product: Callable[[np.ndarray], np.ndarray], dim: int, wanted: int, *, trace: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The largest eigenvalues of a symmetric matrix A [D, D] that has no negative ones, and their eigenvectors, in float64.

    Block Krylov spaces (Golub and Underwood 1977; Musco and Musco, NeurIPS 2015), each begun with the best vectors of the one before: a step is one product of
    A with twice as many vectors as are wanted, where a decomposition of A costs D^3 several times.

    Args:
      product: X [D, k] -> A X.
      dim: D, at least MIN_WIDTH * (STEPS + 1) and 2 * wanted * (STEPS + 1).
      wanted: k, at least 1.
      trace: of A, or more.

    Returns:
      Eigenvalues, descending, [k], and orthonormal columns [D, k]; None if TOLERANCE was not reached in CYCLES spaces.
    """
    rng, width = np.random.default_rng(0), block_width(wanted)
    vectors = np.linalg.qr(rng.standard_normal((dim, width)))[0]
    for _ in range(CYCLES):
        values, vectors, residual = ritz(*_krylov_space(product, vectors, rng), width, wanted)
        gap = max(values[wanted - 1] - values[wanted], EQUAL * values[0])
        if residual <= max(TOLERANCE * gap, ROUNDING * trace):
            return values[:wanted], vectors[:, :wanted]
    return None


def block_width(wanted: int) -> int:
    """Vectors that are multiplied at a time to find the `wanted` leading ones."""
    return max(2 * wanted, MIN_WIDTH)


def ritz(basis: np.ndarray, image: np.ndarray, kept: int, wanted: int) -> tuple[np.ndarray, np.ndarray, float]:
    """What the span of an orthonormal Q = `basis` [D, m] tells of A, with A Q = `image`.

    Returns:
      The `kept` largest Ritz values, descending, their vectors [D, kept], and the Frobenius norm of the residual of the first `wanted`.
    """
    values, turn = np.linalg.eigh(basis.T @ image)
    values, turn = values[::-1][:kept], turn[:, ::-1][:, :kept]
    vectors = basis @ turn
    return values, vectors, float(np.linalg.norm(image @ turn[:, :wanted] - vectors[:, :wanted] * values[:wanted]))


def next_block(known: np.ndarray, last: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Orthonormal vectors [D, k] beside the orthonormal columns of `known` [D, m], so that both together span `last` [D, k] too."""
    new, upper = np.linalg.qr(last - known @ (known.T @ last))
    rounding = np.abs(np.diagonal(upper)) <= NOTHING_NEW * np.linalg.norm(last)
    new[:, rounding] = rng.standard_normal((len(new), int(rounding.sum())))
    return np.linalg.qr(new - known @ (known.T @ new))[0]


def _krylov_space(product: Callable[[np.ndarray], np.ndarray], start: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis Q of the span of X, A X, ..., A^STEPS X, with X = `start` [D, k], and A Q."""
    dim, width = start.shape
    basis = np.empty((dim, (STEPS + 1) * width), order="F")
    image = np.empty_like(basis)
    basis[:, :width], image[:, :width] = start, product(start)
    for done in range(width, basis.shape[1], width):
        new = next_block(basis[:, :done], image[:, done - width : done], rng)
        basis[:, done : done + width], image[:, done : done + width] = new, product(new)
    return basis, image
