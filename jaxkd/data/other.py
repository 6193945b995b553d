"""Another data set that a trained student is tested on: how it is read, and which of its labels stand for which of ours."""

import copy
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxkd.errors import ConfigError, unknown_name
from jaxkd.files import sha256_json

if TYPE_CHECKING:
    from jaxkd.data.dataset import Dataset


def other_config(config: Any) -> Any:
    """The `data` part of the other data set: that of ours, with what `config.other` says. The rate of its clips is ours, their length too unless it says so."""
    own = copy.deepcopy(config.data)
    pairs = class_pairs(config.other.classes)
    own.update({"source": config.other.source, "folder": config.other.folder, "seed": config.other.seed, "unlabelled": 0, "unseen": 0})
    own.clip_seconds = config.other.clip_seconds or own.clip_seconds
    own.classes = tuple(dict.fromkeys(theirs for theirs, _ in pairs)) or own.classes
    return own


def other_split(config: Any) -> str:
    """The split of reports that holds the other data set's test split: "unseen_NAME"."""
    return f"unseen_{config.other.name or config.other.source}"


def check_classes(config: Any) -> None:
    """Checks `config.other.classes` as far as it can be told before any data is read: against the config and the header of a labels.csv.

    Raises:
      ConfigError: as `class_pairs` and `checked_pairs`.
    """
    pairs = class_pairs(config.other.classes)
    theirs, ours = _known_classes(other_config(config)), _known_classes(config.data)
    if pairs or (theirs and ours):
        checked_pairs(pairs, theirs or [name for name, _ in pairs], ours or [name for _, name in pairs])


def _known_classes(data_config: Any) -> list[str]:
    """The classes of a data set, or none where only reading it tells."""
    if data_config.source == "rendered_instruments":
        return list(data_config.classes)
    labels = Path(data_config.folder).expanduser() / "labels.csv"
    if data_config.source != "audio_folder" or not labels.is_file():
        return []
    with labels.open(newline="", encoding="utf-8-sig") as file:
        return next(csv.reader(file), [])[2:]


def class_pairs(entries: Iterable[str]) -> list[tuple[str, str]]:
    """(theirs, ours) of the entries "THEIRS=OURS"; an entry without "=" is a name that both have.

    Raises:
      ConfigError: an entry without one of the names, or a pair that comes twice.
    """
    pairs = []
    for entry in entries:
        theirs, equals, ours = str(entry).partition("=")
        pair = theirs.strip(), (ours if equals else theirs).strip()
        if not all(pair) or pair in pairs:
            raise ConfigError(f"config.other.classes has {entry!r}, but an entry is THEIRS=OURS, or a name that both have, each once.")
        pairs.append(pair)
    return pairs


def checked_pairs(pairs: list[tuple[str, str]], theirs: Sequence[str], ours: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs, or those of the names that both have if there are none.

    Args:
      pairs: of `class_pairs`.
      theirs: the classes of the other data set.
      ours: those of ours.

    Raises:
      ConfigError: a name that a side does not have; lists those that it has.
    """
    for name, other in pairs:
        if name not in theirs:
            raise unknown_name("class of the other data set in config.other.classes", name, theirs)
        if other not in ours:
            raise unknown_name("class of ours in config.other.classes", other, ours)
    pairs = pairs or [(name, name) for name in theirs if name in ours]
    if not pairs:
        raise ConfigError(
            f"the other data set ({', '.join(theirs)}) and ours ({', '.join(ours)}) have no class of the same name: "
            "list pairs THEIRS=OURS in config.other.classes."
        )
    return pairs


def as_multilabel(dataset: "Dataset") -> "Dataset":
    """The data set as one of many labels: where a clip has one class, that is known to be there and all others to be absent."""
    if dataset.task == "multilabel":
        return dataset
    own = copy.copy(dataset)
    own.task, own.fully_labelled = "multilabel", own
    return own


def in_our_classes(dataset: "Dataset", ours: Sequence[str], pairs: list[tuple[str, str]]) -> "Dataset":
    """A multi-label data set with our classes in place of its own.

    A class of ours is there where one of the classes that stand for it is known to be there, absent where all of them are known to be absent, and unknown
    elsewhere; so is a class that nothing stands for.

    Args:
      dataset: the other one.
      ours: names of our K classes.
      pairs: of `checked_pairs`.
    """
    mapped = copy.copy(dataset)
    mapped.classes = tuple(ours)
    mapped.fingerprint = sha256_json({"data": dataset.fingerprint, "classes": list(ours), "pairs": pairs})
    mapped._arrays = dict(dataset._arrays)
    places = [[dataset.classes.index(name) for name, other in pairs if other == own] for own in ours]
    for split, ids in dataset.splits.items():
        there, known = dataset.labels(ids) > 0.5, dataset.label_mask(ids)
        labels = np.stack([(there & known)[:, columns].any(axis=1) for columns in places], axis=1)
        absent = np.stack([known[:, columns].all(axis=1) if columns else np.zeros(len(ids), bool) for columns in places], axis=1)
        mapped._arrays |= {f"{split}.labels": labels.astype(np.float32), f"{split}.label_mask": labels | absent}
    return mapped
