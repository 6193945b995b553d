"""LELP's subspaces: for each class the directions whose coordinates become the logits of its subclasses (arXiv 2409.20449).

Options are what is left out (`null_space`), the rotation, the scale, the simplex frame, the solver and, in `classes_of_rows`, whose class a row counts for.
Fixed are the centre, the mean of the class; that every row counts once, for one class (no weights by p_c or for rare classes); a Haar rotation of its own for
each class; fewer subclasses, not random directions, where a class has too few dimensions. Rows without a label take part by the teacher's class: for directions
of labelled rows alone, give only those.
"""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from jaxkd.errors import ConfigError, DataError, require_count, unknown_name
from jaxkd.lelp.moments import ClassMoments, class_moments, require_width
from jaxkd.lelp.null_space import null_basis, project_out, require_room
from jaxkd.lelp.passes import from_passes
from jaxkd.lelp.principal import PrincipalDirections, from_covariance, from_rows, require_every_class
from jaxkd.lelp.rotation import ROTATIONS, coordinate_map
from jaxkd.types import Array

SCALES = ("class", "whiten", "off")
SOLVERS = ("auto", "covariance", "svd", "randomized")
WIDE_DIM = 8192
"""Up to it the second moments of the classes are formed, unless another solver is named."""
CLASS_SOURCES = ("label", "teacher")


class Subspaces(NamedTuple):
    """Coordinate s of class c of an embedding h is directions[c, :, s]^T (h - mean[c]) / scale[c, s].

    A class with too few rows, or too little variance outside of the null space, has fewer than S subclasses; the others are masked,
    so that their probability is 0. `pseudo_class_loss` says what becomes of the student's outputs for them.

    Attributes:
      mean: float32 [C, D].
      directions: after rotation; orthonormal columns, or with the simplex frame S vectors that sum to 0; 0 where masked; float32 [C, D, S].
      scale: of each coordinate, float32 [C, S]; 1 where masked.
      eigenvalues: variances along the principal directions (divisor count - 1), descending, 0 where there is none, float32 [C, S].
      counts: rows of each class, int64 [C].
      valid: subclasses that exist, a leading run of True for each class, bool [C, S].
      sine: bound of the sine of the largest angle between the span of a class's directions and that of the exact ones of the same rows, measured by
        solver="randomized"; 0 for the others, which leave no more than rounding; float32 [C].
      null_basis: orthonormal basis U of the directions left out, float32 [D, r].
    """

    mean: Array
    directions: Array
    scale: Array
    eigenvalues: Array
    counts: Array
    valid: Array
    sine: Array
    null_basis: Array


def _scales(kind: str, variances: np.ndarray) -> np.ndarray:
    if kind == "class":
        variances = np.full_like(variances, np.mean(variances))
    scales = np.ones_like(variances) if kind == "off" else np.sqrt(variances)
    return np.where(scales > 0, scales, 1)


def _assemble(found: list[PrincipalDirections], maps: list[np.ndarray], *, num_subclasses: int, scale: str, basis: np.ndarray) -> Subspaces:
    """Stacks the classes: `maps[c]` [k, s] takes the k principal coordinates of class c to its s subclasses."""
    num_classes, dim = len(found), basis.shape[0]
    directions = np.zeros((num_classes, dim, num_subclasses), np.float32)
    scales = np.ones((num_classes, num_subclasses), np.float32)
    eigenvalues = np.zeros((num_classes, num_subclasses), np.float32)
    valid = np.zeros((num_classes, num_subclasses), bool)
    for c, (principal, to_subclasses) in enumerate(zip(found, maps, strict=True)):
        used = to_subclasses.shape[1]
        directions[c, :, :used] = principal.vectors @ to_subclasses
        if used:
            scales[c, :used] = _scales(scale, principal.variances @ np.square(to_subclasses))
        eigenvalues[c, : len(principal.variances)] = principal.variances
        valid[c, : max(used, 1)] = True
    mean, counts = np.stack([one.mean for one in found]), np.array([one.count for one in found], np.int64)
    sine = np.array([one.sine for one in found], np.float32)
    return Subspaces(mean.astype(np.float32), directions, scales, eigenvalues, counts, valid, sine, basis.astype(np.float32))


def _require_options(num_subclasses: int, rotation: str, scale: str, simplex: bool) -> None:
    require_count("num_subclasses", num_subclasses)
    if rotation not in ROTATIONS:
        raise unknown_name("rotation", rotation, ROTATIONS)
    if scale not in SCALES:
        raise unknown_name("scale", scale, SCALES)
    if simplex and scale == "whiten":
        raise ConfigError("the simplex frame needs one scale for each class: use scale='class' or 'off', or simplex=False.")


