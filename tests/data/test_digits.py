"""The digits against scikit-learn's, and how rows of known classes are drawn."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxkd.data.digits import prepare
from jaxkd.data.hidden_classes import stratified_order
from jaxkd.errors import ArtefactError, ConfigError

FIELDS = {"source": "digits_bin", "labelled": 100, "unlabelled": 300, "valid": 200, "test": 0, "seed": 0, "archive": ""}


def prepared(tmp_path, **fields):
    return prepare(SimpleNamespace(**{**FIELDS, **fields}), tmp_path)


def images_of(dataset, split):
    return [image.tobytes() for image in dataset.gather(dataset.splits[split])]


@pytest.fixture(scope="module")
def digit_of():
    """Each digit by its pixels; no two images are equal."""
    digits = load_digits()
    return {np.round(image * 255 / 16).astype(np.uint8).tobytes(): digit for image, digit in zip(digits.images, digits.target, strict=True)}


def test_rows_are_those_of_scikit_learn(tmp_path, digit_of):
    dataset = prepared(tmp_path)
    assert (dataset.modality, dataset.task, dataset.classes, dataset.input_shape) == ("image", "multiclass", ("even", "odd"), (8, 8, 1))
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 400, "valid": 200, "test": 360}
    assert (dataset.splits["train"][0], dataset.splits["valid"][199], dataset.splits["test"][-1]) == ("train/00000", "valid/00199", "test/00359")
    for split, ids in dataset.splits.items():
        expected = np.array([digit_of[image] for image in images_of(dataset, split)])
        fine = dataset.fine_labels(ids)
        np.testing.assert_array_equal([int(dataset.fine_classes[label]) for label in fine], expected)
        mask = dataset.label_mask(ids)
        np.testing.assert_array_equal(mask.all(axis=1), np.arange(len(ids)) < (100 if split == "train" else len(ids)))
        np.testing.assert_array_equal(dataset.labels(ids), np.where(mask, np.eye(2)[expected % 2], 0))
        assert dataset.gather(ids).dtype == np.uint8


def test_all_rows_are_used_once(tmp_path, digit_of):
    dataset = prepared(tmp_path, labelled=0, unlabelled=-1)
    drawn = [image for split in dataset.splits for image in images_of(dataset, split)]
    assert Counter(drawn) == Counter(list(digit_of))
    assert dataset.label_mask(dataset.splits["train"]).all()
    rest = prepared(tmp_path, unlabelled=-1)
    assert len(rest.splits["train"]) == 1437 - 200


def test_ten_classes_have_no_hidden_ones(tmp_path, digit_of):
    dataset = prepared(tmp_path, source="digits")
    ids = dataset.splits["test"]
    assert (len(dataset.classes), dataset.fine_classes) == (10, ())
    np.testing.assert_array_equal(dataset.labels(ids).argmax(axis=1), [digit_of[image] for image in images_of(dataset, "test")])


def test_fewer_labels_are_part_of_more_and_validation_stays(tmp_path):
    few, more, other = prepared(tmp_path, labelled=30), prepared(tmp_path, labelled=100), prepared(tmp_path, seed=1)
    assert images_of(few, "train")[:30] == images_of(more, "train")[:30]
    assert images_of(few, "valid") == images_of(more, "valid")
    assert set(images_of(other, "valid")) != set(images_of(more, "valid"))
    assert set(images_of(other, "test")) == set(images_of(more, "test"))
    assert len({few.fingerprint, more.fingerprint, other.fingerprint}) == 3


def test_every_beginning_is_stratified(tmp_path):
    classes = np.repeat(np.arange(10), 50)
    order = stratified_order(classes, np.random.default_rng(0))
    assert sorted(order) == list(range(500))
    for count in (10, 37, 100, 433):
        assert np.ptp(np.bincount(classes[order[:count]], minlength=10)) <= 1
    assert len(set(order[:100] % 50)) > 30, "not the first of each class"
    dataset = prepared(tmp_path)
    assert set(np.bincount(dataset.fine_labels(dataset.splits["train"][:100]))) <= {9, 10, 11}


def test_uneven_classes_keep_their_shares():
    classes = np.repeat([0, 1, 2], [900, 90, 10])
    order = stratified_order(classes, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(classes[order[:100]]), [90, 9, 1], atol=1)


def test_again_is_opened_and_an_altered_set_is_refused(tmp_path):
    dataset = prepared(tmp_path)
    assert prepared(tmp_path).path == dataset.path
    file = dataset.path / "train.inputs.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"train\.inputs\.npy was altered"):
        prepared(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labelled": 1300}, "valid=200, labelled=1300 and unlabelled=300 images, but digits_bin has 1,437 for the three"),
        ({"unlabelled": 1138}, "unlabelled=1138 images, but digits_bin has 1,437"),
        ({"valid": 1438, "labelled": 0, "unlabelled": 0}, "valid=1438"),
        ({"labelled": 0, "unlabelled": 1}, "labelled=0 and unlabelled=1"),
        ({"labelled": 9}, r"config\.data\.labelled is 9, but must be at least 10"),
        ({"valid": 0}, r"config\.data\.valid is 0"),
        ({"test": 361}, r"config\.data\.test is 361, but digits_bin has 360 test images"),
    ],
)
def test_impossible_numbers(fields, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        prepared(tmp_path, **fields)
