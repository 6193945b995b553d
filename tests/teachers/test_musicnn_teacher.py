"""The musicnn teachers against the released graphs under TensorFlow (stored values), and their behaviour on clips of all lengths."""

import json
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxkd import frontend, teachers
from jaxkd.errors import DataError
from jaxkd.models.tuned_tagger import TunedTagger
from jaxkd.teachers import musicnn as family

ORACLES = Path(__file__).parent.parent / "oracles"
SIGNALS = runpy.run_path(str(ORACLES / "signals.py"))
PATCH_SECONDS = 2.992
MUSICNN = tuple(family.NETWORKS)


@pytest.fixture(scope="module")
def tensorflow_values():
    return np.load(ORACLES / "musicnn_tensorflow.npz")


@pytest.fixture(scope="module")
def audio():
    return SIGNALS["waveforms"](sample_rate=16_000, seconds=6.5, clips=2)


@pytest.fixture(scope="module")
def default_teacher(musicnn_archive):
    return teachers.build("MTT_musicnn", archive=musicnn_archive)


def relative_error(values, expected):
    return np.linalg.norm(np.asarray(values, np.float64) - expected) / np.linalg.norm(expected)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


@pytest.mark.parametrize("name", MUSICNN)
def test_network_agrees_with_tensorflow(musicnn_archive, tensorflow_values, name):
    outputs = jax.jit(family.NETWORKS[name])(family.load_params(name, musicnn_archive), SIGNALS["log_mel_patches"](patches=2))
    for output, values in outputs.items():
        assert relative_error(values, tensorflow_values[f"{name}/patches/{output}"]) < 1e-5, output


@pytest.mark.parametrize(
    ("name", "embedding"),
    [("MTT_musicnn", "max_mean_pool"), ("MTT_musicnn", "penultimate"), ("MSD_musicnn", "mean_pool"), ("MTT_vgg", "pool5"), ("MSD_vgg", "pool5")],
)
def test_whole_chain_agrees_with_librosa_and_tensorflow(musicnn_archive, tensorflow_values, audio, name, embedding):
    values = teachers.build(name, embedding=embedding, archive=musicnn_archive).embed(audio)
    if embedding == "max_mean_pool":
        pools = [tensorflow_values[f"{name}/audio/{pool}"] for pool in ("max_pool", "mean_pool")]
        expected = np.stack(pools, axis=-1).reshape(4, -1)
    else:
        expected = tensorflow_values[f"{name}/audio/{embedding}"]
    assert values.shape == (2, 2, expected.shape[-1])
    assert values.dtype == np.float32
    # A mel power that falls on the border of two float16 values may be rounded the other way.
    assert relative_error(values.reshape(4, -1), expected) < 1e-4


@pytest.mark.parametrize(("name", "embedding"), [(name, embedding) for name in ("MSD_musicnn", "MTT_vgg") for embedding in teachers.TEACHER_EMBEDDINGS[name]])
def test_dimensions_are_those_of_the_table(musicnn_archive, name, embedding):
    assert teachers.build(name, embedding=embedding, archive=musicnn_archive).dim == teachers.TEACHER_EMBEDDINGS[name][embedding]


@pytest.mark.parametrize("name", MUSICNN)
def test_probabilities_agree_with_the_releases_float16_logarithm(musicnn_archive, tensorflow_values, audio, name):
    values = teachers.build(name, embedding="logits", archive=musicnn_archive).logits(audio)
    difference = np.abs(sigmoid(values.reshape(4, -1)) - sigmoid(tensorflow_values[f"{name}/release/logits"]))
    assert difference.max() < 1e-3


@pytest.mark.parametrize(("name", "embedding"), [("MTT_musicnn", "max_mean_pool"), ("MSD_vgg", "pool5")])
def test_a_tagger_to_be_fine_tuned_starts_exactly_as_the_frozen_teacher(musicnn_archive, audio, name, embedding):
    module = TunedTagger(family.NETWORKS[name], family.load_params(name, musicnn_archive), embedding, 3)

    def start(audio):
        patches = family.audio_patches(audio)
        return module.init_with_output(jax.random.key(0), patches, train=True)[0].features

    frozen = teachers.build(name, embedding=embedding, archive=musicnn_archive).embed(audio)
    assert relative_error(jax.jit(start)(audio), frozen) < 1e-6


def test_loud_audio_that_overflows_the_releases_float16_is_finite(default_teacher):
    tone = np.round(32_767 * np.sin(2 * np.pi * 110 * np.arange(48_000) / 16_000)).astype(np.int16)[None]
    power = np.asarray(frontend.mel_power(frontend.pcm_to_float(tone), frontend.MUSICNN))
    assert power.max() * 10_000 > np.finfo(np.float16).max
    assert np.isfinite(default_teacher.embed(tone)).all()


def test_description(default_teacher, musicnn_archive):
    assert default_teacher.embedding == "max_mean_pool"
    assert default_teacher.hop_seconds == PATCH_SECONDS
    assert default_teacher.sample_rate == 16_000
    assert len(set(default_teacher.tags)) == 50
    assert default_teacher.tags[9] == "piano"
    assert json.loads(json.dumps(default_teacher.preprocessing)) == default_teacher.preprocessing
    assert default_teacher.parameters == 787_159
    assert teachers.build("MTT_vgg", archive=musicnn_archive).parameters == 605_748
    assert default_teacher.macs_per_example(96_000) == 2 * default_teacher.macs_per_example(48_000) > 2e9


def test_weight_hash_names_the_weights(musicnn_archive, default_teacher):
    other_embedding = teachers.build("MTT_musicnn", embedding="penultimate", archive=musicnn_archive)
    other_weights = teachers.build("MSD_musicnn", archive=musicnn_archive)
    assert other_embedding.weight_hash == default_teacher.weight_hash != other_weights.weight_hash
    assert len(default_teacher.weight_hash) == 64


def test_a_clip_does_not_depend_on_its_neighbours(musicnn_archive, audio):
    teacher = teachers.build("MTT_vgg", archive=musicnn_archive)
    clips = np.stack([np.roll(audio[i % 2, :48_000], 777 * i) for i in range(19)])
    together = teacher.embed(clips)
    assert together.shape == (19, 1, 256)
    for i in (0, 15, 16, 18):
        np.testing.assert_allclose(teacher.embed(clips[i : i + 1])[0], together[i], rtol=1e-3, atol=1e-5)


def test_frames_are_consecutive_patches(audio):
    hop = round(PATCH_SECONDS * 16_000)
    patches = jax.jit(family.audio_patches)
    second = patches(audio)[:, 1]
    first_of_the_rest = patches(audio[:, hop:])[:, 0]
    # The first frame of a clip is half reflection.
    np.testing.assert_allclose(second[:, 1:], first_of_the_rest[:, 1:], atol=2e-3)


@pytest.mark.parametrize(("samples", "frames"), [(47_616, 1), (48_000, 1), (95_487, 1), (95_488, 2), (160_000, 3)])
def test_number_of_frames(default_teacher, samples, frames):
    assert default_teacher.frames(samples) == frames
    patches = jax.eval_shape(family.audio_patches, jax.ShapeDtypeStruct((2, samples), np.int16))
    assert patches.shape == (2, frames, 187, 96)


def test_clip_shorter_than_a_patch(default_teacher):
    with pytest.raises(DataError, match=r"2\.500 s .* at least 2\.976 s"):
        default_teacher.embed(np.zeros((2, 40_000), np.int16))