def _basis_with_room(kernel: Array | None, null_space: str, *, num_classes: int, dim: int, num_directions: int) -> np.ndarray:
    basis = null_basis(kernel, null_space, num_classes=num_classes, dim=dim)
    require_room(num_directions, dim, basis.shape[1])
    return basis


def subspaces_from_moments(
    moments: ClassMoments,
    *,
    num_subclasses: int,
    classifier_kernel: Array | None = None,
    null_space: str = "rows",
    rotation: str = "haar",
    scale: str = "class",
    simplex: bool = False,
    kernel_classes: int | None = None,
    key: jax.Array | None,
) -> Subspaces:
    """The subspaces of classes whose moments are known, for instance after `merge_processes`; arguments and errors as `fit_subspaces`."""
    _require_options(num_subclasses, rotation, scale, simplex)
    require_every_class(moments.count)
    num_classes, dim = moments.mean.shape
    wanted = num_subclasses - simplex
    basis = _basis_with_room(classifier_kernel, null_space, num_classes=kernel_classes or num_classes, dim=dim, num_directions=wanted)
    return _rotated(from_covariance(moments, basis, wanted), basis, num_subclasses, rotation, scale, simplex, key)


def _rotated(
    found: list[PrincipalDirections], basis: np.ndarray, num_subclasses: int, rotation: str, scale: str, simplex: bool, key: jax.Array | None
) -> Subspaces:
    keys = [None if key is None else jax.random.fold_in(key, c) for c in range(len(found))]
    maps = [coordinate_map(one.variances, rotation=rotation, simplex=simplex, key=own) for one, own in zip(found, keys, strict=True)]
    return _assemble(found, maps, num_subclasses=num_subclasses, scale=scale, basis=basis)


def fit_subspaces(
    batches: Iterable[tuple[Array, Array]],
    *,
    num_classes: int,
    num_subclasses: int,
    classifier_kernel: Array | None = None,
    null_space: str = "rows",
    rotation: str = "haar",
    scale: str = "class",
    simplex: bool = False,
    kernel_classes: int | None = None,
    key: jax.Array | None,
    solver: str = "auto",
) -> Subspaces:
    """Finds, for each class, the S directions of largest variance among those that the teacher's classifier does not read (arXiv 2409.20449, step A).

    Args:
      batches: pairs of teacher embeddings [n, D] (floats) and class ids [n].
      num_classes: C.
      num_subclasses: S.
      classifier_kernel: of the teacher's last layer, [D, C]; [D, 1] for two classes and one logit; any rank.
      null_space: what is left out: "rows" of the classifier's weights, their "differences", or nothing, "off".
      rotation: of the coordinates of a class among themselves, so that no subclass has all the variance: "haar" = random, one for each class; "equal" = the
        variances become equal; "off" = principal coordinates, the largest component of each direction positive.
      scale: what coordinates are divided by: "class" = the root of the mean variance of the class's coordinates, "whiten" = the deviation of each,
        "off" = 1, embedding units.
      simplex: take S - 1 directions times the simplex frame, so that the softmax over S subclasses loses none of them.
      kernel_classes: classes that the kernel has columns of, where the rows are of some of them only; None = C.
      key: random key of the Haar rotations; None is enough for the others.
      solver: "covariance" = one pass, memory C D^2; "svd" = keeps the rows; "randomized" = several passes, memory C D S, with the error that is left
        (`Subspaces.sine`); "auto" = "covariance" up to D = 8192, else "randomized".

    Returns:
      Subspaces. A class with fewer than S + 1 rows, or variance in fewer than S directions, has fewer subclasses, at least one.

    Raises:
      ConfigError: an unknown option, C or S that is not an integer of at least 1, a kernel of the wrong shape, more directions than the null space has.
      DataError: a class without rows; rows of another width, classes out of range, values that are not finite.
    """
    batches, solver = _chosen(batches, solver)
    if solver == "covariance":
        return subspaces_from_moments(
            class_moments(batches, num_classes=num_classes),
            num_subclasses=num_subclasses,
            classifier_kernel=classifier_kernel,
            null_space=null_space,
            rotation=rotation,
            scale=scale,
            simplex=simplex,
            kernel_classes=kernel_classes,
            key=key,
        )
    _require_options(num_subclasses, rotation, scale, simplex)
    require_count("num_classes", num_classes)
    batches = list(batches) if solver == "svd" else batches
    first = next(iter(batches), None)
    if first is None:
        raise DataError("no embeddings were given: subspaces need at least one batch.")
    wanted, dim = num_subclasses - simplex, require_width(first[0])
    basis = _basis_with_room(classifier_kernel, null_space, num_classes=kernel_classes or num_classes, dim=dim, num_directions=wanted)
    found = (from_rows if solver == "svd" else from_passes)(batches, num_classes, basis, wanted)
    return _rotated(found, basis, num_subclasses, rotation, scale, simplex, key)


