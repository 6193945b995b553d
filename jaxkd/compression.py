"""Teacher transformations of embedding compression (arXiv 2402.06761): a compact teacher embedding, of the student's width.

Functional boundary: `module.init(key, embedding) -> variables` and `module.apply(variables, embedding) -> compact embedding`; no mutable
collection, no randomness at apply. Nothing of it belongs to an exported student.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxkd.errors import ConfigError, unknown_name
from jaxkd.losses import distance_correlation_sqr
from jaxkd.losses.features import unit_rows
from jaxkd.torch_start import TORCH_DEFAULT
from jaxkd.types import Array

TRANSFORMATIONS = ("linear", "linear_norm", "mlp", "attention", "random", "pca", "identity")
FIXED = ("random", "pca")
"""Transformations that are not trained: a matrix that is drawn or fitted beforehand."""


class Projection(NamedTuple):
    """A transformation that is not trained: (embedding - mean) @ matrix.

    Attributes:
      mean: float32 [D].
      matrix: float32 [D, features].
    """

    mean: np.ndarray
    matrix: np.ndarray


class TeacherTransformation(nn.Module):
    """Maps a teacher's embedding to `features` dimensions, frame by frame, without a bias on its output.

    A constant offset has no gradient under distance correlation, hence no bias.

    Attributes:
      features: width of the compact embedding, usually the student's.
      kind: "linear" = one matrix;
        "linear_norm" = one matrix, then every vector brought to the length sqrt(features) (RMS normalisation without a scale). Only its direction is
          left, so that a distance cannot be lowered by shrinking the matrix; it depends on no other row, and is the same in training and evaluation;
        "mlp" = two layers with a ReLU between, the hidden one `features` wide with a bias;
        "attention" = each frame is a mean of the linear images of all frames of the example, weighted by one head of dot-product attention;
        "random", "pca" = `projection`, not trained;
        "identity" = the embedding as it is, whose width must be `features`.
      projection: of the kinds in FIXED.
    """

    features: int
    kind: str = "linear"
    projection: Projection | None = None

    @nn.compact
    def __call__(self, embedding: jax.Array) -> jax.Array:
        """Transforms an embedding.

        Args:
          embedding: [..., T, D] ("attention"; its T must be above 1) or [..., D], floats; computed in float32 for half precision.

        Returns:
          [..., features], float32 (float64 for float64 inputs).

        Raises:
          ConfigError: the kind is unknown, "identity" is asked to change the width, "attention" to look at a single frame, or the projection is missing or
            of another width.
        """
        if self.kind not in TRANSFORMATIONS:
            raise unknown_name("teacher transformation", self.kind, TRANSFORMATIONS)
        embedding = jnp.asarray(embedding)
        embedding = embedding.astype(jnp.promote_types(embedding.dtype, jnp.float32))
        if self.kind == "identity":
            if embedding.shape[-1] != self.features:
                raise ConfigError(
                    f"the identity transformation keeps the width of the embedding, {embedding.shape[-1]}, but {self.features} is asked for: "
                    "use kind='linear', or a distance that compares different widths."
                )
            return embedding
        if self.kind in FIXED:
            return self._projected(embedding)
        if self.kind == "mlp":
            embedding = nn.relu(nn.Dense(self.features, kernel_init=TORCH_DEFAULT, name="hidden")(embedding))
        compact = self._dense("output")(embedding)
        if self.kind == "linear_norm":
            return unit_rows(compact) * self.features**0.5
        if self.kind == "attention":
            return self._attention(embedding) @ compact
        return compact

    def _dense(self, name: str) -> nn.Dense:
        return nn.Dense(self.features, use_bias=False, kernel_init=TORCH_DEFAULT, name=name)

    def _attention(self, embedding: jax.Array) -> jax.Array:
        """Weights of the frames for each frame, [..., T, T]."""
        if embedding.ndim < 2 or embedding.shape[-2] < 2:
            raise ConfigError("the attention transformation weighs the frames of an embedding, but this one has a single frame: use kind='linear'.")
        query, key = self._dense("query")(embedding), self._dense("key")(embedding)
        return nn.softmax(query @ jnp.swapaxes(key, -1, -2) / self.features**0.5)

    def _projected(self, embedding: jax.Array) -> jax.Array:
        wanted = (embedding.shape[-1], self.features)
        if self.projection is None or self.projection.matrix.shape != wanted:
            given = "none" if self.projection is None else self.projection.matrix.shape
            raise ConfigError(f"the transformation {self.kind!r} takes a projection with a matrix of shape {wanted}, but was given {given}.")
        return (embedding - self.projection.mean) @ self.projection.matrix


def random_projection(features: int, *, dim: int, seed: int) -> Projection:
    """A matrix as a linear transformation starts with, drawn by numpy: the control that tells what training a transformation is worth.

    Args:
      features: width of the compact embedding.
      dim: D, width of the embedding.
      seed: of the draw.
    """
    bound = dim**-0.5
    matrix = np.random.default_rng(seed).uniform(-bound, bound, (dim, features))
    return Projection(np.zeros(dim, np.float32), matrix.astype(np.float32))


class PrincipalComponents(NamedTuple):
    """The principal components of rows, in descending order of their variance.

    Attributes:
      mean: float64 [D].
      components: orthonormal columns, float64 [D, r]; the entry of largest size of each is positive.
      variances: float64 [r], those above rounding.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray

    def projection(self, features: int) -> Projection:
        """The first `features` components.

        Raises:
          ConfigError: there are fewer.
        """
        require_components(features, len(self.variances))
        return Projection(self.mean.astype(np.float32), self.components[:, :features].astype(np.float32))


