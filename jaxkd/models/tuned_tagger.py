"""A released music tagger with a head of its own, for training on another task (fine-tuning)."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd.models.musicnn import Params, pick_embedding, read_blocks
from jaxkd.types import Array, StudentOutputs

STATISTICS = ("mean", "variance")


def _released(value: Array, *_: Any) -> jax.Array:
    return jnp.asarray(value)


class _Block(nn.Module):
    """The variables of one block, which start as they were released; the statistics of its batch normalisation are no parameters."""

    values: Any

    @nn.compact
    def __call__(self) -> dict[str, jax.Array]:
        return {
            name: self.variable("batch_stats", name, _released, value).value if name in STATISTICS else self.param(name, functools.partial(_released, value))
            for name, value in self.values.items()
        }


class TunedTagger(nn.Module):
    """A network of `jaxkd.models.musicnn` that starts as it was released, and a linear head on the mean over patches of one of its embeddings.

    Batch normalisation uses the released mean and variance, in training too: those of a batch of a few clips would replace what was measured on millions of
    patches by noise. Its scale and shift are trained, except those of the input, which the first kernels and biases can take over: the gradient need not reach
    the input then. Blocks that the embedding does not read are no parameters.

    Attributes:
      network: `musicnn`, or `vgg` with its pools.
      released: its weights, float32.
      embedding: as in `pick_embedding`.
      num_outputs: K.
    """

    network: Callable[[Params, Array], dict[str, jax.Array]]
    released: Params
    embedding: str
    num_outputs: int

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps log-mel patches [B, T, 187, 96] to StudentOutputs: logits [B, K], features [B, T, D] and one tap, the features; `train` changes nothing."""
        read = read_blocks(self.released, self.embedding) - {"input_norm"}
        params = {name: _Block(values, name=name)() if name in read else values for name, values in self.released.items()}
        embedding = pick_embedding(self.network(params, inputs.reshape(-1, *inputs.shape[2:])), self.embedding)
        features = embedding.reshape(*inputs.shape[:2], -1)
        return StudentOutputs(nn.Dense(self.num_outputs, name="head")(features.mean(axis=1)), features, (features,))