def solver_for(solver: str, dim: int) -> str:
    """The solver that a name stands for with embeddings of D dimensions.

    Raises:
      ConfigError: an unknown name.
    """
    if solver not in SOLVERS:
        raise unknown_name("solver", solver, SOLVERS)
    return solver if solver != "auto" else "covariance" if dim <= WIDE_DIM else "randomized"


def _chosen(batches: Iterable[tuple[Array, Array]], solver: str) -> tuple[Iterable[tuple[Array, Array]], str]:
    """The batches, all of them still, and the solver for their width."""
    if solver != "auto":
        return batches, solver_for(solver, 0)
    again = iter(batches) is not batches
    first = next(iterator := iter(batches), None)
    dim = 0 if first is None else require_width(first[0])
    return (batches if again or first is None else itertools.chain([first], iterator)), solver_for(solver, dim)


def random_subspaces(
    moments: ClassMoments,
    *,
    num_subclasses: int,
    classifier_kernel: Array | None = None,
    null_space: str = "rows",
    scale: str = "class",
    kernel_classes: int | None = None,
    key: jax.Array,
) -> Subspaces:
    """The control of the PCA: random orthonormal directions in the same null space, scaled by the variance that the data have along them.

    Arguments and errors as `fit_subspaces`; `eigenvalues` are the variances along the directions, in no order. A rotation would turn random directions into
    random directions, and a solver finds principal ones: neither applies. S directions are drawn, so that without the simplex frame they are as many as LELP's.
    """
    _require_options(num_subclasses, "off", scale, simplex=False)
    require_every_class(moments.count)
    num_classes, dim = moments.mean.shape
    basis = _basis_with_room(classifier_kernel, null_space, num_classes=kernel_classes or num_classes, dim=dim, num_directions=num_subclasses)
    found = []
    for c, principal in enumerate(from_covariance(moments, basis, num_subclasses)):
        used = len(principal.variances)
        gaussian = np.asarray(jax.random.normal(jax.random.fold_in(key, c), (dim, used)), np.float64)
        vectors, _ = np.linalg.qr(project_out(basis, gaussian))
        variances = np.sum(vectors * (np.asarray(moments.m2[c], np.float64) @ vectors), axis=0) / max(principal.count - 1, 1)
        found.append(principal._replace(variances=variances, vectors=vectors))
    return _assemble(found, [np.eye(len(one.variances)) for one in found], num_subclasses=num_subclasses, scale=scale, basis=basis)


def classes_of_rows(labels: Array, label_mask: Array, teacher_logits: Array | None = None, *, source: str = "label") -> np.ndarray:
    """The class that each row counts for.

    Args:
      labels: one-hot, [n, C].
      label_mask: a row is all True (labelled) or all False, bool [n, C].
      teacher_logits: [n, C], or [n, 1] for two classes and one logit; None if there are none.
      source: "label" = the label, and the teacher's class for rows without one; "teacher" = the teacher's class for all rows.

    Returns:
      int32 [n]; -1 for a row without a label and without teacher.

    Raises:
      ConfigError: an unknown source; "teacher" without logits.
      DataError: labels, mask and logits that are not of the same rows and classes.
    """
    if source not in CLASS_SOURCES:
        raise unknown_name("source of classes", source, CLASS_SOURCES)
    labels, label_mask = np.asarray(labels), np.asarray(label_mask, bool)
    if labels.ndim != 2 or label_mask.shape != labels.shape:
        raise DataError(f"labels {labels.shape} came with a label mask {label_mask.shape}: both must be [n, C].")
    labelled, num_classes = label_mask.any(axis=1), labels.shape[1]
    if teacher_logits is None:
        if source == "teacher":
            raise ConfigError("the classes are to be the teacher's, but there are no teacher logits: use source='label'.")
        return np.where(labelled, labels.argmax(axis=1), -1).astype(np.int32)
    teacher_logits = np.asarray(teacher_logits)
    if len(teacher_logits) != len(labels):
        raise DataError(f"{len(labels)} rows of labels came with {len(teacher_logits)} rows of teacher logits.")
    one_logit = num_classes == 2 and teacher_logits.shape[1:] == (1,)
    if not one_logit and teacher_logits.shape[1:] != (num_classes,):
        raise DataError(
            f"teacher logits {teacher_logits.shape} came with labels of {num_classes} classes: pass [n, {num_classes}], the logits of the same classes in the "
            "same order (for two classes also one logit, [n, 1])."
        )
    teacher = (teacher_logits[:, 0] > 0) if one_logit else teacher_logits.argmax(axis=1)
    return np.where(labelled & (source == "label"), labels.argmax(axis=1), teacher).astype(np.int32)
