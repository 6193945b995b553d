"""Batches of few shapes: every text is in one place, whole, and next to nothing is padding."""

import itertools

import numpy as np
import pytest

from jaxkd.data.packing import SINGLE_WIDTHS, TOKENS_AT_ONCE, by_length, pack


def texts_of(lengths):
    generator = np.random.default_rng(0)
    return [generator.integers(1, 99, length).astype(np.int32) for length in lengths]


def geometric(count, longest):
    """Lengths of which few are long."""
    return np.clip(np.random.default_rng(count).geometric(0.03, count), 1, longest)


def shapes_of(lengths):
    return [packed.tokens.shape for packed in pack(texts_of(lengths))]


@pytest.mark.parametrize("longest", [3, 256, 3000])
@pytest.mark.parametrize("count", [0, 1, 100, 1000])
def test_every_text_lies_in_one_row_whole(count, longest):
    texts = texts_of([*geometric(count - 1, longest), longest] if count else [])
    seen = []
    for places, tokens, lengths in pack(texts):
        assert tokens.dtype == lengths.dtype == np.int32
        remaining = iter(places.tolist())
        for row, own in zip(tokens, lengths, strict=True):
            held = np.count_nonzero(own)
            own_texts = list(itertools.islice(remaining, held))
            assert own.tolist() == [len(texts[text]) for text in own_texts] + [0] * (len(own) - held)
            joined = np.concatenate([np.zeros(0, np.int32), *(texts[text] for text in own_texts)])
            np.testing.assert_array_equal(row, np.pad(joined, (0, tokens.shape[1] - len(joined))))
        seen.extend(places.tolist())
        assert not list(remaining)
    assert sorted(seen) == list(range(count))


@pytest.mark.parametrize("longest", [50, 128, 512])
def test_few_cells_are_padding_and_shapes_are_few(longest):
    lengths = geometric(1000, longest)
    shapes = shapes_of(lengths)
    assert sum(rows * width for rows, width in shapes) < 1.06 * lengths.sum()
    assert set(shapes) <= {(tokens // width, width) for tokens in (2048, 512) for width in (128, 256, 512)}


def test_rows_that_are_left_over_are_given_out_by_few():
    """A row of 128 holds six texts of 20, and 16 such rows are given out at once; beside a text of 216 a row of 256 holds two more."""
    assert shapes_of([20] * 96) == [(16, 128)]
    assert shapes_of([20] * 97) == [(16, 128), (4, 128)]
    assert shapes_of([20] * 78) == [(16, 128)]
    assert shapes_of([20] * 72) == [(4, 128)] * 3
    assert shapes_of([216] + [20] * 3) == [(2, 256), (4, 128)]


def test_a_row_holds_no_more_texts_than_it_has_room_for():
    first, rest = pack(texts_of([1] * 600))
    assert first.lengths.shape == (16, 32) and (first.lengths == 1).all()
    assert [len(first.places), len(rest.places)] == [512, 88]


def test_the_same_texts_are_packed_alike():
    once, again = (list(pack(texts_of(geometric(300, 100)))) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


@pytest.mark.parametrize("max_tokens", [7, 256, 512])
@pytest.mark.parametrize("count", [0, 1, 100, 1000])
def test_groups_of_like_length(count, max_tokens):
    texts = texts_of(geometric(count, max_tokens))
    seen, shapes, cells = [], set(), 0
    for places, tokens in by_length(texts, max_tokens=max_tokens):
        shapes.add(tokens.shape)
        seen.extend(places.tolist())
        cells += tokens.size
        for row, place in zip(tokens, places, strict=False):
            np.testing.assert_array_equal(row, np.pad(texts[place], (0, tokens.shape[1] - len(texts[place]))))
        assert not tokens[len(places) :].any()
    assert sorted(seen) == list(range(count))
    assert len({width for _, width in shapes}) == len(shapes) <= len(SINGLE_WIDTHS)
    assert all(size * width <= TOKENS_AT_ONCE and width <= max_tokens for size, width in shapes)
    if count == 1000:
        assert cells < 1.5 * sum(map(len, texts))
