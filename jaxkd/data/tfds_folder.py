"""Prepared TFDS folders that cannot be read are named, with what to do."""

import contextlib
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

from google.protobuf.json_format import ParseError

from jaxkd.errors import DataError, JaxkdError

READING_ERRORS = (OSError, RuntimeError, ValueError, ParseError)
"""What TFDS and array_record are known to raise on a shard or description that is missing, cut short or altered."""


@contextlib.contextmanager
def reading(folder: str | PathLike[str]) -> Iterator[None]:
    """Turns what is raised while a prepared folder is read into a DataError that names it; errors of jaxkd pass."""
    try:
        yield
    except JaxkdError:
        raise
    except READING_ERRORS as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"the TFDS folder {folder} is damaged or incomplete ({what}): copy it whole, or remove it and prepare it anew.") from error


class Rows(Sequence[Any]):
    """The rows of a TFDS data source, each read as in `reading`.

    Args:
      builder: of a prepared data set.
      split: one of its splits.

    Raises:
      DataError: its folder cannot be read; rows raise it too.
    """

    def __init__(self, builder: Any, split: str) -> None:
        self._folder = builder.data_path
        with reading(self._folder):
            self._source = builder.as_data_source(split)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, place: Any) -> Any:
        with reading(self._folder):
            return self._source[place]
