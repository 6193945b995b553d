"""Texts of any lengths as batches of few shapes: several in one row, or each in a row of its own beside others of like length."""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

TOKENS_AT_ONCE = 2048
REST_AT_ONCE = 512
NARROWEST = 128
FEWEST_TOKENS = 4
"""A packed row has room for as many texts as if each had so many tokens."""
SINGLE_WIDTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class Packed(NamedTuple):
    """Rows of several texts each, one after the other from the start of the row.

    Attributes:
      places: int [n], the texts' places in the list, row by row.
      tokens: int32 [B, L], 0 = padding.
      lengths: int32 [B, S], the tokens of each text of a row, 0 = no further text.
    """

    places: np.ndarray
    tokens: np.ndarray
    lengths: np.ndarray


def pack(texts: Sequence[np.ndarray]) -> Iterator[Packed]:
    """Packs texts into rows by best fit, the longest first (arXiv 2107.02027), with next to no padding.

    A row is as wide as its longest text needs: NARROWEST, or twice, four times, .. of it. Rows of one width are given out TOKENS_AT_ONCE tokens at a time, and
    those that are left over REST_AT_ONCE tokens at a time: two shapes a width.

    Args:
      texts: token ids, each int32 [L] with L >= 1.
    """
    for width, rows in _best_fit([len(text) for text in texts]).items():
        size, rest = (max(1, tokens // width) for tokens in (TOKENS_AT_ONCE, REST_AT_ONCE))
        while rows:
            size = size if len(rows) > size - rest else rest
            yield _packed(texts, rows[:size], (size, width))
            rows = rows[size:]


def _best_fit(lengths: Sequence[int]) -> dict[int, list[list[int]]]:
    """Rows of texts, by width; each text was put where it left the least room."""
    rows: list[list[int]] = []
    widths: list[int] = []
    room: list[tuple[int, int]] = []
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        tightest = bisect.bisect_left(room, (lengths[text], 0))
        if tightest == len(room):
            widths.append(max(NARROWEST, 1 << (lengths[text] - 1).bit_length()))
            room.append((widths[-1], len(rows)))
            rows.append([])
        left, row = room.pop(tightest)
        rows[row].append(text)
        if len(rows[row]) < widths[row] // FEWEST_TOKENS:
            bisect.insort(room, (left - lengths[text], row))
    return {width: [row for row, own in zip(rows, widths, strict=True) if own == width] for width in dict.fromkeys(widths)}


def _packed(texts: Sequence[np.ndarray], rows: list[list[int]], shape: tuple[int, int]) -> Packed:
    tokens, lengths = np.zeros(shape, np.int32), np.zeros((shape[0], shape[1] // FEWEST_TOKENS), np.int32)
    for number, row in enumerate(rows):
        joined = np.concatenate([texts[text] for text in row])
        tokens[number, : len(joined)] = joined
        lengths[number, : len(row)] = [len(texts[text]) for text in row]
    return Packed(np.array(list(itertools.chain(*rows))), tokens, lengths)


def by_length(texts: Sequence[np.ndarray], *, max_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups of texts of like length, one a row, in one shape for each of SINGLE_WIDTHS: about TOKENS_AT_ONCE tokens.

    What is left over at one width goes on to the next, so that only the last group has rows of padding alone.

    Args:
      texts: token ids, each int32 [L] with L <= `max_tokens`.
      max_tokens: the widest row.

    Yields:
      The texts' places in the list, int [n], and their tokens, int32 [rows, width] with rows >= n, 0 = padding.
    """
    lengths = np.array([len(text) for text in texts])
    order = np.argsort(lengths, kind="stable")
    start = 0
    for width in (*(width for width in SINGLE_WIDTHS if width < max_tokens), max_tokens):
        size = max(1, TOKENS_AT_ONCE // width)
        fitting = int(np.count_nonzero(lengths <= width))
        while fitting - start >= size or start < fitting == len(texts):
            places = order[start : min(start + size, fitting)]
            tokens = np.zeros((size, width), np.int32)
            for row, place in zip(tokens, places, strict=False):
                row[: lengths[place]] = texts[place]
            yield places, tokens
            start += len(places)
