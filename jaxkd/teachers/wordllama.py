"""WordLlama's static table of token vectors as a teacher: the mean of a text's token vectors, at the cost of tokenising it."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import scipy.sparse

from jaxkd.errors import ArtefactError
from jaxkd.teachers.huggingface import load_tokenizer, read_layout, read_tensors

WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
TENSOR = "embedding.weight"


class WordLlama:
    """The table with its tokenizer; see `jaxkd.teachers.Teacher`. A text has one frame.

    Its one embedding, `mean`, is the mean of the vectors of a text's tokens, no special token added, not scaled; a text without tokens gives zero.
    """

    sample_rate = None
    hop_seconds = 0.0
    tags: tuple[str, ...] = ()

    def __init__(self, name: str, embedding: str, weights: bytes, tokenizer: bytes) -> None:
        self.name = name
        self.embedding = embedding
        tensors = read_tensors(weights, WEIGHTS)
        if list(tensors) != [TENSOR] or tensors[TENSOR].ndim != 2:
            raise ArtefactError(f"{WEIGHTS} should hold one table, {TENSOR}, but holds {', '.join(tensors)}.")
        self._table = tensors[TENSOR]
        self._tokenizer = load_tokenizer(tokenizer, TOKENIZER)
        vocabulary = self._tokenizer.get_vocab_size()
        if vocabulary != len(self._table):
            raise ArtefactError(f"{TOKENIZER} has {vocabulary} ids, but the table {len(self._table)} rows: they do not belong together.")
        self.weight_hash = hashlib.sha256(weights).hexdigest()
        self.preprocessing = {"kind": "tokens", "tokenizer": hashlib.sha256(tokenizer).hexdigest()}
        self.parameters = self._table.size
        self.dim = self._table.shape[1]

    def macs_per_example(self, tokens: int) -> int:
        """0: a mean of table rows has no matrix product, whatever the number of `tokens`."""
        return 0

    def macs_of(self, texts: list[str]) -> int:
        """0, whatever the texts."""
        return self.macs_per_example(len(texts))

    def embed(self, texts: list[str]) -> np.ndarray:
        """Texts -> float32 [B, 1, D]."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        lengths = np.array([len(row) for row in rows], np.int64)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        ids = np.fromiter(itertools.chain.from_iterable(rows), np.int64)
        counts = scipy.sparse.csr_array((np.ones(len(ids), np.float32), ids, ends), shape=(len(texts), len(self._table)))
        return ((counts @ self._table) / np.maximum(lengths, 1)[:, None].astype(np.float32))[:, None]


def build(name: str, *, embedding: str, archive: Path) -> WordLlama:
    """Loads the table of 32,000 x 256 from the wheel wordllama 0.4.0.post1 (read as a zip, never installed).

    Raises:
      ArtefactError: a file is missing, truncated or altered, or table and tokenizer do not belong together.
    """
    files = read_layout(Path(archive), (TOKENIZER, WEIGHTS))
    return WordLlama(name, embedding, files[WEIGHTS], files[TOKENIZER])
