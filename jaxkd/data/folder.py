"""Source "audio_folder": the user's own audio files with a `labels.csv` beside them.

The header of `labels.csv` is `file,split,CLASS,CLASS,...`. Each further line names a file below the folder, its split (train, valid, test, unseen or
unseen_NAME), and for each class 1 (it sounds), 0 (it does not) or nothing (unknown). A line of unknowns only is an unlabelled clip.

No two splits may hold files of equal content. Within a split a copy of another name is a clip of its own; the notes count them.
"""

import csv
import os
import re
from collections import Counter
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.signal import resample_poly

from jaxkd.data.dataset import SPLIT_ORDER, Dataset, Split, write_dataset
from jaxkd.errors import ConfigError, DataError
from jaxkd.files import require_free_disk, require_free_memory, sha256_file, sha256_json
from jaxkd.progress import progress

FORMAT_VERSION = 2
NAME = "audio_folder"
LABELS_FILE = "labels.csv"
SPLIT_PATTERN = re.compile("|".join((*SPLIT_ORDER, r"unseen(_\w+)?")))
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
      ResourceError: too little disk or memory.
    """
    if not data_config.folder:
        raise ConfigError("data.source=audio_folder needs data.folder=FOLDER, a folder with audio files and a labels.csv.")
    folder = Path(data_config.folder).expanduser()
    classes, rows = read_labels(folder)
    rate, points = data_config.sample_rate, round(data_config.clip_seconds * data_config.sample_rate)
    made_from = {"format": FORMAT_VERSION, "sample_rate": rate, "points": points, "labels": sha256_file(folder / LABELS_FILE)}
    made_from["files"] = [sha256_file(folder / row.file) for row in rows]
    copies = _count_copies(rows, made_from["files"], folder / LABELS_FILE)
    fingerprint = sha256_json(made_from)
    path = Path(cache_dir) / "datasets" / f"{NAME}-{fingerprint[:16]}"
    if path.exists():
        return Dataset.open_verified(path)
    require_free_disk(cache_dir, 2 * len(rows) * points + 10_000_000, f"decoding {len(rows):,} files")
    require_free_memory(4 * len(rows) * points, f"decoding {len(rows):,} files")  # all clips, and once more by split
    audio = np.empty((len(rows), points), np.int16)
    counts = Counter({"copies of another clip of the split": copies} if copies else {})
    for index, row in enumerate(progress(rows, description=f"decoding {folder.name}", unit="file")):
        try:
            audio[index], remarks = decode_clip(folder / row.file, rate, points)
        except DataError as error:
            raise DataError(f"{error} Replace the file, or remove its line from {folder / LABELS_FILE}.") from error
        counts.update(remarks)
    labels, mask = np.array([row.labels for row in rows], np.float32), np.array([row.mask for row in rows], np.bool_)
    splits = {}
    for split in dict.fromkeys(row.split for row in rows):
        places = [index for index, row in enumerate(rows) if row.split == split]
        splits[split] = Split([f"{split}/{rows[index].file}" for index in places], audio[places], labels[places], mask[places])
    notes = {"licences": {"audio": "the terms of your files"}, "decoded": dict(sorted(counts.items()))}
    if not any(split.startswith("unseen") for split in splits):
        notes["unseen"] = f"{folder / LABELS_FILE} names no file of a split unseen or unseen_NAME"
    return write_dataset(
        path,
        name=NAME,
        fingerprint=fingerprint,
        modality="audio",
        task="multilabel",
        sample_rate=rate,
        classes=classes,
        splits=splits,
        notes=notes,
        licence=notes["licences"]["audio"],
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
    try:
        with soundfile.SoundFile(path) as file:
            file_rate, frames = file.samplerate, file.frames
            if frames and file_rate >= rate:
                audio = file.read(-(-points * file_rate // rate) + file_rate // 10, dtype="float32", always_2d=True).mean(axis=1)
            else:
                audio = np.empty(0, np.float32)
    except soundfile.LibsndfileError as error:
        size = path.stat().st_size
        raise DataError(f"{path} is {'empty (0 bytes)' if not size else f'not audio that can be decoded ({error.error_string})'}.") from error
    if not frames:
        raise DataError(f"{path} is empty: it holds no samples.")
    if file_rate < rate:
        raise DataError(
            f"{path} has a rate of {file_rate} Hz, below data.sample_rate={rate}: the frequencies above {file_rate // 2} Hz that the teacher listens to are "
            f"not in it. Use a recording of {rate} Hz or more."
        )
    if not np.all(np.isfinite(audio)):
        raise DataError(f"{path} holds samples that are NaN or infinite.")
    remarks = [] if file_rate == rate else [f"resampled from {file_rate} Hz"]
    if file_rate != rate:
        factor = gcd(rate, file_rate)
        audio = resample_poly(audio, rate // factor, file_rate // factor)
    if abs(frames * rate / file_rate - points) >= 1:
        remarks.append("cut" if frames * rate / file_rate > points else "filled up with silence")
    audio = audio[:points]
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    if rms < SILENCE_RMS:
        raise DataError(f"{path} is silent: its first {points / rate:g} s have an RMS of {rms:.1e}.")
    clip = np.zeros(points, np.int16)
    clip[: len(audio)] = np.clip(np.round(audio * 32767.0), -32768, 32767).astype(np.int16)
    return clip, remarks
