"""Stores of several teachers read as one: side by side, repeated or averaged over time, or refused."""

import numpy as np
import pytest

from jaxkd.embeddings import EmbeddingStore, JoinedStore
from jaxkd.embeddings.store import mean_embeddings
from jaxkd.errors import ConfigError, DataError

IDS = ["a", "b", "c"]


@pytest.fixture
def store(tmp_path):
    """store(name, frames, dim, hop) -> (store, its embeddings)."""

    def make(name, frames, dim, hop, seed=0):
        values = np.random.default_rng(seed).standard_normal((len(IDS), frames, dim)).astype(np.float32)
        writer = EmbeddingStore.create(tmp_path / name, identity={"teacher": name, "hop_seconds": hop}, dim=dim, dtype="float32", shard_rows=2)
        writer.append(IDS, values)
        return writer.finish(), values

    return make


def test_teachers_of_one_grid_stand_side_by_side(store):
    (first, a), (second, b) = store("first", 4, 3, 0.5), store("second", 4, 2, 0.5, seed=1)
    joined = JoinedStore([first, second], over_time=False)
    assert (joined.widths, joined.dim, joined.frames, joined.pooled, len(joined)) == ((3, 2), 5, 4, False, 3)
    np.testing.assert_array_equal(joined.gather(["c", "a"]), np.concatenate([a, b], axis=-1)[[2, 0]])
    np.testing.assert_allclose(mean_embeddings(joined, ["b"]), np.concatenate([a, b], axis=-1)[[1]].mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(joined.at(np.array([2, 0])), joined.gather(["c", "a"]))
    np.testing.assert_array_equal(joined.lengths(["b", "b"]), [4, 4])
    assert joined.identity == {"teachers": [first.identity, second.identity], "pooled": False}
    with pytest.raises(DataError, match="'d'"):
        joined.gather(["d"])


def test_one_frame_is_repeated_over_the_others(store):
    (first, a), (second, b) = store("first", 4, 3, 0.5), store("second", 1, 2, 0.0, seed=1)
    joined = JoinedStore([second, first], over_time=False)
    assert (joined.frames, joined.widths) == (4, (2, 3))
    np.testing.assert_array_equal(joined.gather(IDS), np.concatenate([np.repeat(b, 4, axis=1), a], axis=-1))


@pytest.mark.parametrize(("frames", "hop"), [(5, 0.5), (4, 0.4)])
def test_different_grids_are_averaged_over_time_or_refused(store, frames, hop):
    (first, a), (second, b) = store("first", 4, 3, 0.5), store("second", frames, 2, hop, seed=1)
    joined = JoinedStore([first, second], over_time=True)
    assert (joined.frames, joined.pooled) == (1, True)
    expected = np.concatenate([a.mean(axis=1), b.mean(axis=1)], axis=-1)
    np.testing.assert_allclose(joined.gather(IDS), expected[:, None], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(mean_embeddings(joined, IDS), expected, rtol=1e-6, atol=1e-7)
    with pytest.raises(ConfigError, match=rf"first 4 frames 0\.5 s apart, second {frames} frames {hop} s apart.*embedding_expand=-1"):
        JoinedStore([first, second], over_time=False)


def test_an_unknown_distance_of_frames_goes_with_any(store):
    (first, _), (second, _) = store("first", 4, 3, 0.5), store("second", 4, 2, 0.0, seed=1)
    assert not JoinedStore([first, second], over_time=False).pooled
