"""The audio front end with its augmentation."""

import jax
import numpy as np
import pytest

from jaxkd.data.transforms import audio_transform
from jaxkd.frontend import LogMel, log_mel, normalise, pcm_to_float

SETTINGS = LogMel("kaldi", sample_rate=2000, n_fft=64, window=50, hop=20, bands=10, fmin=50.0, fmax=800.0)
CLIPS = 96
FREQUENCY_MASK, TIME_MASK = 4, 30
FMIN_JITTER, FMAX_JITTER = 3, 5


@pytest.fixture(scope="module")
def clip():
    """Quiet noise whose log-mel, 41 frames of 10 bands, is far below zero: int16 [1, samples]."""
    return np.random.default_rng(0).integers(-300, 300, (1, 801)).astype(np.int16)


def test_masks_are_filled_before_normalisation_with_zero_and_each_has_its_axis_and_width(clip):
    """EAsT's order: (0 + 3.7) / 3.1 = 1.19 inside one band of frequencies and one of frames, of 0 to the largest width less one; nothing else changes."""
    transform = jax.jit(audio_transform(SETTINGS, frequency_mask=FREQUENCY_MASK, time_mask=TIME_MASK))
    plain, masked = transform(None, clip), np.asarray(transform(jax.random.split(jax.random.key(0), CLIPS), clip.repeat(CLIPS, axis=0)))
    inside = np.isclose(masked, 1.1935484, atol=1e-6)
    np.testing.assert_allclose(masked, np.where(inside, 1.1935484, plain), atol=1e-5)
    assert masked.shape == (CLIPS, 41, 10) and np.max(plain) < 1
    frames, bands = inside.all(axis=2), inside.all(axis=1)
    np.testing.assert_array_equal(inside, frames[:, :, None] | bands[:, None, :])
    for of_axis in (frames, bands):
        starts = np.diff(of_axis.astype(int), axis=1, prepend=0) == 1
        assert starts.sum(axis=1).max() == 1
        assert len(set(starts.argmax(axis=1))) > 5, "the place of a mask is drawn for each clip"
    assert set(bands.sum(axis=1)) == {0, 1, 2, 3}
    widths = frames.sum(axis=1)
    assert widths.min() < 5 and 24 < widths.max() < TIME_MASK


def test_the_edges_of_the_bank_are_jittered_inwards_and_drawn_for_each_clip(clip):
    """Each clip is what the front end makes of one pair of whole edges, fmin + {0, 1, 2} and fmax - {0 .. 4} Hz; every pair comes."""
    transform = jax.jit(audio_transform(SETTINGS, fmin_jitter=FMIN_JITTER, fmax_jitter=FMAX_JITTER))
    jittered = np.asarray(transform(jax.random.split(jax.random.key(0), CLIPS), clip.repeat(CLIPS, axis=0)))
    low, high = (edges.ravel() for edges in np.mgrid[-FMIN_JITTER : FMIN_JITTER + 1, -FMAX_JITTER : FMAX_JITTER + 1])
    waveforms = pcm_to_float(clip.repeat(len(low), axis=0))
    candidates = np.asarray(normalise(log_mel(waveforms, SETTINGS, fmin=50.0 + low, fmax=800.0 + high), SETTINGS))
    apart = np.abs(jittered[:, None] - candidates).max(axis=(2, 3))
    assert apart.min(axis=1).max() < 1e-5 < 1e-4 < np.partition(apart, 1, axis=1)[:, 1].min()
    found = {(int(low[place]), int(high[place])) for place in apart.argmin(axis=1)}
    assert found == {(up, -down) for up in range(FMIN_JITTER) for down in range(FMAX_JITTER)}
