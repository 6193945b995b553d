"""Statistics of a store read block by block: those of all its rows at once, in memory that does not grow with them."""

import tracemalloc
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from jaxkd.embeddings import EmbeddingStore, blocks
from jaxkd.embeddings.blocks import all_frames, id_blocks, mean_and_std

DIM = 16


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_mean_and_spread_are_those_of_all_frames(tmp_path, monkeypatch, dtype, offset):
    """Of examples of different lengths, whose blocks differ more than the rows of a block; with a mean up to 1,000 times the spread."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 7)
    rng, ids = np.random.default_rng(0), [str(row) for row in range(60)]
    examples = [offset + row / 20 + rng.standard_normal((rng.integers(1, 5), DIM)) for row in range(60)]
    writer = EmbeddingStore.create(tmp_path / "store", identity={}, dim=DIM, dtype=dtype)
    writer.append(ids, examples)
    stored = np.concatenate([example.astype(dtype) for example in examples]).astype(np.float64)
    store, order = writer.finish(), [*ids[30:], *ids[:30]]
    assert [len(block) for block in id_blocks(order)] == [7] * 8 + [4]
    mean, std = mean_and_std(partial(all_frames, store), order)
    np.testing.assert_allclose(mean, stored.mean(axis=0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(std, stored.std(axis=0), rtol=1e-11)


def test_a_column_that_does_not_vary_is_divided_by_one(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 120)
    rows = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    rows[:, 1], rows[:, 2] = 0.1, 0
    _, std = mean_and_std(rows.__getitem__, list(range(1000)))
    np.testing.assert_array_equal(std[1:], 1)
    assert std[0] == pytest.approx(rows[:, 0].astype(np.float64).std())


def test_memory_does_not_grow_with_the_rows():
    store = SimpleNamespace(gather=lambda ids: np.ones((len(ids), 1, DIM), np.float32), lengths=lambda ids: np.ones(len(ids), np.int64))

    def peak(count):
        ids = ["x"] * count
        tracemalloc.start()
        mean_and_std(partial(all_frames, store), ids)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    few, many = peak(2 * blocks.BLOCK_ROWS), peak(20 * blocks.BLOCK_ROWS)
    assert many < 1.1 * few < 20 * blocks.BLOCK_ROWS * DIM * 4
