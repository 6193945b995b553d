"""A small transformer encoder for text, trained from scratch (arXiv 1706.03762; layer norm before each part, arXiv 2002.04745)."""

import flax.linen as nn
import jax

from jaxkd.errors import ConfigError
from jaxkd.models.attention import attention
from jaxkd.models.bag_of_embeddings import mean_over_tokens
from jaxkd.models.dense import Dense
from jaxkd.models.dropout import Dropout
from jaxkd.types import StudentOutputs


class _Layer(nn.Module):
    heads: int
    mlp_width: int
    dropout: float
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        y = nn.LayerNorm(name="attention_norm")(x)
        shape = (*x.shape[:2], self.heads, x.shape[-1] // self.heads)
        # a bias of the keys would shift all scores of a query alike, which changes no weight
        query, key, value = (Dense(x.shape[-1], use_bias=name != "key", name=name)(y).reshape(shape) for name in ("query", "key", "value"))
        attended = Dense(x.shape[-1], name="attention_out")(attention(query, key, value, mask[:, None]).reshape(x.shape))
        x = x + Dropout(self.dropout, self.axis_name)(attended, train)
        y = nn.gelu(Dense(self.mlp_width, name="mlp_in")(nn.LayerNorm(name="mlp_norm")(x)))
        return x + Dropout(self.dropout, self.axis_name)(Dense(x.shape[-1], name="mlp_out")(y), train)


class TextTransformer(nn.Module):
    """Word and position embeddings, encoder layers, layer norm, mean over tokens, head.

    Attributes:
      num_outputs: K, the size of the head.
      vocabulary: V; token ids are in 0 .. V - 1, 0 is padding. A larger id gives NaN.
      width: E, the size of an embedding, a multiple of `heads`.
      layers: encoder layers.
      heads: of attention.
      mlp_width: hidden size of the feed-forward parts.
      positions: the longest row, in tokens.
      dropout: rate on the embeddings and after each part of a layer.
      axis_name: the pmap axis over which the batch is split, or None; dropout then is that of the whole batch.
    """

    num_outputs: int
    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    positions: int
    dropout: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps token ids int32 [B, L] to StudentOutputs: logits [B, K], features [B, 1, E], the mean over tokens after each layer as taps [B, 1, E].

        Raises:
          ConfigError: L is more than `positions`.
        """
        length = inputs.shape[1]
        if length > self.positions:
            raise ConfigError(
                f"rows of {length} tokens are longer than the {self.positions} positions of the text transformer: "
                f"lower max_tokens to {self.positions}, or build the student with positions={length}."
            )
        mask = inputs > 0
        positions = self.param("positions", nn.initializers.normal(0.02), (self.positions, self.width))
        x = nn.Embed(self.vocabulary, self.width, name="embedding")(inputs) + positions[:length]
        x = Dropout(self.dropout, self.axis_name)(x, train)
        taps = []
        for number in range(1, self.layers + 1):
            x = _Layer(self.heads, self.mlp_width, self.dropout, self.axis_name, name=f"layer{number}")(x, mask, train)
            taps.append(mean_over_tokens(x, mask)[:, None])
        features = mean_over_tokens(nn.LayerNorm(name="norm")(x), mask)
        logits = nn.Dense(self.num_outputs, name="head")(features)
        return StudentOutputs(logits, features[:, None], (*taps[:-1], features[:, None]))
