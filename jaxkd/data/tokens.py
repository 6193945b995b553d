"""A text data set as token ids: tokenised once, kept in the cache, read by example id in batches of few lengths."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.data.dataset import MANIFEST, Dataset, rows_of
from jaxkd.data.hashed_words import Tokeniser
from jaxkd.errors import ArtefactError, ConfigError, DataError
from jaxkd.files import atomic_directory, read_json, sha256_file, sha256_json, write_json
from jaxkd.hosts import index, wait_for_file
from jaxkd.progress import progress
from jaxkd.together import exclusive_to_job, failing_together

SCHEMA = 1
ENCODE_TEXTS = 512
SHORTEST_BUCKET = 16


def buckets(max_tokens: int) -> tuple[int, ...]:
    """The lengths that batches are padded to: 16, 24, 32, 48, 64, 96, ... below `max_tokens`, then `max_tokens` itself."""
    lengths = []
    power = SHORTEST_BUCKET
    while power < max_tokens:
        lengths += [power, power * 3 // 2]
        power *= 2
    return (*(length for length in lengths if length < max_tokens), max_tokens)


def pad_tokens(rows: Sequence[np.ndarray], max_tokens: int) -> np.ndarray:
    """Rows of token ids, none longer than `max_tokens`, as one int32 [n, L], padded with 0 on the right to the shortest of `buckets` that holds them."""
    longest = max(map(len, rows), default=1)
    padded = np.zeros((len(rows), next(length for length in buckets(max_tokens) if length >= longest)), np.int32)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


class TokenView:
    """Token ids of the examples of a text data set, by id. They are made on the first use and kept at `cache_dir/tokens/NAME-FINGERPRINT`.

    Args:
      dataset: of modality "text".
      tokeniser: gives the ids.
      max_tokens: longer rows are truncated, counted and told of in `note`.
      cache_dir: the cache.

    Attributes:
      path: the folder of the ids.
      fingerprint: identifies the data set, the tokeniser and max_tokens.
      splits: ids by split, those of the data set.
      vocabulary: V; every token id is in 1 .. V - 1.
      max_tokens: the longest row.
      truncated: the number of rows that were longer, by split.

    Raises:
      ConfigError: another modality, or max_tokens below 1.
      DataError: the tokeniser gave a row that is empty, too long, or has an id outside of its vocabulary; the message names the example.
      ArtefactError: what lies in the cache was altered; the message names the file and what to remove.
    """

    def __init__(self, dataset: Dataset, tokeniser: Tokeniser, max_tokens: int, cache_dir: str | Path) -> None:
        if dataset.modality != "text":
            raise ConfigError(f"the data set {dataset.name} holds {dataset.modality}, tokens are made of text: choose a student for {dataset.modality}.")
        if max_tokens < 1:
            raise ConfigError(f"max_tokens is {max_tokens}: a row has at least 1 token.")
        identity = {
            "schema": SCHEMA,
            "dataset": dataset.fingerprint,
            "ids": sha256_json(dataset.splits),
            "tokeniser": tokeniser.fingerprint,
            "vocabulary": tokeniser.vocabulary,
            "max_tokens": max_tokens,
        }
        self.fingerprint = sha256_json(identity)
        self.path = Path(cache_dir) / "tokens" / f"{dataset.name}-{self.fingerprint[:16]}"
        self.splits = dataset.splits
        self.vocabulary = tokeniser.vocabulary
        self.max_tokens = max_tokens
        with exclusive_to_job(cache_dir, self.path.name, "tokenising"), failing_together():
            if index() == 0 and not self.path.exists():
                self._write(dataset, tokeniser, identity)
        wait_for_file(self.path / MANIFEST)
        manifest = _verified_manifest(self.path, self.fingerprint)
        self.truncated: dict[str, int] = {split: manifest["truncated"][split] for split in self.splits}
        self._tokens = np.asarray(np.load(self.path / "tokens.npy", mmap_mode="r", allow_pickle=False))
        self._offsets = np.load(self.path / "offsets.npy", allow_pickle=False)
        self._rows = {example: row for row, example in enumerate(itertools.chain(*self.splits.values()))}
        self._buckets = buckets(max_tokens)

    def _write(self, dataset: Dataset, tokeniser: Tokeniser, identity: dict[str, Any]) -> None:
        rows: list[np.ndarray] = []
        truncated = {}
        with progress(total=sum(map(len, self.splits.values())), description="tokenising", unit="text") as bar:
            for split, ids in self.splits.items():
                truncated[split] = 0
                for start in range(0, len(ids), ENCODE_TEXTS):
                    chunk = ids[start : start + ENCODE_TEXTS]
                    texts = dataset.gather(chunk)
                    encoded = tokeniser.encode(texts, self.max_tokens)
                    for example, row in zip(chunk, encoded, strict=True):
                        self._check(example, row)
                    full = [text for text, row in zip(texts, encoded, strict=True) if len(row) == self.max_tokens]
                    truncated[split] += sum(len(row) > self.max_tokens for row in tokeniser.encode(full, self.max_tokens + 1))
                    rows += encoded
                    bar.update(len(chunk))
        with atomic_directory(self.path) as folder:
            np.save(folder / "tokens.npy", np.concatenate(rows).astype(np.int32), allow_pickle=False)
            np.save(folder / "offsets.npy", np.cumsum([0, *map(len, rows)], dtype=np.int64), allow_pickle=False)
            manifest = {
                "kind": "tokens",
                "name": dataset.name,
                "licence": read_json(dataset.path / MANIFEST)["licence"],
                "fingerprint": self.fingerprint,
                "identity": identity,
                "truncated": truncated,
                "files": {file.name: sha256_file(file) for file in sorted(folder.iterdir())},
            }
            write_json(folder / MANIFEST, {**manifest, "sha256": sha256_json(manifest)})

    def _check(self, example: str, row: np.ndarray) -> None:
        if not 1 <= len(row) <= self.max_tokens:
            raise DataError(f"the tokeniser gave {len(row)} tokens for {example!r}: a row has 1 to max_tokens = {self.max_tokens}.")
        if row.min() < 1 or row.max() >= self.vocabulary:
            raise DataError(
                f"the tokeniser gave the ids {row.min()} to {row.max()} for {example!r}, but its vocabulary of {self.vocabulary} has 1 to "
                f"{self.vocabulary - 1} (0 is padding): use the tokeniser that belongs to the weights, or the vocabulary that it has."
            )

    @property
    def note(self) -> str:
        """A line for the report: how many rows were truncated, by split."""
        total, count = sum(map(len, self.splits.values())), sum(self.truncated.values())
        by_split = ", ".join(f"{split} {rows:,}" for split, rows in self.truncated.items() if rows)
        return f"{count:,} of {total:,} texts are longer than {self.max_tokens:,} tokens and were truncated" + (f" ({by_split})." if count else ".")

    def lengths(self, ids: Sequence[str]) -> np.ndarray:
        """Tokens of each id, in their order: int64 [n].

        Raises:
          DataError: an id is not in the data set.
        """
        rows = rows_of(ids, self._rows, self.path)
        return self._offsets[rows + 1] - self._offsets[rows]

    def gather(self, ids: Sequence[str], *, fitting: Sequence[str] | None = None) -> np.ndarray:
        """Token ids in the order of `ids`: int32 [n, L], padded with 0 on the right; L is the shortest of `buckets` that holds the longest row.

        Args:
          ids: of the examples.
          fitting: ids of which the longest row decides L; None for `ids`.

        Raises:
          DataError: an id is not in the data set.
        """
        rows = rows_of(ids, self._rows, self.path)
        starts, stops = self._offsets[rows], self._offsets[rows + 1]
        longest = int(np.max(stops - starts if fitting is None else self.lengths(fitting), initial=1))
        padded = np.zeros((len(rows), next(length for length in self._buckets if length >= longest)), np.int32)
        for row, start, stop in zip(padded, starts.tolist(), stops.tolist(), strict=True):
            row[: stop - start] = self._tokens[start:stop]
        return padded


def _verified_manifest(path: Path, fingerprint: str) -> dict[str, Any]:
    """The manifest of a folder of tokens, of which every file was read and compared with its checksum."""
    manifest = read_json(path / MANIFEST)
    remedy = f"remove {path} and run again, and it is made anew."
    if manifest.pop("sha256", None) != sha256_json(manifest) or manifest["fingerprint"] != fingerprint:
        raise ArtefactError(f"{path / MANIFEST} was altered after it was written: {remedy}")
    for name, digest in manifest["files"].items():
        if not (path / name).is_file():
            raise ArtefactError(f"{path / name} is missing: {remedy}")
        if sha256_file(path / name) != digest:
            raise ArtefactError(f"{path / name} was altered after it was written: its sha256 is not {digest}. {remedy}")
    return manifest
