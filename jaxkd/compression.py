"""The trainable teacher transformation of embedding compression (arXiv 2402.06761): a compact teacher embedding of the student's width.

Functional boundary: `module.init(key, embedding) -> variables` and `module.apply(variables, embedding) -> compact embedding`; no mutable
collection, no randomness at apply. Nothing of it belongs to an exported student.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxkd.errors import ConfigError, unknown_name

TRANSFORMATIONS = ("identity", "linear", "mlp")

UNIFORM_FAN_IN = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)): Kaiming-uniform with a = sqrt(5), how torch starts a linear layer."""


class TeacherTransformation(nn.Module):
    """Maps a teacher's embedding to `features` dimensions, frame by frame, without a bias on its output.

    A constant offset has no gradient under distance correlation, hence no bias.

    Attributes:
      features: width of the compact embedding, usually the student's.
      kind: "linear" = one matrix; "mlp" = two layers with a ReLU between, the hidden one `features` wide with a bias;
        "identity" = the embedding as it is, whose width must be `features`.
    """

    features: int
    kind: str = "linear"

    @nn.compact
    def __call__(self, embedding: jax.Array) -> jax.Array:
        """Transforms an embedding.

        Args:
          embedding: [..., D], floats; computed in float32 for half precision.

        Returns:
          [..., features], float32 (float64 for float64 inputs).

        Raises:
          ConfigError: the kind is unknown, or "identity" is asked to change the width.
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
        if self.kind == "mlp":
            embedding = nn.relu(nn.Dense(self.features, kernel_init=UNIFORM_FAN_IN, name="hidden")(embedding))
        return nn.Dense(self.features, use_bias=False, kernel_init=UNIFORM_FAN_IN, name="output")(embedding)


def singular_values(variables: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Singular values of each matrix of a transformation, to watch its rank while it trains.

    Args:
      variables: of a TeacherTransformation, as `init` returns them.

    Returns:
      Layer name -> singular values in descending order, [min(rows, columns)]; empty for kind "identity".
    """
    layers = variables.get("params", {})
    return {name: jnp.linalg.svd(layer["kernel"], compute_uv=False) for name, layer in layers.items()}
