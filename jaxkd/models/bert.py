"""BERT (arXiv 1810.04805) and ALBERT (arXiv 1909.11942) encoders, and a classifier of token sequences on top of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd.errors import ConfigError, DataError
from jaxkd.models.attention import attention
from jaxkd.models.dense import Dense
from jaxkd.models.dropout import Dropout
from jaxkd.types import StudentOutputs

PAD_ID = 0


def gelu(x: jax.Array) -> jax.Array:
    """The input times the normal distribution function of it (arXiv 1606.08415), by erf: on a CPU JAX's own, by erfc, takes more than twice the time."""
    return x * (jax.lax.erf(x * 0.5**0.5) + 1) / 2


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": nn.gelu,
    "relu": nn.relu,
}
POOLINGS = ("mean", "cls", "pooler")


@dataclass(frozen=True)
class BertConfig:
    """Sizes of an encoder; the defaults are BERT-Base.

    Attributes:
      vocab_size: rows of the token table.
      hidden_size: D, width of the layers.
      num_hidden_layers: number of layers.
      num_attention_heads: heads; they divide D.
      intermediate_size: width inside the feed-forward part.
      max_position_embeddings: longest sequence L.
      type_vocab_size: rows of the segment table, of which the first is used.
      layer_norm_eps: added to the variance in layer normalisation.
      hidden_act: a name of ACTIVATIONS.
      hidden_dropout_prob: dropout after the embeddings and at the end of each sublayer.
      attention_probs_dropout_prob: dropout of attention weights.
      initializer_range: standard deviation of fresh kernels and tables.
      embedding_size: width of the tables, mapped to D by a dense layer (ALBERT); None for tables of width D.
      shared_layers: whether all layers are one (ALBERT).
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    embedding_size: int | None = None
    shared_layers: bool = False

    def dense(self, features: int, name: str) -> Dense:
        """A dense layer with this encoder's initialisation."""
        return Dense(features, kernel_init=nn.initializers.normal(self.initializer_range), name=name)

    def norm(self, name: str) -> nn.LayerNorm:
        """A layer normalisation with this encoder's epsilon."""
        return nn.LayerNorm(epsilon=self.layer_norm_eps, name=name)


class _Embeddings(nn.Module):
    config: BertConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, tokens: jax.Array, places: jax.Array | slice, train: bool) -> jax.Array:
        config = self.config
        width = config.embedding_size or config.hidden_size
        init = nn.initializers.normal(config.initializer_range)
        words = self.param("word", init, (config.vocab_size, width))
        positions = self.param("position", init, (config.max_position_embeddings, width))
        segments = self.param("segment", init, (config.type_vocab_size, width))
        x = config.norm("norm")(words[tokens] + (positions[places] + segments[0]))
        x = Dropout(config.hidden_dropout_prob, self.axis_name)(x, train)
        return x if config.embedding_size is None else config.dense(config.hidden_size, "projection")(x)


