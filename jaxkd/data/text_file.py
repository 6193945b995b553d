"""Source "text_file": the user's own texts, each with one label, from a CSV file (with a header) or JSON lines, gzipped or not.

`data.folder` names one file, from which valid and test rows are drawn by seed, or a folder with a file called train and, where there are such parts,
valid, test and unseen. The columns are `text` and `label`, unless `data.text_column` and `data.label_column` name others. A label is any string, or a
number, which counts as the string it is written as; a row of the training part whose label is empty is unlabelled.

The id of an example is what a column `id` says, else PART/ROW: the first row of the training part, or of a single file, is "train/0".
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxkd.data.dataset import Dataset
from jaxkd.data.labelled_split import UNLABELLED, Corpus, Examples, prepare_corpus
from jaxkd.data.table import Row, part_files, read_rows
from jaxkd.errors import ConfigError, DataError
from jaxkd.files import sha256_file

NAME = "text_file"
COLUMNS = ("text", "label")
ID_COLUMN = "id"
LABELS_SHOWN = 5
LICENCE = "the terms of your texts"


class _Labelled(NamedTuple):
    """The rows of a file: texts, labels ("" for none) and ids."""

    texts: list[str]
    labels: list[str]
    ids: list[str]

    def examples(self, classes: Sequence[str]) -> Examples:
        """The rows with the place of each label among the classes."""
        places = {name: place for place, name in enumerate(classes)}
        return Examples(self.texts, np.array([places.get(label, UNLABELLED) for label in self.labels], np.int32), ids=self.ids)


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Draws the data set that `data_config` describes (see `jaxkd.data.labelled_split.prepare_corpus`), or opens it from the cache.

    The classes are the different labels of the training part, sorted.

    Raises:
      ConfigError: no file is named; more rows than there are, or too few.
      DataError: a file or column is missing, fewer than two labels, an id that comes twice, or outside the training part a label that is empty or is none
        of the classes; the message names the line.
      ArtefactError, ResourceError: the data set in the cache was altered; too little disk or memory.
    """
    if not data_config.folder:
        raise ConfigError(f"data.source={NAME} needs data.folder=FILE (.csv, .json or .jsonl, also .gz), or data.folder=FOLDER with train.csv and the like.")
    columns = (data_config.text_column or COLUMNS[0], data_config.label_column or COLUMNS[1])
    files = part_files(Path(data_config.folder).expanduser(), ("train",), ("valid", "test", "unseen"))

    def load() -> Corpus:
        first: dict[str, str] = {}
        train = _read(files["train"], "train", columns, (), first)
        classes = tuple(sorted({*train.labels} - {""}))
        if len(classes) < 2:
            raise DataError(
                f"{files['train']}: the column {columns[1]!r} has {len(classes)} different labels ({', '.join(classes) or 'none'}), but there must be "
                "at least 2: name another column with data.label_column."
            )
        others = {part: _read(file, part, columns, classes, first).examples(classes) for part, file in files.items() if part != "train"}
        return Corpus(train.examples(classes), others.get("test"), others.get("unseen"), classes, None, {"texts": LICENCE}, valid=others.get("valid"))

    made_from = {"files": {part: sha256_file(file) for part, file in files.items()}, "columns": columns}
    return prepare_corpus(data_config, cache_dir, name=NAME, made_from=made_from, load=load)


def _read(path: Path, part: str, columns: tuple[str, str], classes: Sequence[str], first: dict[str, str]) -> _Labelled:
    """A file; `classes` are those that its labels must be of, none for the training part, and `first` is where each id stands."""
    found, known = _Labelled([], [], []), set(classes)
    for row in read_rows(path, unit="row", columns=columns):
        text, label = row.values[columns[0]], _written(row, columns[1])
        if text is not None and not isinstance(text, str):
            raise DataError(f"{row.where}: {columns[0]!r} is {text!r}, but must be a string: correct it, or name another column with data.text_column.")
        if known and label not in known:
            _refuse(row, label, classes)
        example = _written(row, ID_COLUMN) if ID_COLUMN in row.values else f"{part}/{len(found.ids)}"
        other = first.setdefault(example, row.where)
        if not example or other != row.where:
            wrong = f"which stands at {other} too" if example else "which names no example"
            raise DataError(f"{row.where}: the id is {example!r}, {wrong}: give each row an id of its own, or rename the column {ID_COLUMN!r}.")
        for values, value in zip(found, (text or "", label, example), strict=True):
            values.append(value)
    return found


def _refuse(row: Row, label: str, classes: Sequence[str]) -> None:
    if not label:
        raise DataError(f"{row.where}: the label is empty, which it may be in the training part alone: fill it in, or remove the line.")
    shown = f"{', '.join(map(repr, classes[:LABELS_SHOWN]))}{', ...' if len(classes) > LABELS_SHOWN else ''}"
    raise DataError(
        f"{row.where}: the label is {label!r}, which no row of the training part has ({len(classes)} labels: {shown}): correct it, remove the line, or add "
        "training rows of it."
    )


def _written(row: Row, column: str) -> str:
    """A label or id as a string, without white space around it; "" for null."""
    value = row.values[column]
    if isinstance(value, list | dict):
        raise DataError(f"{row.where}: {column!r} is {value!r}, but must be a string or a number: correct it, or name another column.")
    return "" if value is None else value.strip() if isinstance(value, str) else json.dumps(value)
