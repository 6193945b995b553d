"""Source "audio_folder": the user's own audio files with a `labels.csv` beside them.

The header of `labels.csv` is `file,split,CLASS,CLASS,...`. Each further line names a file below the folder, its split (train, valid, test, unseen or
unseen_NAME), and for each class 1 (it sounds), 0 (it does not) or nothing (unknown). A line of unknowns only is an unlabelled clip.

No two splits may hold files of equal content. Within a split a copy of another name is a clip of its own; the notes count them.
"""

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.data.clips import decode_file, fit_clip
from jaxkd.data.dataset import SPLIT_ORDER, Dataset
from jaxkd.data.recordings import Recording, prepare_recordings
from jaxkd.errors import ConfigError, DataError
from jaxkd.files import sha256_file

FORMAT_VERSION = 3
NAME = "audio_folder"
LABELS_FILE = "labels.csv"
SPLIT_PATTERN = re.compile("|".join((*SPLIT_ORDER, r"unseen(_\w+)?(?<!_probe)")))
LABEL_VALUES = {"1": (1.0, True), "0": (0.0, True), "": (0.0, False)}
SILENCE_RMS = 1e-5


@dataclass(frozen=True)
class Row:
    """A line of labels.csv: its number, the file's name, its split, label [K] and label mask [K]."""

    line: int
    file: str
    split: str
    labels: list[float]
    mask: list[bool]


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Decodes the folder that `data_config.folder` names into a data set in the cache, or opens it from there.

    Every file gives one clip, mono, at `data_config.sample_rate`: its first `clip_seconds`, filled up with silence where it is shorter. Classes are the
    columns of labels.csv. Files of a higher rate are resampled and counted in the notes; a lower rate is an error.

    Raises:
      ConfigError: no folder is named.
      DataError: labels.csv or a file is missing, damaged or of the wrong kind, or two splits share a file; the message names the file and line.
      ArtefactError: the data set in the cache was altered; the message names the file and what to remove.
      ResourceError: too little disk.
    """
    if not data_config.folder:
        raise ConfigError("data.source=audio_folder needs data.folder=FOLDER, a folder with audio files and a labels.csv.")
    folder = Path(data_config.folder).expanduser()
    labels_file = folder / LABELS_FILE
    classes, rows = read_labels(folder)

    def notes(digests: list[str]) -> dict[str, Any]:
        copies = _count_copies(rows, digests, labels_file)
        remarks: dict[str, Any] = {"copies of another clip of the split": copies} if copies else {}
        if not any(row.split.startswith("unseen") for row in rows):
            remarks["unseen"] = f"{labels_file} names no file of a split unseen or unseen_NAME"
        return remarks

    def decode(file: Path, rate: int, points: int) -> tuple[np.ndarray, list[str]]:
        try:
            return decode_clip(file, rate, points)
        except DataError as error:
            raise DataError(f"{error} Replace the file, or remove its line from {labels_file}.") from error

    return prepare_recordings(
        data_config,
        cache_dir,
        name=NAME,
        recordings=[Recording(f"{row.split}/{row.file}", folder / row.file, row.split, row.labels, row.mask) for row in rows],
        classes=classes,
        made_from={"format": FORMAT_VERSION, "labels": sha256_file(labels_file)},
        notes=notes,
        licence="the terms of your files",
        decode=decode,
    )


def read_labels(folder: Path) -> tuple[list[str], list[Row]]:
    """The classes and lines of `folder/labels.csv`, checked.

    Raises:
      DataError: what is wrong, with the line.
    """
    path = folder / LABELS_FILE
    if not path.is_file():
        raise DataError(f"{path} is missing: it lists the files with their split and labels (file,split,CLASS,CLASS,...).")
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.reader(file))
    if not lines or lines[0][:2] != ["file", "split"] or len(lines[0]) < 3 or len(set(lines[0])) != len(lines[0]):
        header = ",".join(lines[0]) if lines else ""
        raise DataError(f"{path}, line 1: the header should be file,split and then different class names; it is {header!r}.")
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines[1:], start=2):
        if line:
            rows.append(_row(line, number, len(lines[0]), folder, f"{path}, line {number}"))
            first = seen.setdefault(os.path.normpath(rows[-1].file), number)
            if first != number:
                raise DataError(f"{path}, line {number}: {rows[-1].file} is listed twice, first on line {first}.")
    missing = [split for split in SPLIT_ORDER if not any(row.split == split for row in rows)]
    if missing:
        raise DataError(f"{path} has no line of split {', '.join(missing)}: training needs train, valid and test.")
    if not any(any(row.mask) for row in rows if row.split == "train"):
        raise DataError(f"{path}: every label of split train is unknown; at least one clip needs labels.")
    return lines[0][2:], rows


def _count_copies(rows: list[Row], checksums: list[str], labels_file: Path) -> int:
    """How many files equal an earlier one of their split; raises DataError where they are of two splits."""
    first: dict[str, Row] = {}
    copies = 0
    for row, checksum in zip(rows, checksums, strict=True):
        other = first.setdefault(checksum, row)
        if other.split != row.split:
            raise DataError(
                f"{labels_file}, line {row.line}: {row.file} (split {row.split}) has the same content as {other.file} (line {other.line}, split "
                f"{other.split}): no clip may be in two splits. Remove one of the lines."
            )
        copies += other is not row
    return copies


def _row(line: list[str], number: int, width: int, folder: Path, where: str) -> Row:
    if len(line) != width:
        raise DataError(f"{where}: {len(line)} columns, the header has {width}.")
    name, split, *values = (value.strip() for value in line)
    if not SPLIT_PATTERN.fullmatch(split):
        raise DataError(f"{where}: split {split!r} should be train, valid, test, unseen or unseen_NAME.")
    wrong = [value for value in values if value not in LABEL_VALUES]
    if wrong:
        raise DataError(f"{where}: label {wrong[0]!r} should be 1, 0 or nothing (unknown).")
    if not (folder / name).is_file():
        raise DataError(f"{where}: {folder / name} does not exist.")
    return Row(number, name, split, [LABEL_VALUES[value][0] for value in values], [LABEL_VALUES[value][1] for value in values])


def decode_clip(path: Path, rate: int, points: int) -> tuple[np.ndarray, list[str]]:
    """One clip from an audio file: int16 [points], mono at `rate`, and remarks on what was done to it.

    Raises:
      DataError: the file is empty, silent, not audio, not finite, or of a lower rate.
    """
    decoded = decode_file(path, points / rate)
    if decoded.rate < rate:
        raise DataError(
            f"{path} has a rate of {decoded.rate} Hz, below data.sample_rate={rate}: the frequencies above {decoded.rate // 2} Hz that the teacher listens to "
            f"are not in it. Use a recording of {rate} Hz or more."
        )
    beginning = decoded.audio[: -(-points * decoded.rate // rate)]
    rms = float(np.sqrt(np.mean(np.square(beginning, dtype=np.float64))))
    if rms < SILENCE_RMS:
        raise DataError(f"{path} is silent: its first {points / rate:g} s have an RMS of {rms:.1e}.")
    return fit_clip(decoded, rate, points)
