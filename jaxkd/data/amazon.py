"""Source "amazon_reviews": product reviews with one to five stars from the user's own file, in the layouts in which they are released.

- `amazon_review_full` (Zhang et al., arXiv 1509.01626): `train.csv` and `test.csv`, lines of label, title, text; no header.
- The McAuley releases: JSON lines, gzipped or not, with `overall` and `reviewText` (2014, 2018) or `rating` and `text` (2023).

`data.folder` names a folder with a file called train and one called test, or a single file, from which test rows are then drawn as well. The five classes
are the stars. With `data.binary`, one and two stars are negative, four and five positive, and reviews of three stars are left out; the stars are the
fine labels.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from jaxkd.data.dataset import Dataset
from jaxkd.data.labelled_split import Corpus, Examples, prepare_corpus
from jaxkd.errors import ConfigError, DataError
from jaxkd.files import require_free_memory, sha256_file
from jaxkd.progress import progress

NAME = "amazon_reviews"
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
NEUTRAL = 3
BINARY = {"negative": STARS[:2], "positive": STARS[3:]}
COLUMNS_HINT = "Name the columns with data.text_column and data.label_column."
CSV_COLUMNS = 3
JSON_COLUMNS = (("reviewText", "overall"), ("text", "rating"))
MEMORY_FACTOR = {True: 8, False: 4}
"""Bytes of memory for a byte of the file, gzipped or not."""
LICENCE = "the terms under which you have the reviews"


class Review(NamedTuple):
    """A line of a file: where it stands, for messages, the text and the label as they are there."""

    where: str
    text: Any
    label: Any


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Draws the data set that `data_config` describes (see `jaxkd.data.labelled_split.prepare_corpus`), or opens it from the cache.

    The text is title and text, parted by a line break; from JSON, the text alone. `data_config.text_column` and `label_column` name other keys of JSON
    lines, or columns of a CSV file, which then begins with a header.

    Raises:
      ConfigError: no file is named; more rows than there are, or too few.
      DataError: a file or column is missing or empty, or a label is none of 1 to 5; the message names the line.
      ArtefactError, ResourceError: the data set in the cache was altered; too little disk or memory.
    """
    if not data_config.folder:
        raise ConfigError(f"data.source={NAME} needs data.folder=FOLDER with train.csv and test.csv, or data.folder=FILE (.csv, .json or .jsonl, also .gz).")
    columns = (data_config.text_column, data_config.label_column)
    if any(columns) and not all(columns):
        raise ConfigError(f"data.text_column={columns[0]!r} and data.label_column={columns[1]!r}: name both, or neither for the released layout.")
    files = _files(Path(data_config.folder).expanduser())
    made_from = {"files": {part: sha256_file(file) for part, file in files.items()}, "columns": columns, "binary": data_config.binary}

    def load() -> Corpus:
        notes: dict[str, Any] = {}
        parts = {part: _read(file, columns, data_config.binary, notes) for part, file in files.items()}
        originals = STARS[:2] + STARS[3:] if data_config.binary else STARS
        return Corpus(parts["train"], parts.get("test"), None, originals, BINARY if data_config.binary else None, {"texts": LICENCE}, notes)

    return prepare_corpus(data_config, cache_dir, name=NAME, made_from=made_from, load=load)


def _files(path: Path) -> dict[str, Path]:
    """The files of "train" and, if there is one, "test"."""
    if path.is_file():
        return {"train": path}
    if not path.is_dir():
        raise DataError(f"data.folder={path} does not exist: name a file of reviews, or a folder with train.csv and test.csv.")
    endings = [ending + packed for ending in READERS for packed in ("", ".gz")]
    files = {}
    for part in ("train", "test"):
        found = [path / f"{part}{ending}" for ending in endings if (path / f"{part}{ending}").is_file()]
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise DataError(
                f"{path} should hold one file {part} ({', '.join(endings)}); it holds {names}. A single file can be named itself: data.folder=FILE."
            )
        files[part] = found[0]
    return files


def _read(path: Path, columns: tuple[str, str], binary: bool, notes: dict[str, Any]) -> Examples:
    """The reviews of a file, and the place of each one's label in the original classes."""
    packed = path.suffix == ".gz"
    read = READERS.get(Path(path.name.removesuffix(".gz")).suffix)
    if read is None:
        raise DataError(f"{path} should end in {', '.join(READERS)}, with or without .gz: rename it by what it holds (CSV or JSON lines).")
    require_free_memory(MEMORY_FACTOR[packed] * path.stat().st_size, f"reading {path}")
    texts, stars = [], []
    try:
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="") as lines:
            for review in progress(read(lines, path, columns), description=f"reading {path.name}", unit="review"):
                stars.append(_stars(review))
                texts.append(review.text if isinstance(review.text, str) else "")
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError, csv.Error) as error:
        raise DataError(f"{path} cannot be read after {len(stars):,} reviews ({error}): it is damaged, cut short, or not of this layout.") from error
    if not stars:
        raise DataError(f"{path} holds no reviews.")
    labels = np.array(stars, np.int32)
    if not binary:
        return Examples(texts, labels - 1)
    kept = np.flatnonzero(labels != NEUTRAL)
    notes.setdefault("reviews of three stars left out", {})[path.name] = len(labels) - len(kept)
    return Examples(texts, labels - np.where(labels > NEUTRAL, 2, 1).astype(np.int32)).take(kept)


def _stars(review: Review) -> int:
    """1 to 5."""
    try:
        value = float(review.label)
    except (TypeError, ValueError):
        value = 0.0
    if value not in range(1, len(STARS) + 1):
        raise DataError(f"{review.where}: the label is {review.label!r}, but must be a whole number of stars, 1 to {len(STARS)}. Correct or remove the line.")
    return int(value)


def _read_csv(lines: TextIO, path: Path, columns: tuple[str, str]) -> Iterator[Review]:
    reader = csv.reader(lines)
    header = next(reader, []) if columns[0] else None
    if header is not None and not set(columns) <= set(header):
        raise DataError(f"{path}, line 1: the header is {','.join(header)!r}, without {' or '.join(sorted(set(columns) - set(header)))}. {COLUMNS_HINT}")
    width = CSV_COLUMNS if header is None else len(header)
    for row in filter(None, reader):
        where = f"{path}, line {reader.line_num}"
        if len(row) != width:
            raise DataError(f"{where}: {len(row)} columns, expected {width} ({'label, title, text' if header is None else ', '.join(header)}).")
        if header is None:
            label, title, text = row
            yield Review(where, f"{title}\n{text}".replace("\\n", "\n"), label)
        else:
            yield Review(where, row[header.index(columns[0])], row[header.index(columns[1])])


def _read_json(lines: TextIO, path: Path, columns: tuple[str, str]) -> Iterator[Review]:
    known = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            review = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not JSON ({error}): each line should hold one review.") from error
        keys = list(review) if isinstance(review, dict) else []
        if not columns[0]:
            columns = next((pair for pair in JSON_COLUMNS if pair[1] in keys), JSON_COLUMNS[-1])
        missing = [key for key in (columns[1:] if known else columns) if key not in keys]
        known = True
        if missing:
            raise DataError(f"{where} has no {' and no '.join(missing)}; its keys are {', '.join(keys) or 'none'}. {COLUMNS_HINT}")
        text = review.get(columns[0])
        yield Review(where, text.encode(errors="replace").decode() if isinstance(text, str) else text, review[columns[1]])


READERS = {".csv": _read_csv, ".json": _read_json, ".jsonl": _read_json}
"""By the ending of a file's name, before .gz."""