class _Layer(nn.Module):
    config: BertConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        config = self.config
        batch, length, width = x.shape
        heads = config.num_attention_heads
        qkv = config.dense(3 * width, "qkv")(x).reshape(batch, length, 3, heads, width // heads)
        dropout = Dropout(config.attention_probs_dropout_prob, self.axis_name)
        query, key, value = (qkv[:, :, i] for i in range(3))
        attended = attention(query, key, value, mask, lambda weights: dropout(weights, train)).reshape(x.shape)
        x = config.norm("attention_norm")(x + Dropout(config.hidden_dropout_prob, self.axis_name)(config.dense(width, "attention_output")(attended), train))
        inner = ACTIVATIONS[config.hidden_act](config.dense(config.intermediate_size, "intermediate")(x))
        return config.norm("output_norm")(x + Dropout(config.hidden_dropout_prob, self.axis_name)(config.dense(width, "output")(inner), train))


class BertEncoder(nn.Module):
    """A post-norm transformer encoder over one segment; the query, key and value kernels are one, "qkv" [D, 3 D].

    Attributes:
      config: its sizes.
      pooler: whether it has the dense layer that BERT puts on the first token.
      axis_name: the pmap axis over which the batch is split, or None; dropout then is that of the whole batch.
    """

    config: BertConfig
    pooler: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, tokens: jax.Array, lengths: jax.Array | None = None, *, train: bool) -> tuple[tuple[jax.Array, ...], jax.Array | None]:
        """Maps tokens to hidden states.

        Args:
          tokens: int32 [B, L], 0 = padding.
          lengths: of rows that each hold several texts one after the other, the tokens of each text, int32 [B, S], 0 = no further text; every text has the
            hidden states that it would have in a row of its own. None: one text a row.
          train: whether dropout is on; it needs an rng named "dropout".

        Returns:
          The hidden states after the embeddings and after each layer, each float32 [B, L, D] (meaningless at padding), and the pooled
          first token of each row float32 [B, D], or None without pooler.

        Raises:
          ConfigError: the activation is unknown, or the heads do not divide the width.
          DataError: sequences of one text a row are longer than the encoder's positions; the texts of packed rows must not be.
        """
        config = self.config
        if config.hidden_act not in ACTIVATIONS:
            raise ConfigError(f"hidden_act is {config.hidden_act!r}, but must be one of {', '.join(ACTIVATIONS)}.")
        if config.hidden_size % config.num_attention_heads:
            raise ConfigError(f"num_attention_heads is {config.num_attention_heads}, but must divide hidden_size {config.hidden_size}.")
        length = tokens.shape[1]
        if lengths is None:
            if length > config.max_position_embeddings:
                raise DataError(f"sequences of {length} tokens are longer than the encoder's {config.max_position_embeddings} positions: truncate them.")
            places, mask = slice(length), (tokens != PAD_ID)[:, None]
        else:
            texts = texts_of_tokens(lengths, length)
            places = jnp.arange(length) - jnp.take_along_axis(starts_of_texts(lengths), texts, axis=1, mode="clip")
            mask = texts[:, :, None] == texts[:, None]
        hidden = [_Embeddings(config, self.axis_name, name="embeddings")(tokens, places, train)]
        shared = _Layer(config, self.axis_name, name="layer") if config.shared_layers else None
        for number in range(config.num_hidden_layers):
            layer = shared or _Layer(config, self.axis_name, name=f"layer_{number}")
            hidden.append(layer(hidden[-1], mask, train))
        pooled = nn.tanh(config.dense(config.hidden_size, "pooler")(hidden[-1][:, 0])) if self.pooler else None
        return tuple(hidden), pooled


def starts_of_texts(lengths: jax.Array) -> jax.Array:
    """Where in its packed row each text starts: int32 [B, S] -> int32 [B, S]."""
    return jnp.cumsum(lengths, axis=1) - lengths


def texts_of_tokens(lengths: jax.Array, length: int) -> jax.Array:
    """Which text of its packed row each token is of: int32 [B, S] -> int32 [B, L], 0 .. S - 1, and S at padding."""
    return jnp.sum(jnp.arange(length)[:, None] >= jnp.cumsum(lengths, axis=1)[:, None], axis=2)


def mean_over_tokens(hidden: jax.Array, tokens: jax.Array) -> jax.Array:
    """Mean over the tokens that are not padding: float32 [B, L, D], int32 [B, L] -> [B, D]; zero for a row of padding alone."""
    mask = (tokens != PAD_ID).astype(hidden.dtype)
    return jnp.einsum("bld,bl->bd", hidden, mask) / jnp.maximum(mask.sum(axis=1, keepdims=True), 1.0)


class SentenceClassifier(nn.Module):
    """An encoder with a linear head.

    Attributes:
      config: sizes of the encoder, whose parameters are the branch "encoder".
      num_outputs: K.
      pooling: what the head sees: "mean" over the tokens, "cls", the first token's last hidden state, or "pooler", that through BERT's dense layer and tanh.
      dropout: rate in front of the head.
      axis_name: as in `BertEncoder`.
    """

    config: BertConfig
    num_outputs: int
    pooling: Literal["mean", "cls", "pooler"] = "mean"
    dropout: float = 0.1
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps int32 tokens [B, L] (0 = padding) to StudentOutputs: logits [B, K], features [B, 1, D], the input of the head, and taps after each layer.

        Raises:
          ConfigError: the pooling is unknown, or the encoder's sizes do not fit each other.
          DataError: the sequences are longer than the encoder's positions.
        """
        if self.pooling not in POOLINGS:
            raise ConfigError(f"pooling is {self.pooling!r}, but must be one of {', '.join(POOLINGS)}.")
        hidden, pooled = BertEncoder(self.config, pooler=self.pooling == "pooler", axis_name=self.axis_name, name="encoder")(inputs, train=train)
        taps = [mean_over_tokens(states, inputs) if self.pooling == "mean" else states[:, 0] for states in hidden[1:]]
        features = Dropout(self.dropout, self.axis_name)(taps[-1] if pooled is None else pooled, train)
        logits = self.config.dense(self.num_outputs, "head")(features)
        return StudentOutputs(logits, features[:, None], tuple(tap[:, None] for tap in (*taps[:-1], features)))
