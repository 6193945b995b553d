"""What the student is taught: probabilities of subclasses and of pseudo-classes (arXiv 2409.20449, step B)."""

import jax
import jax.numpy as jnp

from jaxkd.errors import DataError, require_temperature
from jaxkd.lelp.subspaces import Subspaces
from jaxkd.losses.reduce import to_compute_dtype
from jaxkd.types import Array


def class_logits(logits: Array, num_classes: int) -> jax.Array:
    """Logits of every class: [n, C] as they are; one logit u of two classes, [n, 1], becomes (0, u).

    Raises:
      DataError: another number of columns.
    """
    logits = to_compute_dtype(logits)
    if num_classes == 2 and logits.shape[-1] == 1:
        return jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
    if logits.shape[-1] != num_classes:
        raise DataError(f"the teacher's logits have {logits.shape[-1]} columns, but there are {num_classes} classes: pass the logits of the same classes.")
    return logits


def require_by_class(subclass_probs: jax.Array) -> None:
    """Raises DataError unless subclass probabilities are [n, C, S]."""
    if subclass_probs.ndim != 3 or not subclass_probs.shape[2]:
        raise DataError(f"subclass probabilities of shape {subclass_probs.shape} were given where [n, C, S] is needed: pass the result of subclass_probs.")


def project_coordinates(subspaces: Subspaces, embedding: Array) -> jax.Array:
    """Coordinates of every row in the subspace of every class: directions^T (h - mean) / scale, the mean taken off before the product.

    Args:
      subspaces: of C classes.
      embedding: [n, D], floats.

    Returns:
      [n, C, S], float32; 0 for a masked subclass.

    Raises:
      DataError: embeddings of another width.
    """
    embedding = to_compute_dtype(embedding)
    dim = subspaces.mean.shape[1]
    if embedding.ndim != 2 or embedding.shape[1] != dim:
        raise DataError(f"embeddings of shape {embedding.shape} do not fit subspaces of width {dim}: use the teacher and layer that they were fitted on.")

    def of_class(part: tuple[Array, Array, Array]) -> jax.Array:
        mean, directions, scale = part
        return jnp.matmul(embedding - mean, directions, precision="highest") / scale

    parts = (subspaces.mean, subspaces.directions, subspaces.scale)
    return jnp.moveaxis(jax.lax.map(of_class, jax.tree.map(jnp.asarray, parts)), 0, 1)


def subclass_probs(subspaces: Subspaces, embedding: Array, *, subclass_temperature: float = 1.0) -> jax.Array:
    """Probabilities of the subclasses within each class, for every row and every class: softmax(coordinates / beta).

    They and the teacher's logits are what `pseudo_class_loss` takes.

    Args:
      subspaces: of C classes.
      embedding: [n, D], floats.
      subclass_temperature: beta; towards 0 the subclasses become hard, towards infinity uniform.

    Returns:
      [n, C, S], float32; sums to 1 over S; 0 for a masked subclass.

    Raises:
      ConfigError: a temperature that is not finite and above 0.
      DataError: embeddings of another width.
    """
    require_temperature("subclass_temperature", subclass_temperature)
    coordinates = project_coordinates(subspaces, embedding) / subclass_temperature
    return jax.nn.softmax(jnp.where(subspaces.valid, coordinates, -jnp.inf), axis=-1)


def joint_probs(logits: Array, subclass_probs: Array, *, temperature: float = 1.0) -> jax.Array:
    """Probabilities of the pseudo-classes: p_c * pi_(s|c), with p = softmax(logits / temperature).

    They are one distribution over the student's C * S outputs, the target of any loss on class probabilities. `jaxkd.losses.softmax_cross_entropy` of
    student_logits / temperature against them, less their entropy, times temperature^2, is `pseudo_class_loss`, which takes the two factors instead.

    Args:
      logits: the teacher's, [n, C], or [n, 1] for two classes and one logit.
      subclass_probs: pi, the result of `subclass_probs` or of a split such as `kmeans`, [n, C, S].
      temperature: tau.

    Returns:
      [n, C * S], class-major, float32.

    Raises:
      ConfigError: a temperature that is not finite and above 0.
      DataError: subclass probabilities of another shape, logits of other classes or rows.
    """
    require_temperature("temperature", temperature)
    subclass_probs = to_compute_dtype(subclass_probs)
    require_by_class(subclass_probs)
    rows, num_classes, _ = subclass_probs.shape
    logits = class_logits(logits, num_classes)
    if logits.shape[0] != rows:
        raise DataError(f"{logits.shape[0]} rows of teacher logits came with {rows} rows of embeddings or subclass probabilities: they must be the same rows.")
    probs = jax.nn.softmax(logits / temperature, axis=-1)
    return (probs[:, :, None] * subclass_probs).reshape(rows, -1)


def pseudo_class_probs(subspaces: Subspaces, embedding: Array, logits: Array, *, temperature: float = 1.0, subclass_temperature: float = 1.0) -> jax.Array:
    """Probabilities of the pseudo-classes of every row (arXiv 2409.20449, step B): `joint_probs` of `subclass_probs`, a target as that says.

    For `pseudo_class_loss` take `subclass_probs` instead.

    Args:
      subspaces: of C classes.
      embedding: the teacher's, [n, D].
      logits: the teacher's, [n, C], or [n, 1] for two classes and one logit.
      temperature: tau, of the classes.
      subclass_temperature: beta, of the subclasses.

    Returns:
      [n, C * S], class-major, float32.

    Raises:
      ConfigError: a temperature that is not finite and above 0.
      DataError: embeddings of another width, logits of other classes or rows.
    """
    return joint_probs(logits, subclass_probs(subspaces, embedding, subclass_temperature=subclass_temperature), temperature=temperature)
