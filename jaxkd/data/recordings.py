"""A data set from recordings in a folder of the user: checked by content, decoded one after the other into the cache."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxkd.data.clips import Clips, checksums, decode_file, fit_clip
from jaxkd.data.dataset import SPLIT_ORDER, Dataset, Split, write_dataset
from jaxkd.errors import ConfigError, DataError
from jaxkd.files import remove_leftovers, require_free_disk, sha256_json

EXAMPLES_NAMED = 5
DecodeClip = Callable[[Path, int, int], tuple[np.ndarray, list[str]]]


class Recording(NamedTuple):
    """An audio file of a split: its id, label [K] and label mask [K]."""

    id: str
    path: Path
    split: str
    labels: Sequence[float]
    mask: Sequence[bool]


def prepare_recordings(
    data_config: Any,
    cache_dir: Path,
    *,
    name: str,
    recordings: Sequence[Recording],
    classes: Sequence[str],
    made_from: Mapping[str, Any],
    notes: Callable[[list[str]], dict[str, Any]],
    licence: str,
    decode: DecodeClip,
) -> Dataset:
    """Decodes recordings into a multi-label data set in the cache, or opens it from there.

    Args:
      data_config: sample_rate and clip_seconds.
      cache_dir: the cache.
      name: of the source.
      recordings: by split in any order.
      classes: names of the K labels.
      made_from: JSON values that identify labels and splits; the files are identified by their content.
      notes: from the sha256 of each recording to remarks for the report; may refuse.
      licence: the terms of the recordings.
      decode: from a file, a rate and a number of samples to int16 [samples] and remarks, which the notes count.

    Raises:
      DataError: what `decode` and `notes` raise.
      ArtefactError: the data set in the cache was altered; the message names the file and what to remove.
      ResourceError: too little disk.
    """
    rate, points = data_config.sample_rate, round(data_config.clip_seconds * data_config.sample_rate)
    digests = checksums([recording.path for recording in recordings], f"checking {name}")
    remarks = notes(digests)
    fingerprint = sha256_json({**made_from, "sample_rate": rate, "points": points, "files": digests})
    path = Path(cache_dir) / "datasets" / f"{name}-{fingerprint[:16]}"
    if path.exists():
        return Dataset.open_verified(path)
    remove_leftovers(path)
    require_free_disk(cache_dir, 2 * len(recordings) * points + 10_000_000, f"decoding {len(recordings):,} files")
    clips = Clips([recording.path for recording in recordings], lambda file: decode(file, rate, points), points)
    labels = np.array([recording.labels for recording in recordings], np.float32)
    mask = np.array([recording.mask for recording in recordings], np.bool_)
    splits = {}
    for split in dict.fromkeys((*SPLIT_ORDER, *(recording.split for recording in recordings))):
        places = [place for place, recording in enumerate(recordings) if recording.split == split]
        splits[split] = Split([recordings[place].id for place in places], clips.take(places), labels[places], mask[places])
    return write_dataset(
        path,
        name=name,
        fingerprint=fingerprint,
        modality="audio",
        task="multilabel",
        sample_rate=rate,
        classes=classes,
        splits=splits,
        notes={"licences": {"audio": licence}, "decoded": clips.remarks, **remarks},
        licence=licence,
    )


def prepare_released(
    data_config: Any, cache_dir: Path, *, recordings: Sequence[Recording], usual: Mapping[str, int], remarks: Mapping[str, Any], **described: Any
) -> Dataset:
    """`prepare_recordings` of a released data set: recordings are down-mixed by the mean, resampled, and cut or filled up to the length of the clips.

    Args:
      data_config: sample_rate and clip_seconds.
      cache_dir: the cache.
      recordings: by split in any order.
      usual: the usual number of recordings of each split, which the notes compare with.
      remarks: further ones for the notes, which also count copies between splits.
      **described: name, classes, made_from and licence, as there.

    Raises:
      DataError, ArtefactError, ResourceError: as there.
    """

    def notes(digests: list[str]) -> dict[str, Any]:
        copies = copies_between_splits(recordings, digests)
        return {"split": against_usual(recordings, usual), **remarks} | ({"leakage": copies} if copies else {})

    def decode(file: Path, rate: int, points: int) -> tuple[np.ndarray, list[str]]:
        return fit_clip(decode_file(file, points / rate), rate, points)

    return prepare_recordings(data_config, cache_dir, recordings=recordings, notes=notes, decode=decode, **described)


def released_folder(name: str, folder: str, files: Sequence[str], inner: str = "") -> Path:
    """The folder of a released data set.

    Args:
      name: of the source.
      folder: as the user names it.
      files: that must be in it, relative to it.
      inner: the name that the folder has in the archive.

    Raises:
      ConfigError: no folder is named.
      DataError: the folder or files in it are missing; the message lists them all.
    """
    if not folder:
        raise ConfigError(f"data.source={name} needs data.folder=FOLDER, the folder that the released archive unpacks to.")
    path = Path(folder).expanduser()
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise DataError(f"the folder {path} of {name} {found}: name the one that its released archive unpacks to.")
    missing = [file for file in files if not (path / file).exists()]
    if missing:
        hint = f"It holds the folder {inner}: name that one." if inner and (path / inner).is_dir() else f"The released archive of {name} holds them."
        raise DataError(f"{path} lacks {', '.join(missing)}. {hint}")
    return path


def require_recordings(recordings: Sequence[Recording], listed_in: Path, advice: str) -> None:
    """Raises DataError if files of recordings are missing: how many, of how many, in which splits, and the first of them."""
    missing = [recording for recording in recordings if not recording.path.is_file()]
    if missing:
        counts = {split: sum(recording.split == split for recording in missing) for split in dict.fromkeys(recording.split for recording in missing)}
        raise DataError(
            f"{len(missing):,} of {len(recordings):,} clips that {listed_in} lists are missing ({_counted(counts)}), "
            f"for example {', '.join(str(recording.path) for recording in missing[:EXAMPLES_NAMED])}. {advice}"
        )


def against_usual(recordings: Sequence[Recording], usual: Mapping[str, int]) -> str:
    """How many recordings each split has, and whether these are the usual numbers, in a line."""
    found = {split: sum(recording.split == split for recording in recordings) for split in usual}
    if found == usual:
        return f"{_counted(found)}: the usual split"
    return f"{_counted(found)}: not the usual split, which has {_counted(usual)}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())


def copies_between_splits(recordings: Sequence[Recording], digests: Sequence[str]) -> dict[str, int]:
    """How many files of a later split have the content of a file of an earlier one: {"test, copies of train": n}; zeros are left out."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for split in SPLIT_ORDER:
        for recording, digest in zip(recordings, digests, strict=True):
            if recording.split == split and first.setdefault(digest, split) != split:
                counts[f"{split}, copies of {first[digest]}"] = counts.get(f"{split}, copies of {first[digest]}", 0) + 1
    return counts
