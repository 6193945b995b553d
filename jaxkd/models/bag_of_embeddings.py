"""A network on the mean of word embeddings (fastText, arXiv 1607.01759; deep averaging networks, Iyyer et al., ACL 2015)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd.models.dropout import Dropout
from jaxkd.types import StudentOutputs


def mean_over_tokens(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of x [B, L, E] over the tokens where mask [B, L] is True: [B, E]; 0 for a row without one."""
    return jnp.sum(jnp.where(mask[..., None], x, 0), axis=1) / jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)


class BagOfEmbeddings(nn.Module):
    """Mean of word embeddings, bias, ReLU, further hidden layers, head.

    Attributes:
      num_outputs: K, the size of the head.
      vocabulary: V; token ids are in 0 .. V - 1, 0 is padding. A larger id gives NaN.
      width: E, the size of an embedding.
      hidden: sizes of further hidden layers.
      dropout: rate after every hidden layer.
      axis_name: the pmap axis over which the batch is split, or None; dropout then is that of the whole batch.
    """

    num_outputs: int
    vocabulary: int
    width: int
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps token ids int32 [B, L] to StudentOutputs: logits [B, K], features [B, 1, C], taps after each hidden layer [B, 1, C_k]."""
        embedded = nn.Embed(self.vocabulary, self.width, name="embedding")(inputs)
        x = mean_over_tokens(embedded, inputs > 0) + self.param("bias", nn.initializers.zeros, (self.width,))
        x = Dropout(self.dropout, self.axis_name)(nn.relu(x), train)
        taps = [x[:, None]]
        for number, size in enumerate(self.hidden, start=1):
            x = Dropout(self.dropout, self.axis_name)(nn.relu(nn.Dense(size, name=f"hidden{number}")(x)), train)
            taps.append(x[:, None])
        return StudentOutputs(nn.Dense(self.num_outputs, name="head")(x), taps[-1], tuple(taps))
