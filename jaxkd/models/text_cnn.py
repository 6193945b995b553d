"""A convolutional network for text: one layer of filters over words, the largest value of each (Kim, arXiv 1408.5882)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd.models.dropout import Dropout
from jaxkd.types import StudentOutputs


class TextCNN(nn.Module):
    """Word embeddings, convolutions of several window sizes side by side, ReLU, maximum over tokens, head.

    Attributes:
      num_outputs: K, the size of the head.
      vocabulary: V; token ids are in 0 .. V - 1, 0 is padding. A larger id gives NaN.
      width: E, the size of an embedding.
      filters: of each window; C is filters times the number of windows.
      windows: sizes in tokens.
      dropout: rate on the pooled vector.
      axis_name: the pmap axis over which the batch is split, or None; dropout then is that of the whole batch.
    """

    num_outputs: int
    vocabulary: int
    width: int
    filters: int
    windows: tuple[int, ...] = (3, 4, 5)
    dropout: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps token ids int32 [B, L] to StudentOutputs: logits [B, K], features [B, 1, C], which is the only tap."""
        mask = (inputs > 0)[..., None]
        embedded = jnp.where(mask, nn.Embed(self.vocabulary, self.width, name="embedding")(inputs), 0)
        pooled = []
        for window in self.windows:
            x = nn.relu(nn.Conv(self.filters, (window,), padding="SAME", name=f"window{window}")(embedded))
            pooled.append(jnp.max(jnp.where(mask, x, 0), axis=1))
        x = Dropout(self.dropout, self.axis_name)(jnp.concatenate(pooled, axis=-1), train)
        return StudentOutputs(nn.Dense(self.num_outputs, name="head")(x), x[:, None], (x[:, None],))
