"""The front ends against torchaudio (stored values) and librosa (live), and their properties."""

import dataclasses
import functools
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from jaxkd import frontend
from jaxkd.errors import ConfigError, DataError
from jaxkd.frontend import EAST_MTAT, EAST_OPENMIC, MUSICNN, LogMel, log_mel, mel_power, normalise, pcm_to_float, spec_augment

ORACLES = Path(__file__).parent / "oracles"
waveforms = runpy.run_path(str(ORACLES / "signals.py"))["waveforms"]


def audio(settings: LogMel, *, seconds: float = 1.0) -> jax.Array:
    return pcm_to_float(waveforms(sample_rate=settings.sample_rate, seconds=seconds, clips=2))


@pytest.fixture(scope="module")
def torchaudio_values():
    return np.load(ORACLES / "frontend_torchaudio.npz")


@pytest.mark.parametrize(
    ("case", "settings", "largest", "mean"),
    # Log values near ln(1e-5) amplify the float32 rounding of torchaudio's own filterbank: the largest difference is there.
    [("openmic", EAST_OPENMIC, 5e-4, 1e-5), ("mtat", EAST_MTAT, 8e-4, 1e-5), ("jittered", EAST_OPENMIC, 1.5e-3, 2e-5), ("slaney", MUSICNN, 5e-5, 2e-6)],
)
def test_agrees_with_torchaudio(torchaudio_values, case, settings, largest, mean):
    edges = torchaudio_values["edges"]
    jitter = {"fmin": edges[:, 0], "fmax": edges[:, 1]} if case == "jittered" else {}
    values = np.asarray(jax.jit(lambda waveform, jitter: log_mel(waveform, settings, **jitter))(audio(settings), jitter))
    difference = np.abs(np.concatenate([values[:, :12], values[:, -12:]], axis=1) - torchaudio_values[case])
    assert difference.max() < largest
    assert difference.mean() < mean


@pytest.mark.parametrize(
    "settings",
    [
        MUSICNN,
        LogMel("slaney", sample_rate=16_000, n_fft=400, window=400, hop=160, bands=128, fmin=0.0, fmax=8_000.0),
        LogMel("slaney", sample_rate=22_050, n_fft=2048, window=1200, hop=500, bands=64, fmin=40.0, fmax=9_000.0),
    ],
)
def test_slaney_agrees_with_librosa(settings):
    waveform = audio(settings)
    expected = librosa.feature.melspectrogram(
        y=np.asarray(waveform, np.float64),
        sr=settings.sample_rate,
        n_fft=settings.n_fft,
        win_length=settings.window,
        hop_length=settings.hop,
        n_mels=settings.bands,
        fmin=settings.fmin,
        fmax=settings.fmax,
        pad_mode="reflect",
    ).transpose(0, 2, 1)
    power = np.asarray(mel_power(waveform, settings))
    assert power.shape == expected.shape
    np.testing.assert_allclose(power, expected, rtol=1e-4, atol=1e-6 * expected.max())
    np.testing.assert_allclose(log_mel(waveform, settings), np.log10(10_000 * expected + 1), atol=2e-5)


@pytest.mark.parametrize("settings", [EAST_OPENMIC, MUSICNN])
def test_float32_inside_and_equal_in_jit_and_vmap(settings):
    waveform = audio(settings, seconds=0.3)
    eager = log_mel(waveform, settings)
    np.testing.assert_allclose(jax.jit(log_mel, static_argnums=1)(waveform, settings), eager, rtol=1e-4, atol=1e-4)
    stacked = jax.vmap(lambda batch: log_mel(batch, settings))(jnp.stack([waveform, 0.5 * waveform]))
    np.testing.assert_allclose(stacked[0], eager, rtol=1e-4, atol=1e-4)
    half = waveform.astype(jnp.bfloat16)
    from_half = log_mel(half, settings)
    assert from_half.dtype == jnp.float32
    np.testing.assert_allclose(from_half, log_mel(half.astype(jnp.float32), settings), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("settings", "samples", "frames"), [(EAST_OPENMIC, 320_000, 1000), (EAST_MTAT, 465_984, 1457), (MUSICNN, 48_000, 188)])
def test_number_of_frames(settings, samples, frames):
    assert settings.frames(samples) == frames
    waveform = jax.ShapeDtypeStruct((2, samples), np.float32)
    assert jax.eval_shape(lambda waveform: log_mel(waveform, settings), waveform).shape == (2, frames, settings.bands)


def test_edges_per_clip_at_the_settings_edges_change_nothing():
    waveform = audio(EAST_OPENMIC)
    jittered = log_mel(waveform, EAST_OPENMIC, fmin=jnp.zeros(2), fmax=jnp.full(2, EAST_OPENMIC.fmax))
    np.testing.assert_allclose(jittered, log_mel(waveform, EAST_OPENMIC), atol=1e-3)


