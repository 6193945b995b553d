import json

import numpy as np
import pytest

from jaxkd.data.dataset import Dataset, Split, write_dataset
from jaxkd.errors import ArtefactError, DataError


def arrays(split, rows, rng):
    labels = rng.integers(0, 2, (rows, 3)).astype(np.float32)
    mask = rng.random((rows, 3)) < 0.6
    return Split([f"{split}/{i}" for i in range(rows)], rng.integers(-9, 9, (rows, 50)).astype(np.int16), labels, mask)


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(0)
    splits = {"train": arrays("train", 7, rng), "test": arrays("test", 4, rng)}
    dataset = write_dataset(
        tmp_path / "set",
        name="made",
        fingerprint="f" * 64,
        modality="audio",
        task="multilabel",
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
    np.testing.assert_array_equal(dataset.gather(ids), [splits[split].inputs[row] for split, row in places])
    np.testing.assert_array_equal(dataset.label_mask(ids), [splits[split].label_mask[row] for split, row in places])
    np.testing.assert_array_equal(dataset.labels(ids), [np.where(splits[s].label_mask[r], splits[s].labels[r], 0) for s, r in places])
    assert (dataset.gather(ids).dtype, dataset.labels(ids).dtype, dataset.label_mask(ids).dtype) == (np.int16, np.float32, np.bool_)
    assert (dataset.sample_rate, dataset.input_shape, dataset.classes, dataset.notes) == (100, (50,), ("a", "b", "c"), {"unseen": "none"})
    assert dataset.gather([]).shape == (0, 50)
    dataset.verify()


def test_unknown_id(made):
    with pytest.raises(DataError, match=r"2 of 3 ids are not in .*: 'test/9', 'x'"):
        made[0].gather(["test/9", "test/0", "x"])


def test_truncated_array(made):
    file = made[0].path / "train.inputs.npy"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ArtefactError, match=r"train\.inputs\.npy has 818 bytes, expected 828.*remove"):
        Dataset.open(made[0].path)


def test_altered_array_is_found_by_verify(made):
    file = made[0].path / "test.labels.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"test\.labels\.npy was altered"):
        Dataset.open_verified(made[0].path)


def test_reading_a_large_set_whole_shows_a_progress_line(made, monkeypatch, capsys):
    made[0].verify()
    assert not capsys.readouterr().err
    monkeypatch.setattr("jaxkd.data.dataset.LARGE_BYTES", 100)
    made[0].verify()
    assert "checking set: 100%" in capsys.readouterr().err


def test_missing_records_are_found_by_verify(made):
    (made[0].path / "records.json").unlink()
    with pytest.raises(ArtefactError, match=r"records\.json is missing: remove"):
        Dataset.open_verified(made[0].path)


def test_array_of_another_shape_and_the_same_size(made):
    file = made[0].path / "test.label_mask.npy"
    np.save(file, np.zeros((3, 4), np.bool_))
    with pytest.raises(ArtefactError, match=r"test\.label_mask\.npy holds bool \(3, 4\), expected bool \(4, 3\)"):
        Dataset.open(made[0].path)


def test_missing_array(made):
    (made[0].path / "test.inputs.npy").unlink()
    with pytest.raises(ArtefactError, match=r"test\.inputs\.npy is missing"):
        Dataset.open(made[0].path)


def test_altered_manifest(made):
    file = made[0].path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["classes"] = ["b", "a", "c"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=r"manifest\.json was altered"):
        Dataset.open(made[0].path)


@pytest.mark.parametrize("content", ["{", "", "[]", "{}"])
def test_broken_manifest(made, content):
    file = made[0].path / "manifest.json"
    file.write_text(content)
    with pytest.raises(ArtefactError, match=r"manifest\.json"):
        Dataset.open(made[0].path)


def test_missing_data_set(tmp_path):
    with pytest.raises(ArtefactError, match=r"manifest\.json is missing"):
        Dataset.open(tmp_path)


def one_hot(rows):
    return np.eye(2, dtype=np.float32)[np.arange(rows) % 2]


def test_texts_and_fine_labels_read_back(tmp_path):
    texts = {"train": ["naïve", "", "two words", "日本"], "test": ["x"]}
    splits = {s: Split([f"{s}/{i}" for i in range(len(t))], t, one_hot(len(t)), np.ones((len(t), 2), bool), np.arange(len(t))) for s, t in texts.items()}
    dataset = write_dataset(
        tmp_path / "set",
        name="made",
        fingerprint="f",
        modality="text",
        task="multiclass",
        classes="ab",
        fine_classes="wxyz",
        splits=splits,
        notes={},
        licence="MIT",
    )
    assert dataset.gather(["train/3", "test/0", "train/1", "train/0"]) == ["日本", "x", "", "naïve"]
    assert dataset.fine_labels(["train/3", "test/0"]).tolist() == [3, 0]
    assert (dataset.input_shape, dataset.sample_rate, dataset.task) == ((), None, "multiclass")


def test_images_read_back(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 1)).astype(np.uint8)
    split = Split(["a", "b", "c"], images, one_hot(3), np.ones((3, 2), bool))
    dataset = write_dataset(
        tmp_path / "set", name="m", fingerprint="f", modality="image", task="multiclass", classes="ab", splits={"train": split}, notes={}, licence="MIT"
    )
    np.testing.assert_array_equal(dataset.gather(["c", "a"]), images[[2, 0]])
    assert dataset.input_shape == (4, 5, 1)
    with pytest.raises(DataError, match="no fine labels"):
        dataset.fine_labels(["a"])
