"""Few-class corpora as tasks: copies taken out, rows drawn by seed and class into splits, labels hidden from the transfer set."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.data.clips import Clips
from jaxkd.data.dataset import Dataset, Split, write_dataset
from jaxkd.data.hidden_classes import stratified_order
from jaxkd.errors import ConfigError, DataError
from jaxkd.files import remove_leftovers, require_free_disk, sha256_json

FORMAT_VERSION = 2
SIZES = ("labelled", "unlabelled", "valid", "test", "unseen")
STREAMS = {"train": 0, "test": 1}
DRAWN_SHARE = 0.2
COUNTED_CLASSES = 10
UNLABELLED = -1


@dataclass(frozen=True)
class Examples:
    """A part of a corpus: n strings, images uint8 [n, H, W, channels] or clips, and the original class of each, int [n].

    In the training part the class may be UNLABELLED. `digests` identify the content of each clip; that of strings and images is read. `ids` are those that
    the examples keep wherever they are drawn to; without them an example is named by its split and place there, "train/00012".
    """

    inputs: Sequence[str] | np.ndarray | Clips
    classes: np.ndarray
    digests: Sequence[bytes] = ()
    ids: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, rows: np.ndarray) -> "Examples":
        """The examples of these rows, in this order."""
        places: list[int] = rows.tolist()
        if isinstance(self.inputs, Clips):
            inputs = self.inputs.take(places)
        else:
            inputs = self.inputs[rows] if isinstance(self.inputs, np.ndarray) else [str(self.inputs[row]) for row in places]
        digests = [self.digests[row] for row in places] if self.digests else ()
        return Examples(inputs, self.classes[rows], digests, [self.ids[row] for row in places] if self.ids else ())


@dataclass(frozen=True)
class Corpus:
    """What a source reads.

    Attributes:
      train: what labelled, unlabelled and valid rows are drawn from.
      test: the corpus's own test part; None where test rows are drawn from `train` as well.
      unseen: rows of another domain; None where there are none.
      originals: names of the original classes.
      groups: the classes of the task and the original ones that each holds; None for the original classes themselves.
      licences: the terms of the rows, by what they cover.
      notes: further JSON-able remarks.
      valid: the corpus's own validation part; None where validation rows are drawn from `train`.
    """

    train: Examples
    test: Examples | None
    unseen: Examples | None
    originals: tuple[str, ...]
    groups: Mapping[str, Sequence[str]] | None
    licences: Mapping[str, str]
    notes: Mapping[str, Any] = field(default_factory=dict)
    valid: Examples | None = None

    @property
    def parts(self) -> dict[str, Examples]:
        """The parts that there are."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test, "unseen": self.unseen}
        return {name: part for name, part in parts.items() if part is not None}


def prepare_corpus(data_config: Any, cache_dir: Path, *, name: str, made_from: Mapping[str, Any], load: Callable[[], Corpus]) -> Dataset:
    """Makes the data set of a corpus in the cache, or opens it from there.

    Copies within the training part are dropped, and so is each training row that stands in another part, and each validation row that stands in the test or
    unseen part: nothing leaks. Then valid, labelled and unlabelled rows are drawn by `data_config.seed`, in this order and stratified by original class, so
    that the validation rows are the same for any number of labels, and more labels hold the fewer ones; rows that the corpus has no label of come last among
    the unlabelled. Test and unseen rows do not depend on the seed, except in a corpus without a test part: there they are drawn from the training part
    first; nor do those of valid where the corpus has a validation part.

    Args:
      data_config: labelled (0: all), unlabelled (-1: all that are left), valid and test (0: the whole part; a fifth of the labelled rows where the corpus
        has none), unseen (0: none, -1: the whole part, if there is one), seed; sample_rate for audio.
      cache_dir: the cache.
      name: of the source.
      made_from: JSON values that identify the corpus.
      load: reads the corpus; called only if the data set is not in the cache.

    Raises:
      ConfigError: more rows than there are, or too few.
      DataError: what `load` raises; no rows, or an original class that does not exist.
      ArtefactError: the data set in the cache was altered; the message names the file and what to remove.
      ResourceError: too little disk.
    """
    fields = {size: getattr(data_config, size) for size in (*SIZES, "seed")}
    fingerprint = sha256_json({"format": FORMAT_VERSION, "name": name, **fields, **made_from})
    path = Path(cache_dir) / "datasets" / f"{name}-{fingerprint[:16]}"
    if path.exists():
        return Dataset.open_verified(path)
    corpus = load()
    notes: dict[str, Any] = {"licences": dict(corpus.licences), **corpus.notes}
    parts = {part: _usable(examples, part, name, corpus, notes) for part, examples in corpus.parts.items()}
    parts |= _without_copies(parts, notes)
    drawn = _draw(data_config, parts, name, corpus)
    splits = {split: _split(split, examples, corpus) for split, examples in drawn.items() if split not in ("labelled", "unlabelled")}
    splits["train"].label_mask[len(drawn["labelled"]) :] = False
    notes["rows"] = {split: _counts(examples, corpus) for split, examples in drawn.items() if split != "train" and len(examples)}
    if corpus.groups is not None:
        notes["classes"] = {group: ", ".join(members) for group, members in corpus.groups.items()}
    if "unseen" not in splits:
        notes["unseen"] = "data.unseen=0" if corpus.unseen is not None else f"{name} has no rows of another domain"
    clips = corpus.train.inputs if isinstance(corpus.train.inputs, Clips) else None
    if clips is not None:
        notes["decoded"] = clips.remarks
        remove_leftovers(path)
    require_free_disk(cache_dir, sum(map(_bytes, drawn.values())) + 10_000_000, f"writing {name}")
    return write_dataset(
        path,
        name=name,
        fingerprint=fingerprint,
        modality="audio" if clips is not None else "image" if isinstance(corpus.train.inputs, np.ndarray) else "text",
        sample_rate=None if clips is None else data_config.sample_rate,
        task="multiclass",
        classes=corpus.originals if corpus.groups is None else tuple(corpus.groups),
        fine_classes=() if corpus.groups is None else corpus.originals,
        splits=splits,
        notes=notes,
        licence="; ".join(corpus.licences.values()),
    )


