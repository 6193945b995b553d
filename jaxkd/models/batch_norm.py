"""Batch normalisation with the running statistics of torch."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, arXiv 1502.03167) over all axes but the last, as torch's: momentum 0.1, epsilon 1e-5.

    The running variance is the unbiased one of each batch, by n / (n - 1) larger than the one that normalises the batch (flax's own module keeps the
    latter). Names and shapes of parameters and statistics are those of flax.

    Attributes:
      axis_name: the pmap axis over which the batch is split, or None; statistics then are those of the whole batch.
    """

    axis_name: str | None = None
    momentum = 0.1
    epsilon = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalises [..., C] by the statistics of the batch and updates the running ones; without `train`, by the running ones."""
        channels = (x.shape[-1],)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_variance = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        # moments about the running mean: one pass over x, and small numbers to square
        apart = x - running_mean.value
        if train:
            mean, square = self._over_batch(apart), self._over_batch(jnp.square(apart))
            variance = jnp.maximum(square - jnp.square(mean), 0)
        else:
            mean, variance = jnp.zeros(channels, x.dtype), running_variance.value
        if train and not self.is_initializing():
            count = x.size // x.shape[-1] * (1 if self.axis_name is None else jax.lax.psum(1, self.axis_name))
            running_mean.value += self.momentum * mean
            running_variance.value += self.momentum * (variance * (count / max(count - 1, 1)) - running_variance.value)
        slope = scale * jax.lax.rsqrt(variance + self.epsilon)
        return apart * slope + (bias - mean * slope)

    def _over_batch(self, x: jax.Array) -> jax.Array:
        mean = x.mean(axis=tuple(range(x.ndim - 1)))
        return mean if self.axis_name is None else jax.lax.pmean(mean, self.axis_name)
