"""Texts as rows of token ids, and the tokeniser that needs no vocabulary file: words by hash."""

import re
import zlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxkd.errors import ConfigError
from jaxkd.files import sha256_json

_WORD = re.compile(r"\w+")
_EMPTY = ("",)


class Tokeniser(Protocol):
    """Texts to token ids. Id 0 is padding and is in no row.

    Attributes:
      vocabulary: V; ids are in 1 .. V - 1.
      pad_id: 0.
      fingerprint: identifies what the ids depend on.
    """

    vocabulary: int
    pad_id: int
    fingerprint: str

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[np.ndarray]:
        """Token ids of each text: int32 [length], 1 <= length <= max_tokens; a text of no token is one "unknown" token."""
        ...


class HashedWords:
    """Lower-cased words (runs of letters, digits and underscores of any script), each at the id that its CRC-32 gives.

    Words that share an id are one word to the student ("the hashing trick", arXiv 0902.2206). A text without a word is the empty word.

    Args:
      vocabulary: V, padding included; words have the ids 1 .. V - 1.

    Raises:
      ConfigError: a vocabulary without room for a word.
    """

    pad_id = 0

    def __init__(self, vocabulary: int) -> None:
        if vocabulary < 2:
            raise ConfigError(f"a vocabulary of {vocabulary} has no room for padding and a word: it is at least 2.")
        self.vocabulary = vocabulary
        self.fingerprint = sha256_json({"tokeniser": "hashed_words", "hash": "crc32", "vocabulary": vocabulary})
        self._ids: dict[str, int] = {}

    def _id(self, word: str) -> int:
        found = self._ids.get(word)
        if found is None:
            found = self._ids[word] = 1 + zlib.crc32(word.encode()) % (self.vocabulary - 1)
        return found

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[np.ndarray]:
        """Token ids of the first `max_tokens` words of each text: a list of int32 [length], none of them empty."""
        return [np.array([self._id(word) for word in _WORD.findall(text.lower())[:max_tokens] or _EMPTY], np.int32) for text in texts]
