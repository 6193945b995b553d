"""A network on log-mel that keeps a few frames: for what front end, norm and losses do with them. It is smooth: no rounding moves it past a kink."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd.models.batch_norm import BatchNorm
from jaxkd.types import StudentOutputs

FRAMES = 3


class Framed(nn.Module):
    num_outputs: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Log-mel [B, T, F] -> features [B, FRAMES, 24], each the mean over a third of the clip."""
        x = jnp.tanh(BatchNorm(self.axis_name, name="norm")(nn.Dense(24, use_bias=False, name="layer")(inputs), train))
        kept = x.shape[1] // FRAMES * FRAMES
        features = x[:, :kept].reshape(len(x), FRAMES, -1, x.shape[-1]).mean(axis=2)
        return StudentOutputs(nn.Dense(self.num_outputs, name="head")(features.mean(axis=1)), features, (features,))


def student(*, num_outputs: int, axis_name: str | None) -> Framed:
    """In plug-in form."""
    return Framed(num_outputs, axis_name)
