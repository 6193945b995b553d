"""Class moments of a store, part by part: an interrupted pass goes on where it was, to the same moments."""

import numpy as np
import pytest

from jaxkd import lelp
from jaxkd.training import moments_in_parts as parts

ROWS, DIM, CLASSES, BLOCK = 1000, 6, 3, 64
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, CLASSES, ROWS)
EMBEDDING = (RNG.standard_normal((ROWS, DIM)) + 5 * LABELS[:, None]).astype(np.float16)
BLOCKS = [slice(start, start + BLOCK) for start in range(0, ROWS, BLOCK)]


@pytest.fixture(autouse=True)
def three_blocks_a_part(monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 3 * 4 * DIM * BLOCK)
    assert 16 * 8 * CLASSES * (DIM + 1) ** 2 < 13 * 4 * DIM * BLOCK


def moments(folder, read, stop=None):
    """Counts the blocks that are read; fails at the block `stop`."""

    def batches(blocks):
        for block in blocks:
            if block.start // BLOCK == stop:
                raise KeyboardInterrupt
            read.append(block.start // BLOCK)
            yield EMBEDDING[block], LABELS[block]

    return parts.moments_in_parts(batches, BLOCKS, folder, num_classes=CLASSES, dim=DIM)


def test_moments_are_those_of_numpy(tmp_path):
    found, read = moments(tmp_path / "parts", []), EMBEDDING.astype(np.float64)
    for c in range(CLASSES):
        np.testing.assert_allclose(found.covariance()[c], np.cov(read[c == LABELS], rowvar=False), rtol=0, atol=2e-5)
        np.testing.assert_allclose(found.mean[c], read[c == LABELS].mean(axis=0), atol=1e-6)


def test_an_interrupted_pass_goes_on_to_the_same_bits(tmp_path):
    never_stopped, before, after = moments(tmp_path / "whole", []), [], []
    with pytest.raises(KeyboardInterrupt):
        moments(tmp_path / "parts", before, stop=len(BLOCKS) - 2)
    found = moments(tmp_path / "parts", after)
    assert before[0] == 0 and after[0] > 0 and after[-1] == len(BLOCKS) - 1
    assert len(before) < len(BLOCKS) and len(after) < len(BLOCKS)
    for ours, expected in zip(found, never_stopped, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_moments_that_were_damaged_are_made_again(tmp_path, capsys):
    never_stopped, read = moments(tmp_path / "whole", []), []
    with pytest.raises(KeyboardInterrupt):
        moments(tmp_path / "parts", [], stop=len(BLOCKS) - 2)
    (kept,) = (tmp_path / "parts").iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    found = moments(tmp_path / "parts", read)
    assert "is damaged: the class moments are made from the start" in capsys.readouterr().err
    assert read == list(range(len(BLOCKS)))
    np.testing.assert_array_equal(found.m2, never_stopped.m2)


def test_a_small_store_keeps_nothing_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 2 << 30)
    found = moments(tmp_path / "parts", [])
    assert not (tmp_path / "parts").exists()
    expected = lelp.class_moments(((EMBEDDING[block], LABELS[block]) for block in BLOCKS), num_classes=CLASSES)
    np.testing.assert_array_equal(found.m2, expected.m2)
