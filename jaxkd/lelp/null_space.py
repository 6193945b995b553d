"""The directions that the teacher's output layer reads: logit distillation carries them already, so LELP leaves them out."""

import numpy as np

from jaxkd.errors import ConfigError, unknown_name
from jaxkd.types import Array

NULL_SPACES = ("rows", "differences", "off")


def pair_kernel(kernel: Array) -> np.ndarray:
    """The kernel of the logits (0, u) of two classes, absent and present, for each label whose only logit is u.

    Args:
      kernel: [D, L].

    Returns:
      [D, 2 * L], zero in the even columns.
    """
    kernel = np.asarray(kernel)
    return np.stack([np.zeros_like(kernel), kernel], axis=-1).reshape(kernel.shape[0], -1)


def require_kernel(kernel: np.ndarray, num_classes: int, dim: int, *, of: str = "classes") -> None:
    """Raises ConfigError unless a kernel is [D, C], or with `of="labels"` [D, L], and finite."""
    fitting = f"[{dim}, {num_classes}] (embedding width, {of})" + (f" or, for one logit, [{dim}, 1]" if of == "classes" and num_classes == 2 else "")
    if kernel.shape != (dim, num_classes):
        raise ConfigError(f"the classifier kernel has shape {kernel.shape}, but {fitting} is needed: pass the kernel of the layer that reads these embeddings.")
    if not np.all(np.isfinite(kernel)):
        raise ConfigError("the classifier kernel has values that are NaN or infinite: use the weights of a trained teacher, or null_space='off'.")


def null_basis(kernel: Array | None, null_space: str, *, num_classes: int, dim: int) -> np.ndarray:
    """Orthonormal basis U of what is left out; the projection is N = I - U U^T (arXiv 2409.20449).

    Args:
      kernel: of the teacher's last layer, [D, C]; [D, 1] for two classes and one logit; may have less than full rank.
      null_space: "rows" = the span of its columns (the rows of W); "differences" = the span of their differences, which is all that a softmax reads
        (one direction fewer in general; the same for one logit); "off" = nothing.
      num_classes: C.
      dim: D.

    Returns:
      [D, rank], float64.

    Raises:
      ConfigError: an unknown name; no kernel, one of another shape, one that is zero or not finite.
    """
    if null_space not in NULL_SPACES:
        raise unknown_name("null space", null_space, NULL_SPACES)
    if null_space == "off":
        return np.zeros((dim, 0))
    if kernel is None:
        raise ConfigError(f"null_space={null_space!r} needs classifier_kernel, the [D, C] kernel of the teacher's last layer; else use null_space='off'.")
    weights = np.asarray(kernel, np.float64)
    if num_classes == 2 and weights.ndim == 2 and weights.shape[1] == 1:
        weights = pair_kernel(weights)
    require_kernel(weights, num_classes, dim)
    if null_space == "differences":
        weights = weights - weights.mean(axis=1, keepdims=True)
    vectors, singular, _ = np.linalg.svd(weights, full_matrices=False)
    rank = int(np.sum(singular > max(weights.shape) * np.finfo(np.float32).eps * singular[0]))
    if rank == 0:
        raise ConfigError(f"the classifier kernel has rank 0 for null_space={null_space!r}: use the weights of a trained teacher, or null_space='off'.")
    return vectors[:, :rank]


def full_rank(null_space: str, num_classes: int, *, task: str = "multiclass") -> int:
    """Dimensions that are left out for a classifier of C classes, or of C labels ("multilabel"), whose kernel has full rank."""
    differences = num_classes if task == "multilabel" else num_classes - 1
    return {"rows": num_classes, "differences": differences, "off": 0}[null_space]


def require_room(num_directions: int, dim: int, rank: int) -> None:
    """Raises ConfigError if more directions are asked for than the null space of a classifier of this rank has in `dim` dimensions."""
    room = dim - rank
    if num_directions > room:
        less = f" less the {rank} that the classifier reads" if rank else ""
        more = f", or null_space='off', which leaves {dim}" if rank and num_directions <= dim else ""
        raise ConfigError(f"{num_directions} directions are asked for, but the embedding has {dim} dimensions{less}: use at most {room}{more}.")


def project_out(basis: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """N x for the columns of `vectors` [D, k], with N = I - U U^T and U = `basis` [D, r]."""
    return vectors - basis @ (basis.T @ vectors)