def test_edges_are_per_clip():
    waveform = jnp.repeat(audio(EAST_OPENMIC)[:1], 2, axis=0)
    moved = log_mel(waveform, EAST_OPENMIC, fmax=jnp.array([16_000.0, 14_500.0]))
    narrow = dataclasses.replace(EAST_OPENMIC, fmax=14_500.0)
    np.testing.assert_allclose(moved[0], log_mel(waveform, EAST_OPENMIC)[0], atol=1e-3)
    np.testing.assert_allclose(moved[1], log_mel(waveform, narrow)[1], atol=1e-3)
    assert np.abs(moved[0] - moved[1]).max() > 0.5


def test_normalise():
    values = np.array([[-3.7, -0.6]])
    np.testing.assert_allclose(normalise(values, EAST_OPENMIC), [[0.0, 1.0]], atol=1e-6)
    np.testing.assert_array_equal(normalise(values, MUSICNN), values.astype(np.float32))


def test_pcm_to_float():
    np.testing.assert_array_equal(pcm_to_float(np.array([-32768, 0, 16384], np.int16)), [-1.0, 0.0, 0.5])
    with pytest.raises(TypeError, match="int32"):
        pcm_to_float(np.zeros(3, np.int32))


def masked_rows_and_columns(masked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(masked.all(axis=1)), np.flatnonzero(masked.all(axis=0))


def test_spec_augment_sets_one_band_of_frames_and_one_of_bands_to_zero():
    clips = np.random.default_rng(0).uniform(1, 2, (400, 60, 40)).astype(np.float32)
    result = np.asarray(jax.jit(spec_augment, static_argnums=(2, 3))(jax.random.split(jax.random.key(0), 400), clips, 8, 20))
    frame_widths, band_widths = [], []
    for before, after in zip(clips, result, strict=True):
        frames, bands = masked_rows_and_columns(after == 0)
        expected = before.copy()
        expected[frames], expected[:, bands] = 0, 0
        np.testing.assert_array_equal(after, expected)
        for found, widths in ((frames, frame_widths), (bands, band_widths)):
            assert len(found) == 0 or found[-1] - found[0] + 1 == len(found)
            widths.append(len(found))
    assert set(band_widths) == set(range(8))
    assert set(frame_widths) == set(range(20))
    # Means of uniform widths, within 4 standard errors.
    assert abs(np.mean(band_widths) - 3.5) < 4 * np.std(range(8)) / 20
    assert abs(np.mean(frame_widths) - 9.5) < 4 * np.std(range(20)) / 20


def test_spec_augment_depends_on_the_key_of_each_clip_alone():
    clips = np.ones((3, 50, 30), np.float32)
    keys = jax.random.split(jax.random.key(1), 3)
    together = spec_augment(keys, clips, 20, 30)
    np.testing.assert_array_equal(spec_augment(keys[2:], clips[2:], 20, 30)[0], together[2])
    assert (np.asarray(together[0]) != np.asarray(together[1])).any()


def test_spec_augment_of_width_zero_and_wider_than_the_clip():
    clips = np.ones((50, 10, 6), np.float32)
    keys = jax.random.split(jax.random.key(2), 50)
    np.testing.assert_array_equal(spec_augment(keys, clips, 0, 0), clips)
    assert (np.asarray(spec_augment(keys, clips, 0, 500)) == 1).all(axis=2).any(axis=1).all()


def test_slaney_refuses_edges_per_clip():
    with pytest.raises(ConfigError, match="kaldi"):
        log_mel(audio(MUSICNN), MUSICNN, fmin=jnp.zeros(2))


def test_integer_waveform_is_refused():
    with pytest.raises(TypeError, match="pcm_to_float"):
        log_mel(np.zeros((1, 16_000), np.int16), MUSICNN)


@pytest.mark.parametrize(("settings", "shortest"), [(MUSICNN, 257), (EAST_OPENMIC, 514)])
def test_waveform_too_short_to_reflect(settings, shortest):
    shape = jax.eval_shape(lambda waveform: mel_power(waveform, settings), jax.ShapeDtypeStruct((1, shortest), np.float32)).shape
    assert shape[1] == settings.frames(shortest)
    with pytest.raises(DataError, match=f"at least {shortest}"):
        mel_power(np.zeros((1, shortest - 1), np.float32), settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"kind": "htk"}, "kaldi, slaney"), ({"hop": 0}, "hop=0"), ({"window": 2000}, "window=2000"), ({"fmax": 8_001.0}, "8000 Hz"), ({"fmin": 9_000.0}, "9000")],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(EAST_MTAT, **changes)


def test_silence_is_finite():
    for settings in (EAST_OPENMIC, MUSICNN):
        assert np.isfinite(log_mel(np.zeros((1, 4_000), np.float32), settings)).all()
    assert frontend.slaney_log(np.zeros(1)) == 0


@pytest.mark.parametrize("compiled", [False, True])
def test_no_clips_have_no_frames(compiled):
    front_end = functools.partial(log_mel, settings=MUSICNN)
    assert (jax.jit(front_end) if compiled else front_end)(np.zeros((0, 4000), np.float32)).shape == (0, MUSICNN.frames(4000), MUSICNN.bands)
