"""Dropout that does not depend on how a batch is split over devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def _mixed(bits: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3: a bijection of uint32 in which each input bit changes each output bit half the time."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


class Dropout(nn.Module):
    """Dropout whose bits are a hash of the position in the global batch, keyed by the rng "dropout", which is the same on all devices.

    Threefry's bits would take longer than the layers on CPU, and those of XLA's own generator depend on how the array is sharded.

    Attributes:
      rate: share of the elements that become 0; the others are divided by 1 - rate.
      axis_name: the pmap axis over which the batch (the leading axis) is split, or None.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """The same shape and dtype; without `train`, x itself."""
        if not train or self.rate == 0.0:
            return x
        first, second = jax.random.bits(self.make_rng("dropout"), (2,), jnp.uint32)
        position = jax.lax.iota(jnp.uint32, x.size).reshape(x.shape)
        if self.axis_name is not None:
            position += jnp.uint32(x.size) * jax.lax.axis_index(self.axis_name).astype(jnp.uint32)
        keep = _mixed(_mixed(position + first) ^ second) >= jnp.uint32(round(self.rate * 2**32))
        return jnp.where(keep, x / (1.0 - self.rate), 0.0)
