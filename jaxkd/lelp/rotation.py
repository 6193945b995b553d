"""What is done to the principal coordinates before they become logits of subclasses: rotations that even out the variances, and the simplex frame."""

import jax
import numpy as np
import scipy.linalg

from jaxkd.errors import ConfigError, unknown_name

ROTATIONS = ("haar", "equal", "off")


def haar_rotation(key: jax.Array, size: int) -> np.ndarray:
    """A uniformly random orthonormal matrix [size, size], float64: QR of a Gaussian one, the signs of R's diagonal folded in (arXiv math-ph/0609050)."""
    gaussian = np.asarray(jax.random.normal(key, (size, size)), np.float64)
    orthonormal, upper = np.linalg.qr(gaussian)
    return orthonormal * np.where(np.diagonal(upper) < 0, -1.0, 1.0)


def equalising_rotation(variances: np.ndarray) -> np.ndarray:
    """An orthonormal Q [S, S] for which all of diag(Q^T diag(variances) Q) are equal; it exists for every spectrum (Schur 1923, Horn 1954).

    Each of S - 1 Givens rotations turns the largest and the smallest of the remaining diagonal until one of the two is the mean.
    """
    size = len(variances)
    covariance, rotation = np.diag(np.asarray(variances, np.float64)), np.eye(size)
    mean = np.trace(covariance) / max(size, 1)
    left = list(range(size))
    while len(left) > 1:
        diagonal = covariance[left, left]
        i, j = left[int(np.argmax(diagonal))], left[int(np.argmin(diagonal))]
        above, below, cross = covariance[i, i] - mean, covariance[j, j] - mean, covariance[i, j]
        if above <= 0 or below >= 0:
            break
        # the angle with tangent t for which above + 2 cross t + below t^2 = 0; above * below < 0, so that it is real
        root = np.sqrt(cross**2 - above * below)
        tangent = above / (-cross + root) if cross <= 0 else (cross + root) / -below
        cosine = 1 / np.hypot(1, tangent)
        sine = tangent * cosine
        turn = np.array([[cosine, -sine], [sine, cosine]])
        covariance[:, [i, j]] = covariance[:, [i, j]] @ turn
        covariance[[i, j], :] = turn.T @ covariance[[i, j], :]
        rotation[:, [i, j]] = rotation[:, [i, j]] @ turn
        left.remove(i)
    return rotation


def simplex_frame(size: int) -> np.ndarray:
    """Orthonormal basis E of the vectors of length `size` that sum to 0, [size, size - 1], float64.

    Logits y E^T carry all of y [size - 1] through a softmax, which ignores a common shift: y = log(softmax(y E^T)) E.
    """
    return scipy.linalg.helmert(size).T if size > 1 else np.zeros((1, 0))


def coordinate_map(variances: np.ndarray, *, rotation: str, simplex: bool, key: jax.Array | None) -> np.ndarray:
    """From k principal coordinates to the subclasses: the matrix R of logits y R.

    Args:
      variances: of the principal coordinates, [k].
      rotation: "haar", "equal" or "off".
      simplex: append the simplex frame.
      key: of this class; only "haar" uses it.

    Returns:
      [k, k], or [k, k + 1] with `simplex`; float64.

    Raises:
      ConfigError: an unknown rotation; "haar" without a key.
    """
    size = len(variances)
    if rotation == "haar":
        if key is None:
            raise ConfigError("rotation='haar' draws a random matrix: pass key=jax.random.key(seed), or use rotation='equal' or 'off'.")
        turn = haar_rotation(key, size)
    elif rotation == "equal":
        turn = equalising_rotation(variances)
    elif rotation == "off":
        turn = np.eye(size)
    else:
        raise unknown_name("rotation", rotation, ROTATIONS)
    return turn @ simplex_frame(size + 1).T if simplex else turn
