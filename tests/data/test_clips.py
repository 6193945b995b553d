import threading

import numpy as np
import pytest
import scipy.signal

from jaxkd.data.clips import ROWS_AT_ONCE, Clips, Decoded, fit_clip
from jaxkd.data.dataset import Split, write_dataset

ROWS = 150


@pytest.fixture
def audio():
    return np.random.default_rng(0).integers(-9000, 9000, (ROWS, 40)).astype(np.int16)


def written(path, inputs):
    labels = np.ones((ROWS, 1), np.float32)
    split = Split([str(row) for row in range(ROWS)], inputs, labels, labels > 0)
    return write_dataset(
        path,
        name="n",
        fingerprint="f",
        modality="audio",
        task="multilabel",
        sample_rate=10,
        classes=["a"],
        splits={"train": split},
        notes={"decoded": getattr(inputs, "remarks", {"odd": 75})},
        licence="",
    )


def test_clips_are_written_as_an_array_is_and_few_are_held_at_once(audio, tmp_path):
    held, most, lock = 0, 0, threading.Lock()

    def read(row):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return audio[row], ["odd"] if row % 2 else []

    clips = Clips(range(ROWS), read, 40)
    for chunk in clips.chunks("reading"):
        assert len(chunk) <= ROWS_AT_ONCE
        held -= len(chunk)
    assert most <= ROWS_AT_ONCE
    streamed, whole = written(tmp_path / "a", Clips(range(ROWS), read, 40)), written(tmp_path / "b", audio)
    assert (streamed.path / "train.inputs.npy").read_bytes() == (whole.path / "train.inputs.npy").read_bytes()
    assert (streamed.path / "manifest.json").read_bytes() == (whole.path / "manifest.json").read_bytes()


def test_taken_clips_count_their_remarks_together(audio):
    clips = Clips(range(ROWS), lambda row: (audio[row], ["read"]), 40)
    part = clips.take([5, 3])
    assert part.shape == (2, 40) and part.nbytes == 160
    np.testing.assert_array_equal([part[0], part[1]], audio[[5, 3]])
    assert clips.remarks == {"read": 2}


def test_resampling_keeps_what_both_rates_hold_and_drops_what_the_lower_cannot():
    time = np.arange(44_100) / 44_100
    low, high = np.sin(2 * np.pi * 1000 * time), np.sin(2 * np.pi * 15_000 * time)
    clip, remarks = fit_clip(Decoded((0.4 * (low + high)).astype(np.float32), 44_100, 44_100), 16_000, 16_000)
    expected = 0.4 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(clip[300:-300] / 32767, expected[300:-300], atol=2e-3)
    assert remarks == ["resampled from 44100 Hz"]
    up, _ = fit_clip(Decoded((0.4 * low).astype(np.float32), 44_100, 44_100), 48_000, 48_000)
    np.testing.assert_allclose(up[300:-300] / 32767, scipy.signal.resample(0.4 * low, 48_000)[300:-300], atol=2e-3)
