"""Rows of the user's own tables: CSV files and JSON lines, gzipped or not, read one after the other, each with the place where it stands for messages."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from jaxkd.errors import DataError
from jaxkd.files import require_free_memory
from jaxkd.progress import progress

MEMORY_FACTOR = {True: 8, False: 4}
"""Bytes of memory for a byte of the file, gzipped or not."""
COLUMNS_HINT = "Name the columns with data.text_column and data.label_column."


class Row(NamedTuple):
    """A row: where it stands, and its values by column as they are there (of CSV strings)."""

    where: str
    values: dict[str, Any]

    def require(self, columns: Sequence[str]) -> None:
        """Raises DataError unless the row has these columns."""
        missing = [column for column in columns if column not in self.values]
        if missing:
            raise DataError(f"{self.where} has no {' and no '.join(missing)}; its keys are {', '.join(self.values) or 'none'}. {COLUMNS_HINT}")


def part_files(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Path]:
    """The table of each part that a folder holds, `PART.csv` and the like; a path that is a file is itself the part "train".

    Raises:
      DataError: the path does not exist, a part that is required is missing, or there are two files of one.
    """
    if path.is_file():
        return {"train": path}
    if not path.is_dir():
        raise DataError(f"data.folder={path} does not exist: name a file, or a folder with {' and '.join(f'{part}.csv' for part in required)}.")
    endings = [ending + packed for ending in _READERS for packed in ("", ".gz")]
    files = {}
    for part in (*required, *optional):
        found = [path / f"{part}{ending}" for ending in endings if (path / f"{part}{ending}").is_file()]
        if len(found) > 1 or (part in required and not found):
            names = ", ".join(file.name for file in found) or "none"
            raise DataError(
                f"{path} should hold one file {part} ({', '.join(endings)}); it holds {names}. A single file can be named itself: data.folder=FILE."
            )
        if found:
            files[part] = found[0]
    return files


def is_csv(path: Path) -> bool:
    """Whether a table is CSV, by its name."""
    return path.name.removesuffix(".gz").endswith(".csv")


def read_rows(path: Path, *, unit: str, columns: Sequence[str] = (), header: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a table with a progress line; empty lines are left out.

    Args:
      path: ends in .csv, .json or .jsonl, with or without .gz.
      unit: what a row is, for messages.
      columns: what the header of a CSV file, or each JSON line, must name.
      header: the columns of a CSV file that has no header line.

    Raises:
      DataError: another ending, no rows, a damaged file, or a row without one of the columns; the message names the line.
      ResourceError: too little memory to hold the rows.
    """
    packed = path.suffix == ".gz"
    read = _READERS.get(Path(path.name.removesuffix(".gz")).suffix)
    if read is None:
        raise DataError(f"{path} should end in {', '.join(_READERS)}, with or without .gz: rename it by what it holds (CSV or JSON lines).")
    require_free_memory(MEMORY_FACTOR[packed] * path.stat().st_size, f"reading {path}")
    count = 0
    try:
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="") as lines:
            for row in progress(read(lines, path, unit, columns, header), description=f"reading {path.name}", unit=unit):
                yield row
                count += 1
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError, csv.Error) as error:
        raise DataError(f"{path} cannot be read after {count:,} {unit}s ({error}): it is damaged, cut short, or not of this layout.") from error
    if not count:
        raise DataError(f"{path} holds no {unit}s.")


def _read_csv(lines: TextIO, path: Path, unit: str, columns: Sequence[str], header: Sequence[str]) -> Iterator[Row]:
    reader = csv.reader(lines)
    names = list(header) or next(reader, [])
    Row(f"{path}, line 1", dict.fromkeys(names)).require(columns)
    if len(set(names)) < len(names):
        raise DataError(f"{path}, line 1: the header names a column twice ({', '.join(names)}): rename one.")
    for values in filter(None, reader):
        where = f"{path}, line {reader.line_num}"
        if len(values) != len(names):
            raise DataError(f"{where}: {len(values)} columns, expected {len(names)} ({', '.join(names)}).")
        yield Row(where, dict(zip(names, values, strict=True)))


def _read_json(lines: TextIO, path: Path, unit: str, columns: Sequence[str], header: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not JSON ({error}): each line should hold one {unit}.") from error
        values = found if isinstance(found, dict) else {}
        row = Row(where, {key: _encodable(value) for key, value in values.items()})
        row.require(columns)
        yield row


def _encodable(value: Any) -> Any:
    """A value without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


_READERS = {".csv": _read_csv, ".json": _read_json, ".jsonl": _read_json}
"""By the ending of a file's name, before .gz."""
