"""Source "amazon_reviews": product reviews with one to five stars from the user's own file, in the layouts in which they are released.

- `amazon_review_full` (Zhang et al., arXiv 1509.01626): `train.csv` and `test.csv`, lines of label, title, text; no header.
- The McAuley releases: JSON lines, gzipped or not, with `overall` and `reviewText` (2014, 2018) or `rating` and `text` (2023).

`data.folder` names a folder with a file called train and one called test, or a single file, from which test rows are then drawn as well. The five classes
are the stars. With `data.binary`, one and two stars are negative, four and five positive, and reviews of three stars are left out; the stars are the
fine labels.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.data.dataset import Dataset
from jaxkd.data.labelled_split import Corpus, Examples, prepare_corpus
from jaxkd.data.table import Row, is_csv, part_files, read_rows
from jaxkd.errors import ConfigError, DataError
from jaxkd.files import sha256_file

NAME = "amazon_reviews"
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
NEUTRAL = 3
BINARY = {"negative": STARS[:2], "positive": STARS[3:]}
CSV_COLUMNS = ("label", "title", "text")
JSON_COLUMNS = (("reviewText", "overall"), ("text", "rating"))
LICENCE = "the terms under which you have the reviews"


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
    files = part_files(Path(data_config.folder).expanduser(), ("train", "test"))
    made_from = {"files": {part: sha256_file(file) for part, file in files.items()}, "columns": columns, "binary": data_config.binary}

    def load() -> Corpus:
        notes: dict[str, Any] = {}
        parts = {part: _read(file, columns, data_config.binary, notes) for part, file in files.items()}
        originals = STARS[:2] + STARS[3:] if data_config.binary else STARS
        return Corpus(parts["train"], parts.get("test"), None, originals, BINARY if data_config.binary else None, {"texts": LICENCE}, notes)

    return prepare_corpus(data_config, cache_dir, name=NAME, made_from=made_from, load=load)


def _read(path: Path, columns: tuple[str, str], binary: bool, notes: dict[str, Any]) -> Examples:
    """The reviews of a file, and the place of each one's label in the original classes."""
    texts, stars = [], []
    released = is_csv(path) and not any(columns)
    if released:
        columns = ("text", "label")
    for row in read_rows(path, unit="review", columns=columns if is_csv(path) else (), header=CSV_COLUMNS if released else ()):
        if not any(columns):
            columns = next((pair for pair in JSON_COLUMNS if pair[1] in row.values), JSON_COLUMNS[-1])
        row.require(columns[1:] if texts else columns)
        stars.append(_stars(row, columns[1]))
        text = f"{row.values['title']}\n{row.values['text']}".replace("\\n", "\n") if released else row.values.get(columns[0])
        texts.append(text if isinstance(text, str) else "")
    labels = np.array(stars, np.int32)
    if not binary:
        return Examples(texts, labels - 1)
    kept = np.flatnonzero(labels != NEUTRAL)
    notes.setdefault("reviews of three stars left out", {})[path.name] = len(labels) - len(kept)
    return Examples(texts, labels - np.where(labels > NEUTRAL, 2, 1).astype(np.int32)).take(kept)


def _stars(review: Row, column: str) -> int:
    """1 to 5."""
    label = review.values[column]
    try:
        value = float(label)
    except (TypeError, ValueError):
        value = 0.0
    if value not in range(1, len(STARS) + 1):
        raise DataError(f"{review.where}: the label is {label!r}, but must be a whole number of stars, 1 to {len(STARS)}. Correct or remove the line.")
    return int(value)
