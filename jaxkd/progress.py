"""One progress line for long work: amount, rate and time left; on a terminal it is redrawn, in a log a line every ten seconds."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

from jaxkd.hosts import index


class _Lines:
    """A log instead of a terminal: each update is a line of its own."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            self._stream.write(text + "\n")

    def flush(self) -> None:
        self._stream.flush()


def progress(
    iterable: Iterable[Any] | None = None, *, total: int | None = None, description: str = "", unit: str = "it", initial: int = 0, in_bytes: bool = False
) -> tqdm:
    """A tqdm bar on standard error with jaxkd's settings. Use as an iterator, or call `.update(n)` and `.close()`."""
    on_terminal = sys.stderr.isatty()
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit="B" if in_bytes else unit,
        unit_scale=in_bytes,
        unit_divisor=1024 if in_bytes else 1000,
        initial=initial,
        mininterval=0.2 if on_terminal else 10.0,
        dynamic_ncols=on_terminal,
        leave=True,
        disable=index() > 0,
        file=sys.stderr if on_terminal else _Lines(sys.stderr),
    )
