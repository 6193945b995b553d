"""How torch starts its layers."""

import flax.linen as nn
import jax

TORCH_DEFAULT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Weights of linear and convolutional layers: uniform within 1 / sqrt(fan in)."""


def torch_bias(fan_in: int) -> nn.initializers.Initializer:
    """Biases of a layer with that many inputs an output: uniform within 1 / sqrt(fan in)."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=float: jax.random.uniform(key, shape, dtype, -bound, bound)
