import json

import numpy as np
import pytest

from jaxkd.data.audio_dataset import AudioDataset, Split, write_audio_dataset
from jaxkd.errors import ArtefactError, DataError


def arrays(split, rows, rng):
    labels = rng.integers(0, 2, (rows, 3)).astype(np.float32)
    mask = rng.random((rows, 3)) < 0.6
    return Split([f"{split}/{i}" for i in range(rows)], rng.integers(-9, 9, (rows, 50)).astype(np.int16), labels, mask)


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(0)
    splits = {"train": arrays("train", 7, rng), "test": arrays("test", 4, rng)}
    dataset = write_audio_dataset(
        tmp_path / "set",
        name="made",
        fingerprint="f" * 64,
        sample_rate=100,
        classes=("a", "b", "c"),
        splits=splits,
        notes={"unseen": "none"},
        licence="MIT",
        records={"train": {}},
    )
    return dataset, splits


def test_reads_back_by_id_across_splits(made):
    dataset, splits = made
    ids = ["test/3", "train/5", "test/0", "train/5", "train/0"]
    places = [("test", 3), ("train", 5), ("test", 0), ("train", 5), ("train", 0)]
    np.testing.assert_array_equal(dataset.gather(ids), [splits[split].audio[row] for split, row in places])
    np.testing.assert_array_equal(dataset.label_mask(ids), [splits[split].label_mask[row] for split, row in places])
    np.testing.assert_array_equal(dataset.labels(ids), [np.where(splits[s].label_mask[r], splits[s].labels[r], 0) for s, r in places])
    assert (dataset.gather(ids).dtype, dataset.labels(ids).dtype, dataset.label_mask(ids).dtype) == (np.int16, np.float32, np.bool_)
    assert (dataset.sample_rate, dataset.clip_samples, dataset.classes, dataset.notes) == (100, 50, ("a", "b", "c"), {"unseen": "none"})
    assert dataset.gather([]).shape == (0, 50)
    dataset.verify()


def test_unknown_id(made):
    with pytest.raises(DataError, match=r"2 of 3 ids are not in .*: 'test/9', 'x'"):
        made[0].gather(["test/9", "test/0", "x"])


def test_truncated_array(made):
    file = made[0].path / "train.audio.npy"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ArtefactError, match=r"train\.audio\.npy has 818 bytes, expected 828.*remove"):
        AudioDataset.open(made[0].path)


def test_altered_array_is_found_by_verify(made):
    file = made[0].path / "test.labels.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"test\.labels\.npy was altered"):
        AudioDataset.open_verified(made[0].path)


def test_missing_records_are_found_by_verify(made):
    (made[0].path / "records.json").unlink()
    with pytest.raises(ArtefactError, match=r"records\.json is missing: remove"):
        AudioDataset.open_verified(made[0].path)


def test_array_of_another_shape_and_the_same_size(made):
    file = made[0].path / "test.label_mask.npy"
    np.save(file, np.zeros((3, 4), np.bool_))
    with pytest.raises(ArtefactError, match=r"test\.label_mask\.npy holds bool \(3, 4\), expected bool \(4, 3\)"):
        AudioDataset.open(made[0].path)


def test_missing_array(made):
    (made[0].path / "test.audio.npy").unlink()
    with pytest.raises(ArtefactError, match=r"test\.audio\.npy is missing"):
        AudioDataset.open(made[0].path)


def test_altered_manifest(made):
    file = made[0].path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["classes"] = ["b", "a", "c"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=r"manifest\.json was altered"):
        AudioDataset.open(made[0].path)


@pytest.mark.parametrize("content", ["{", "", "[]", "{}"])
def test_broken_manifest(made, content):
    file = made[0].path / "manifest.json"
    file.write_text(content)
    with pytest.raises(ArtefactError, match=r"manifest\.json"):
        AudioDataset.open(made[0].path)


def test_missing_data_set(tmp_path):
    with pytest.raises(ArtefactError, match=r"manifest\.json is missing"):
        AudioDataset.open(tmp_path)
