"""Prepared TFDS folders that cannot be read are named, with what to do."""

import contextlib
from collections.abc import Iterator
from os import PathLike

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