def _usable(part: Examples, split: str, name: str, corpus: Corpus, notes: dict[str, Any]) -> Examples:
    """The rows with content; raises DataError where there are none, or a class is out of range."""
    least = UNLABELLED if split == "train" else 0
    wrong = np.flatnonzero((part.classes < least) | (part.classes >= len(corpus.originals)))
    if len(wrong):
        raise DataError(
            f"{name}: {len(wrong):,} of {len(part):,} rows of the {split} part have a label outside 0 .. {len(corpus.originals) - 1}, the first of them row "
            f"{wrong[0]} with {part.classes[wrong[0]]}. Correct the labels, or choose a part and column whose labels are published."
        )
    if isinstance(part.inputs, Clips):
        return part
    filled = np.array([row for row, content in enumerate(part.inputs) if not isinstance(content, str) or content.strip()], np.int64)
    if not len(filled):
        raise DataError(f"{name}: the {split} part has {len(part):,} rows, and not one with a text that is not empty: choose another text column or file.")
    if len(filled) == len(part):
        return part
    notes.setdefault("empty texts left out", {})[split] = len(part) - len(filled)
    return part.take(filled)


def _digests(part: Examples) -> list[bytes]:
    """What identifies the content of each row: texts count as equal if they differ in white space only."""
    if isinstance(part.inputs, Clips):
        return list(part.digests)
    contents = (row.tobytes() if isinstance(row, np.ndarray) else " ".join(row.split()).encode() for row in part.inputs)
    return [hashlib.blake2b(content, digest_size=16).digest() for content in contents]


def _without_copies(parts: Mapping[str, Examples], notes: dict[str, Any]) -> dict[str, Examples]:
    """Training and validation part without what stands in a later part, the training part without copies too; `notes` tells how many were left out."""
    digests = {part: _digests(examples) for part, examples in parts.items()}
    found = {part: set(contents) for part, contents in digests.items()}
    kept, leaked = {}, {}
    for part in ("train", "valid"):
        later = list(parts)[list(parts).index(part) + 1 :] if part in parts else []
        places = [next((other for other in later if digest in found[other]), "") for digest in digests.get(part, ())]
        leaked |= {f"rows left out of {part}, being in {other}": places.count(other) for other in later}
        kept[part] = np.array([row for row, place in enumerate(places) if not place], np.int64)
    classes = parts["train"].classes
    first: dict[bytes, int] = {}
    contradicting = 0
    # rows with a label before those without, so that of two copies the one with a label is kept
    for row in kept["train"][np.argsort(classes[kept["train"]] == UNLABELLED, kind="stable")].tolist():
        other = first.setdefault(digests["train"][row], row)
        contradicting += bool(classes[row] not in (UNLABELLED, classes[other]))
    notes["duplicates"] = {"copies left out of train": len(kept["train"]) - len(first), "of them with another label than the first": contradicting}
    notes["duplicates"] |= {f"copies within {part}, left in": len(digests[part]) - len(found[part]) for part in parts if part != "train"}
    notes["leakage"] = leaked or {"between splits": "none: drawn without copies"}
    kept["train"] = np.sort(np.array(list(first.values()), np.int64))
    return {part: parts[part].take(rows) for part, rows in kept.items() if part in parts}


def _require_every_class(part: Examples, split: str, name: str, corpus: Corpus) -> None:
    """Raises DataError where a class has no row to learn from, or none to be tested on."""
    present = {corpus.originals[original] for original in np.unique(part.classes).tolist()}
    groups = corpus.groups or {original: [original] for original in corpus.originals}
    missing = [group for group, members in groups.items() if present.isdisjoint(members)]
    if missing:
        raise DataError(
            f"{name}: the {len(part):,} {split} rows hold none of the class {', '.join(map(repr, missing))}: "
            f"raise config.data.{split} (0 takes all), or leave the class out."
        )


