"""A network on the word counts of a text."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd.models.dropout import Dropout
from jaxkd.types import StudentOutputs


def sublinear_frequencies(tokens: jax.Array, vocabulary: int) -> jax.Array:
    """1 + log(count) of each word that occurs, else 0, scaled to length 1 (Manning, Raghavan, Schütze 2008, section 6.4.1, without idf).

    Args:
      tokens: ids, int32 [B, L]; 0 is padding; a larger id than V - 1 gives NaN.
      vocabulary: V.

    Returns:
      float32 [B, V]; zeros for a row of nothing but padding.
    """

    # row by row: a scatter over all rows would send the counts of the whole batch to every device
    def count(row: jax.Array) -> jax.Array:
        return jnp.zeros(vocabulary).at[row].add(jnp.where(row < vocabulary, row > 0, jnp.nan), mode="clip")

    counts = jax.vmap(count)(tokens)
    frequencies = jnp.where(counts == 0, 0, 1 + jnp.log(jnp.maximum(counts, 1)))
    return frequencies / jnp.maximum(jnp.linalg.norm(frequencies, axis=1, keepdims=True), 1)


class BagOfWords(nn.Module):
    """Word counts (`sublinear_frequencies`), one hidden layer with ReLU, head.

    Attributes:
      num_outputs: K, the size of the head.
      vocabulary: V; token ids are in 0 .. V - 1, 0 is padding. A larger id gives NaN.
      width: size of the hidden layer.
      dropout: rate after it.
      axis_name: the pmap axis over which the batch is split, or None; dropout then is that of the whole batch.
    """

    num_outputs: int
    vocabulary: int
    width: int
    dropout: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps token ids int32 [B, L] to StudentOutputs: logits [B, K], features [B, 1, width], the same as the only tap."""
        x = nn.relu(nn.Dense(self.width, name="hidden")(sublinear_frequencies(inputs, self.vocabulary)))
        x = Dropout(self.dropout, self.axis_name)(x, train)
        return StudentOutputs(nn.Dense(self.num_outputs, name="head")(x), x[:, None], (x[:, None],))
