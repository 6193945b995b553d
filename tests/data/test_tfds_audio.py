import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal
import tensorflow_datasets as tfds

from jaxkd import pipeline
from jaxkd.data import TFDS_AUDIO, prepare, tfds_source
from jaxkd.data.tfds_source import Keys
from jaxkd.errors import ConfigError, DataError, ResourceError
from tests.data.corpora import data_config
from tests.small import load_config

RATE = 8000
FAMILIES = ["bass", "brass", "flute"]
WORDS = ["down", "go", "_silence_", "_unknown_"]


@pytest.fixture(scope="module", autouse=True)
def music(tiny_dataset):
    """Fills `MUSIC`: of each rendered clip the 0.75 s that begin with its loudest fifth of a second, float64 [rows, samples] in steps of 2 ** -15."""
    clips = tiny_dataset.gather([example for ids in tiny_dataset.splits.values() for example in ids])[:60] / 32768.0
    halved = scipy.signal.resample_poly(clips, 1, tiny_dataset.sample_rate // RATE, axis=1)
    fifths = np.square(halved[:, : -RATE * 3 // 4]).reshape(len(halved), -1, RATE // 20).sum(axis=-1)
    loudest = RATE // 20 * np.lib.stride_tricks.sliding_window_view(fifths, 4, axis=1).sum(axis=-1).argmax(axis=1)
    MUSIC[:] = [np.round(clip[start : start + RATE * 3 // 4] * 32000) / 32768 for clip, start in zip(halved, loudest, strict=True)]


MUSIC: list[np.ndarray] = []


def sound(row, *, seconds=0.25):
    """Another rendered clip for each row."""
    return MUSIC[row][: round(seconds * RATE)]


def pcm(audio):
    return np.round(audio * 32768.0).astype(np.int64)


class Audio(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Prepared here with the structure of a released builder, whose audio feature needs TensorFlow; the rate stands in the metadata instead."""

    VERSION = tfds.core.Version("1.0.0")
    rate = RATE

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.columns), metadata=tfds.core.MetadataDict(sample_rate=self.rate))

    def _split_generators(self, _):
        return {split: self._generate_examples(split) for split in self.parts}

    def _generate_examples(self, split):
        for row in self.parts[split]:
            yield row, self.row(row)


class OwnGtzan(Audio, skip_registration=True):
    columns = {  # noqa: RUF012
        "audio": tfds.features.Tensor(shape=(None,), dtype=np.int64),
        "label": tfds.features.ClassLabel(names=["blues", "classical"]),
        "audio/filename": tfds.features.Text(),
    }
    parts = {"train": range(60)}  # noqa: RUF012

    def row(self, row):
        return {"audio": pcm(sound(row, seconds=0.2 + 0.1 * (row % 3))), "label": row % 2, "audio/filename": f"{row}.wav"}


class OwnNsynth(Audio, skip_registration=True):
    columns = {  # noqa: RUF012
        "id": tfds.features.Text(),
        "audio": tfds.features.Tensor(shape=(RATE // 4,), dtype=np.float32),
        "pitch": tfds.features.ClassLabel(num_classes=128),
        "instrument": {"family": tfds.features.ClassLabel(names=FAMILIES), "source": tfds.features.ClassLabel(names=["acoustic", "electronic"])},
    }
    parts = {"train": range(30), "valid": range(27, 40), "test": range(40, 52)}  # noqa: RUF012

    def row(self, row):
        return {"id": str(row), "audio": sound(row).astype(np.float32), "pitch": 5, "instrument": {"family": row % 3, "source": 1}}


class OwnCommands(Audio, skip_registration=True):
    columns = {  # noqa: RUF012
        "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16),
        "label": tfds.features.ClassLabel(names=WORDS),
    }
    parts = {"train": range(20), "validation": range(20, 32), "test": range(32, 44)}  # noqa: RUF012

    def row(self, row):
        return {"audio": pcm(sound(row)).astype(np.int16), "label": row % 4}


class OwnStereo(Audio, skip_registration=True):
    columns = {"audio": tfds.features.Tensor(shape=(None, 2), dtype=np.int64), "label": np.int64}  # noqa: RUF012
    parts = {"train": range(30)}  # noqa: RUF012
    gain = 1

    def row(self, row):
        return {"audio": self.gain * np.stack([pcm(sound(row)), 0 * pcm(sound(row))], axis=1), "label": row % 2}


def prepared(builder, keys, tmp_path, monkeypatch, **fields):
    made = builder(data_dir=tmp_path / "tfds", file_format="array_record")
    made.download_and_prepare()
    monkeypatch.setitem(tfds_source.KEYS, made.name, keys)
    config = {"tfds_name": made.name, "tfds_data_dir": str(tmp_path / "tfds"), "sample_rate": RATE, "clip_seconds": 0.25, "valid": 0, **fields}
    return prepare(data_config("tfds", **config), tmp_path / "cache")


def row_of(clip):
    """Which row of `MUSIC` a clip begins with, but for its loudness."""
    begins = np.stack(MUSIC)[:, : RATE // 5]
    alike = begins @ clip[: RATE // 5] / np.linalg.norm(begins, axis=1) / np.linalg.norm(clip[: RATE // 5].astype(float))
    assert alike.max() > 0.999
    return int(alike.argmax())


def rows_of(dataset, split):
    return [row_of(clip) for clip in dataset.gather(dataset.splits[split])]


@pytest.fixture(autouse=True)
def no_tensorflow():
    yield
    assert "tensorflow" not in sys.modules


def test_known_audio_is_refused_by_its_length_before_it_is_read():
    """The names of the table, and the commands of the README: clips of 29, 4 and (filled with silence) 3 seconds."""
    assert {name for name, keys in tfds_source.KEYS.items() if keys.input == "audio"} == set(TFDS_AUDIO)
    for name, seconds in (("gtzan", 29.0), ("nsynth/full:2.3.3", 4.0), ("speech_commands", 3.0)):
        config = load_config("audio", "")
        config.data.update({"source": "tfds", "tfds_name": name, "labelled": 0, "unlabelled": 0, "valid": 0, "test": 0, "unseen": 0, "clip_seconds": seconds})
        pipeline.check(config)
        config.method = "dist"  # for one class a clip
        config.teacher.classifier = "linear"
        pipeline.check(config)
        for teacher, embedding, shortest in (("MTT_musicnn", "max_mean_pool", 2.976), ("aisfx", "", 1.14)):
            config.teacher.update({"name": teacher, "embedding": embedding})
            config.data.clip_seconds = 1.0
            with pytest.raises(ConfigError, match=rf"config\.data\.clip_seconds is 1\.0, but the teacher {teacher} needs clips of at least {shortest} s"):
                pipeline.check(config)
        config.data.clip_seconds = 0.4
        with pytest.raises(ConfigError, match=r"config\.data\.clip_seconds is 0\.4, but the student 'cp_resnet_small' needs clips of at least 0\.449 s"):
            pipeline.check(config)
        config.data.text_column = "another"
        pipeline.check(config)


def test_gtzan_has_one_part_that_is_split_by_seed(tmp_path, monkeypatch):
    keys = tfds_source.KEYS["gtzan"]
    dataset = prepared(OwnGtzan, keys, tmp_path, monkeypatch, valid=10, labelled=20)
    assert (dataset.modality, dataset.task, dataset.sample_rate, dataset.input_shape) == ("audio", "multiclass", RATE, (RATE // 4,))
    assert dataset.classes == ("blues", "classical")
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 38, "valid": 10, "test": 12}
    assert sorted(row for split in dataset.splits for row in rows_of(dataset, split)) == list(range(60))
    for split, ids in dataset.splits.items():
        known = dataset.label_mask(ids).all(axis=1)
        assert known.sum() == (20 if split == "train" else len(ids))
        np.testing.assert_array_equal(dataset.labels(ids).argmax(axis=1)[known], np.array(rows_of(dataset, split))[known] % 2)
    clip = next(clip for clip in dataset.gather(dataset.splits["test"]) if row_of(clip) % 3 == 0)
    row = row_of(clip)
    np.testing.assert_allclose(clip[: RATE // 5] / 32767, sound(row, seconds=0.2), atol=1e-4)
    assert not clip[RATE // 5 :].any()
    assert dataset.notes["decoded"] == {"cut": 40, "filled up with silence": 20}
    other = prepared(OwnGtzan, keys, tmp_path, monkeypatch, valid=10, labelled=20, seed=1)
    assert rows_of(other, "test") != rows_of(dataset, "test")


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TFDS's own audio feature needs TensorFlow: python -m pip install 'jaxkd[tfds-tf]'")
def test_tfds_own_audio_feature_is_read_as_it_was_written(tmp_path):
    clips = np.stack([pcm(sound(row)) for row in range(60)])
    np.save(tmp_path / "clips.npy", clips)
    subprocess.run([sys.executable, "-m", "tests.data.tfds_with_tensorflow", str(tmp_path)], check=True)
    with np.load(tmp_path / "read.npz") as read:
        rows = [row_of(clip) for clip in read["clips"]]
        assert sorted(rows) == list(range(60))
        np.testing.assert_allclose(read["clips"] / 32767, clips[rows] / 32768, atol=1e-4)
        known = read["known"].all(axis=1)
        np.testing.assert_array_equal(read["labels"].argmax(axis=1)[known], np.array(rows)[known] % 10)


def test_nsynth_takes_the_family_and_its_own_valid_part(tmp_path, monkeypatch):
    keys = tfds_source.KEYS["nsynth"]
    dataset = prepared(OwnNsynth, keys, tmp_path, monkeypatch)
    assert dataset.classes == tuple(FAMILIES)
    assert {split: sorted(rows_of(dataset, split)) for split in dataset.splits} == {
        "train": list(range(27)),
        "valid": list(range(27, 40)),
        "test": list(range(40, 52)),
    }
    for split, ids in dataset.splits.items():
        np.testing.assert_array_equal(dataset.labels(ids).argmax(axis=1), np.array(rows_of(dataset, split)) % 3)
    assert dataset.notes["leakage"]["rows left out of train, being in valid"] == 3
    for example in dataset.splits["test"]:
        clip = dataset.gather([example])[0]
        np.testing.assert_allclose(clip / 32767, sound(row_of(clip)), atol=1e-4)
    fewer = prepared(OwnNsynth, replace(keys, dropped=(1,)), tmp_path / "fewer", monkeypatch)
    assert fewer.classes == ("bass", "flute")
    for split, ids in fewer.splits.items():
        assert sorted(rows_of(fewer, split)) == [row for row in sorted(rows_of(dataset, split)) if row % 3 != 1]
        np.testing.assert_array_equal(fewer.labels(ids).argmax(axis=1), np.array(rows_of(fewer, split)) % 3 // 2)
    assert len(prepared(OwnNsynth, keys, tmp_path, monkeypatch, valid=6).splits["valid"]) == 6
    by_source = prepared(OwnNsynth, keys, tmp_path, monkeypatch, label_column="instrument/family", binary=True)
    assert by_source.fine_classes == tuple(FAMILIES) and by_source.classes == ("even", "odd")
    with pytest.raises(ConfigError, match=r"data\.label_column='instrument/familly': own_nsynth/1\.0\.0 has the features audio, id, instrument, pitch"):
        prepared(OwnNsynth, keys, tmp_path, monkeypatch, label_column="instrument/familly")


def test_speech_commands_are_resampled(tmp_path, monkeypatch):
    dataset = prepared(OwnCommands, tfds_source.KEYS["speech_commands"], tmp_path, monkeypatch, sample_rate=2 * RATE)
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 20, "valid": 12, "test": 12}
    assert dataset.classes == tuple(WORDS) and dataset.notes["decoded"] == {"resampled from 8000 Hz": 44}
    for example in dataset.splits["valid"]:
        clip = dataset.gather([example])[0]
        expected = scipy.signal.resample_poly(sound(row_of(clip[::2])), 2, 1)
        np.testing.assert_allclose(clip / 32767, np.clip(expected, -1, 1), atol=1e-3)


def test_channels_are_mixed_down_by_their_mean(tmp_path, monkeypatch):
    dataset = prepared(OwnStereo, Keys("audio", "label"), tmp_path, monkeypatch, valid=5)
    clip = dataset.gather(dataset.splits["test"][:1])[0]
    np.testing.assert_allclose(clip / 32767, sound(row_of(clip)) / 2, atol=1e-4)


def test_audio_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(OwnStereo, "gain", 40)
    with pytest.raises(DataError, match=r"own_stereo/1\.0\.0 train, row \d+: the audio is not of 16 bits \(it reaches \d{6}\)"):
        prepared(OwnStereo, Keys("audio", "label"), tmp_path / "loud", monkeypatch, valid=5)
    monkeypatch.setattr(OwnStereo, "gain", 1)
    monkeypatch.setattr(OwnStereo, "rate", None)
    with pytest.raises(DataError, match=r"feature audio is .*, but must be a text, an 8-bit image of one size, or audio of a known rate"):
        prepared(OwnStereo, Keys("audio", "label"), tmp_path / "no rate", monkeypatch, valid=5)


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-1000])], ids=["no shard", "cut short"])
def test_a_folder_that_lacks_a_shard_or_has_half_of_one_is_named(damage, tmp_path, monkeypatch):
    keys = tfds_source.KEYS["nsynth"]
    made = OwnNsynth(data_dir=tmp_path / "tfds", file_format="array_record")
    made.download_and_prepare()
    damage(next(made.data_path.glob("*test.array_record*")))
    with pytest.raises(DataError, match=rf"the TFDS folder {made.data_path} is damaged or incomplete .*: copy it whole, or remove it"):
        prepared(OwnNsynth, keys, tmp_path, monkeypatch)


def test_a_folder_whose_description_is_no_json_is_named(tmp_path, monkeypatch):
    made = OwnNsynth(data_dir=tmp_path, file_format="array_record")
    made.download_and_prepare()
    (made.data_path / "dataset_info.json").write_text('{"name": "own_')
    with pytest.raises(DataError, match=r"data\.tfds_name=own_nsynth: the dataset_info\.json of its folder cannot be read .*: copy the folder whole"):
        prepare(data_config("tfds", tfds_name="own_nsynth", tfds_data_dir=str(tmp_path), sample_rate=RATE, clip_seconds=0.25), tmp_path / "cache")


def test_what_else_a_builder_needs_is_named(monkeypatch):
    monkeypatch.setattr(tfds_source, "_tensorflow_is_missing", lambda: False)
    with pytest.raises(ResourceError, match="TFDS builder of nsynth needs apache_beam, which is not installed"), tfds_source._tensorflow_for("nsynth", ""):
        raise ModuleNotFoundError("No module named 'apache_beam'", name="apache_beam")