def _order(classes: np.ndarray, seed: int, stream: str) -> np.ndarray:
    return stratified_order(classes, np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, STREAMS[stream]]))))


def _draw(data_config: Any, parts: Mapping[str, Examples], name: str, corpus: Corpus) -> dict[str, Examples]:
    """The examples of each split, and of "train" those with and without labels once more."""
    train = parts["train"]
    known, unknown = np.flatnonzero(train.classes != UNLABELLED), np.flatnonzero(train.classes == UNLABELLED)
    wanted = {split: getattr(data_config, split) or len(parts.get(split, ())) or round(DRAWN_SHARE * len(known)) for split in ("test", "valid")}
    counts = {split: 0 if split in parts else count for split, count in wanted.items()}
    rest = len(known) - sum(counts.values())
    wanted["labelled"] = counts["labelled"] = data_config.labelled or rest
    left = len(train) - sum(counts.values())
    counts["unlabelled"] = left if data_config.unlabelled == -1 else data_config.unlabelled
    if min(counts.values()) < 0 or counts["labelled"] > rest or counts["unlabelled"] > left:
        asked = ", ".join(f"data.{size}={getattr(data_config, size)}" for size in ("labelled", "unlabelled", "valid", "test"))
        sharing = [size for size in ("labelled", "unlabelled", "valid", "test") if size not in parts]
        raise ConfigError(
            f"config has {asked}, but {name} has {len(train):,} different rows for {', '.join(sharing[:-1])} and {sharing[-1]} together"
            f"{_without_label(len(unknown))}: lower them (labelled=0 labels all that are left, unlabelled=-1 takes all that are left)."
        )
    for size in ("labelled", "valid", "test"):
        count, value = wanted[size], getattr(data_config, size)
        if count < len(corpus.originals):
            given = str(value) if value else f"0, which gives {count}"
            zero = ", or 0 for all" if value and size != "valid" else ""
            raise ConfigError(f"config.data.{size} is {given}, but must be at least {len(corpus.originals)}, a row of each class of {name}{zero}.")
    order = np.concatenate([rows[_order(train.classes[rows], data_config.seed, "train")] for rows in (known, unknown) if len(rows)])
    stops = dict(zip(counts, np.cumsum(list(counts.values())), strict=True))
    drawn = {size: train.take(order[stops[size] - count : stops[size]]) for size, count in counts.items()}
    drawn["train"] = train.take(order[stops["valid"] : stops["unlabelled"]])
    for split in ("valid", "test"):
        if split in parts:
            drawn[split] = _fixed(parts[split], wanted[split], split, name)
    for split in ("labelled", "test"):
        _require_every_class(drawn[split], split, name, corpus)
    unseen = len(parts.get("unseen", ())) if data_config.unseen == -1 else data_config.unseen
    if unseen and "unseen" not in parts:
        raise ConfigError(f"config.data.unseen is {unseen}, but {name} has no rows of another domain: set it to 0.")
    if unseen:
        drawn["unseen"] = _fixed(parts["unseen"], unseen, "unseen", name)
    return {split: drawn[split] for split in ("train", "labelled", "unlabelled", "valid", "test", "unseen") if split in drawn}


def _fixed(part: Examples, count: int, split: str, name: str) -> Examples:
    if count > len(part):
        raise ConfigError(f"config.data.{split} is {count}, but {name} has {len(part):,} {split} rows: lower it.")
    return fixed_rows(part, count)


def fixed_rows(part: Examples, count: int) -> Examples:
    """`count` rows of a part, always the same, stratified, in the order of the corpus."""
    return part.take(np.sort(_order(part.classes, 0, "test")[:count]))


def _split(split: str, part: Examples, corpus: Corpus) -> Split:
    groups = corpus.groups or {original: (original,) for original in corpus.originals}
    place = {original: place for place, members in enumerate(groups.values()) for original in members}
    labels = np.eye(len(groups), dtype=np.float32)[[0 if label == UNLABELLED else place[corpus.originals[label]] for label in part.classes]]
    ids = list(part.ids) or [f"{split}/{index:05d}" for index in range(len(part))]
    return Split(ids, part.inputs, labels, np.ones(labels.shape, np.bool_), None if corpus.groups is None else part.classes)


def _without_label(count: int) -> str:
    return f", {count:,} of them without a label" if count else ""


def _counts(part: Examples, corpus: Corpus) -> str:
    """How many rows of each original class there are, in a line."""
    counts = np.bincount(part.classes[part.classes != UNLABELLED], minlength=len(corpus.originals))
    unknown = _without_label(len(part) - counts.sum())
    if len(counts) > COUNTED_CLASSES:
        return f"{len(part):,}, {counts.min():,} to {counts.max():,} of each of {len(counts)} classes{unknown}"
    return f"{len(part):,} (" + ", ".join(f"{name} {count:,}" for name, count in zip(corpus.originals, counts, strict=True)) + f"){unknown}"


def _bytes(part: Examples) -> int:
    return part.inputs.nbytes if isinstance(part.inputs, np.ndarray | Clips) else sum(len(text) for text in part.inputs)
