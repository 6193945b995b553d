"""The aisfx teacher against the released package, Essentia and torch (stored values), and its behaviour on other clips."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxkd import teachers
from jaxkd.errors import ArtefactError, ConfigError, DataError
from jaxkd.teachers import aisfx
from jaxkd.teachers.resampling import Clips, resampled, resampled_length

ORACLES = Path(__file__).parent.parent / "oracles"
SIGNALS = runpy.run_path(str(ORACLES / "signals.py"))
CASES = {"long": 3.6, "short": 1.5}


@pytest.fixture(scope="module")
def released():
    return np.load(ORACLES / "aisfx_torch.npz")


@pytest.fixture(scope="module")
def teacher(aisfx_archive):
    return teachers.build("aisfx", archive=aisfx_archive, clips=Clips(44_100, 158_760))


def audio(case, sample_rate=44_100):
    return SIGNALS["waveforms"](sample_rate=sample_rate, seconds=CASES[case], clips=2)


@pytest.mark.parametrize("case", CASES)
def test_front_end_agrees_with_essentia(released, case):
    values = np.asarray(jax.jit(aisfx.spectrogram)(audio(case).astype(np.float32) / 32768))[0]
    assert len(values) == aisfx.count_frames(audio(case).shape[1]) == released[f"{case}/frames"]
    np.testing.assert_allclose(np.concatenate([values[:12], values[-12:]]), released[f"{case}/spectrogram"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_embeddings_agree_with_the_released_network(released, teacher, case):
    values, expected = teacher.embed(audio(case)), released[f"{case}/embedding"]
    assert values.dtype == np.float32
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


def test_description(teacher, aisfx_archive):
    assert (teacher.dim, teacher.parameters, teacher.sample_rate) == (512, 4_686_144, 44_100)
    assert teacher.hop_seconds == pytest.approx(1.161, abs=1e-4)
    assert teachers.TEACHER_EMBEDDINGS["aisfx"] == {"embedding": teacher.dim}
    sizes, channels = [(100, 96), (50, 48), (25, 24), (12, 12)], [1, 64, 128, 256, 512]
    by_hand = sum(frames * bands * 9 * (channels[i] + channels[i + 1]) * channels[i + 1] for i, (frames, bands) in enumerate(sizes))
    assert teacher.macs_of(np.zeros((3, 102_400), np.int16)) == by_hand
    assert teacher.macs_of(np.zeros((1, 158_760), np.int16)) == 2 * by_hand


@pytest.mark.parametrize(("frames", "blocks"), [(51, 1), (99, 1), (100, 1), (149, 1), (150, 2), (199, 2), (200, 3)])
def test_number_of_blocks_is_that_of_the_package(frames, blocks):
    samples = (frames - 1) * aisfx.HOP - aisfx.N_FFT // 2 + 1
    assert aisfx.count_frames(samples) == frames
    assert aisfx.count_blocks(samples) == blocks
    assert jax.eval_shape(aisfx.audio_blocks, jax.ShapeDtypeStruct((2, samples), np.float32)).shape == (2, blocks, 100, 96)


def test_clips_that_are_too_short_are_refused(aisfx_archive):
    with pytest.raises(DataError, match=r"1\.000 s is too short for the aisfx teacher: it needs 1\.138 s"):
        teachers.build("aisfx", archive=aisfx_archive, clips=Clips(16_000, 16_000))
    with pytest.raises(ConfigError, match=r"clips of at least 1\.14 s"):
        teachers.check_audio("aisfx", sample_rate=16_000, clip_seconds=1.1)
    teachers.check_audio("aisfx", sample_rate=22_050, clip_seconds=1.14)


@pytest.mark.parametrize("rate", [16_000, 22_050, 48_000])
def test_clips_of_another_rate_are_resampled(rate):
    time = np.arange(2 * rate) / rate
    clip = np.round(16_384 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)[None]
    values = resampled(clip, rate, 44_100)
    assert values.shape == (1, resampled_length(2 * rate, rate, 44_100)) == (1, 88_200)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(88_200) / 44_100)
    np.testing.assert_allclose(values[0, 2000:-2000], expected[2000:-2000], atol=2e-3)


@pytest.mark.slow
def test_resampled_clips_are_embedded_as_such_and_stored_apart(teacher, aisfx_archive):
    low = teachers.build("aisfx", archive=aisfx_archive, clips=Clips(48_000, 172_800))
    assert low.preprocessing == {**teacher.preprocessing, "resampled_from": 48_000, "resampling": "polyphase, Kaiser window of beta 5"}
    clips = audio("long", 48_000)[:1]
    by_hand = np.round(resampled(clips, 48_000, 44_100) * 32768).clip(-32768, 32767).astype(np.int16)
    np.testing.assert_allclose(low.embed(clips), teacher.embed(by_hand), atol=0.02)


def test_another_archive_is_refused(musicnn_archive, tmp_path):
    with pytest.raises(ArtefactError, match=r"not the wheel aisfx 0\.1\.2"):
        teachers.build("aisfx", archive=musicnn_archive, clips=Clips(44_100, 158_760))
    with pytest.raises(ArtefactError, match=r"absent\.whl, is missing"):
        teachers.build("aisfx", archive=tmp_path / "absent.whl", clips=Clips(44_100, 158_760))