def require_components(features: int, most: int) -> None:
    """Raises ConfigError if more than the `most` principal components that there can be are asked for."""
    if features > most:
        raise ConfigError(
            f"the training rows have no more than {most} principal components, but {features} are asked for (config.compressed.features, or the student's "
            f"width): set --config.compressed.features={most} or less, or another transformation."
        )


def principal_components(blocks: Callable[[], Iterable[np.ndarray]]) -> PrincipalComponents:
    """Principal component analysis in float64 over rows that are read twice, block by block: memory does not grow with the rows.

    Args:
      blocks: gives the same blocks of rows [n, D] each time it is called.
    """
    count, total = 0, np.zeros(())
    for block in blocks():
        count, total = count + len(block), total + block.sum(axis=0, dtype=np.float64)
    mean = total / count
    scatter = np.zeros((len(mean), len(mean)))
    for block in blocks():
        centred = block - mean
        scatter += centred.T @ centred
    variances, vectors = np.linalg.eigh(scatter / count)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    kept = variances > len(mean) * np.finfo(np.float64).eps * variances[0]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return PrincipalComponents(mean, (vectors * np.sign(largest))[:, kept], variances[kept])


def singular_values(variables: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Singular values of each matrix of a transformation, to watch its rank while it trains.

    Args:
      variables: of a TeacherTransformation, as `init` returns them.

    Returns:
      Layer name -> singular values in descending order, [min(rows, columns)]; empty for a kind without parameters.
    """
    layers = variables.get("params", {})
    return {name: jnp.linalg.svd(layer["kernel"], compute_uv=False) for name, layer in layers.items()}


@functools.partial(jax.jit, static_argnames="draws")
def label_share(compact: Array, head_kernel: Array, *, key: jax.Array, draws: int = 20) -> tuple[jax.Array, jax.Array]:
    """Share of the distance variance of an embedding that its label directions explain, and that as many random directions explain.

    Distance variance is the mean square of the U-centred distances between rows (Szekely and Rizzo 2014); explained is the part of it that a least-squares
    fit by the U-centred distances along the directions takes: the square of the bias-corrected R^2 of both sets of distances, where that is above 0.

    Args:
      compact: rows of the embedding, [n, C].
      head_kernel: of the linear head that reads the labels off it, [C, K]; its columns are the label directions.
      key: jax random key.
      draws: random subspaces of the dimension of the label directions' span, whose mean is what chance explains.

    Returns:
      Two scalars from 0 to 1.
    """
    compact, basis = jnp.asarray(compact), jnp.linalg.qr(jnp.asarray(head_kernel))[0]

    def share(directions: jax.Array) -> jax.Array:
        return jnp.square(jnp.maximum(distance_correlation_sqr(compact @ directions, compact, bias_corrected=True), 0))

    random = jnp.linalg.qr(jax.random.normal(key, (draws, *basis.shape), basis.dtype))[0]
    return share(basis), jnp.mean(jax.lax.map(share, random))
