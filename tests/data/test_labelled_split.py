from collections import Counter

import numpy as np
import pytest

from jaxkd.data.labelled_split import Corpus, Examples, fixed_rows, prepare_corpus
from jaxkd.errors import ArtefactError, ConfigError, DataError
from tests.data.corpora import class_by_text, data_config

NAMES = ("a", "b", "c", "d")
GROUPS = {"even": ("a", "c"), "odd": ("b", "d")}


def rows(prefix, counts):
    classes = np.repeat(np.arange(len(counts)), counts)
    return Examples([f"{prefix} {NAMES[number]} {row}" for row, number in enumerate(classes)], classes)


def corpus(**changes):
    parts = {"train": rows("train", (40, 80, 20, 60)), "test": rows("test", (10, 10, 10, 10)), "unseen": rows("unseen", (6, 6, 6, 6))}
    return Corpus(**{**parts, "originals": NAMES, "groups": None, "licences": {"texts": "none"}, **changes})


def prepared(tmp_path, made=None, **fields):
    made = made or corpus()
    made_from = {"rows": [list(part.inputs) for part in made.parts.values()], "groups": made.groups}
    return prepare_corpus(data_config("letters", **fields), tmp_path, name="letters", made_from=made_from, load=lambda: made)


def test_labelled_rows_come_first_and_every_split_is_stratified(tmp_path):
    dataset = prepared(tmp_path, labelled=20, unlabelled=100, valid=40, test=8, unseen=12)
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 120, "valid": 40, "test": 8, "unseen": 12}
    train = dataset.splits["train"]
    assert train[0] == "train/00000" and train[119] == "train/00119"
    np.testing.assert_array_equal(dataset.label_mask(train), np.repeat([[True] * 4, [False] * 4], [20, 100], axis=0))
    assert not dataset.labels(train[20:]).any()
    assert Counter(class_by_text(dataset, "valid").values()) == {"a": 8, "b": 16, "c": 4, "d": 12}
    labelled = Counter(name for name in class_by_text(dataset, "train").values() if name)
    assert all(abs(labelled[name] - share) <= 1 for name, share in {"a": 4, "b": 8, "c": 2, "d": 6}.items())
    assert Counter(class_by_text(dataset, "test").values()) == dict.fromkeys(NAMES, 2)
    assert Counter(class_by_text(dataset, "unseen").values()) == dict.fromkeys(NAMES, 3)
    for split in ("valid", "test", "unseen"):
        assert all(text.split()[1] == name for text, name in class_by_text(dataset, split).items())
    texts = [text for ids in dataset.splits.values() for text in dataset.gather(ids)]
    assert len(set(texts)) == len(texts) == 180
    assert dataset.task == "multiclass" and dataset.modality == "text" and dataset.classes == NAMES and not dataset.fine_classes
    assert dataset.notes["rows"]["test"] == "8 (a 2, b 2, c 2, d 2)"


def test_more_labels_hold_the_fewer_ones_and_validation_stays(tmp_path):
    few, many = prepared(tmp_path, labelled=12, valid=20), prepared(tmp_path, labelled=60, valid=20)
    assert few.gather(few.splits["train"][:12]) == many.gather(many.splits["train"][:12])
    assert few.gather(few.splits["valid"]) == many.gather(many.splits["valid"])
    assert sorted(few.gather(few.splits["train"])) == sorted(many.gather(many.splits["train"]))


def test_the_seed_draws_train_and_valid_but_not_test_and_unseen(tmp_path):
    one, other = (prepared(tmp_path, test=16, unseen=12, seed=seed) for seed in (0, 1))
    assert one.gather(one.splits["valid"]) != other.gather(other.splits["valid"])
    for split in ("test", "unseen"):
        assert one.gather(one.splits[split]) == other.gather(other.splits[split])


def test_without_a_test_part_test_rows_are_drawn_by_seed(tmp_path):
    made = corpus(test=None)
    one, other = (prepared(tmp_path, made, seed=seed) for seed in (0, 1))
    assert len(one.splits["test"]) == 40 and Counter(class_by_text(one, "test").values()) == {"a": 8, "b": 16, "c": 4, "d": 12}
    assert one.gather(one.splits["test"]) != other.gather(other.splits["test"])
    assert not set(one.gather(one.splits["test"])) & set(one.gather(one.splits["train"]) + one.gather(one.splits["valid"]))
    assert len(prepared(tmp_path, made, test=50).splits["test"]) == 50


def test_groups_hide_the_original_classes(tmp_path):
    dataset = prepared(tmp_path, corpus(groups=GROUPS), labelled=16)
    assert dataset.classes == ("even", "odd") and dataset.fine_classes == NAMES
    for split, ids in dataset.splits.items():
        assert [NAMES[fine] for fine in dataset.fine_labels(ids)] == [text.split()[1] for text in dataset.gather(ids)]
        known = dataset.label_mask(ids).all(axis=1)
        np.testing.assert_array_equal(dataset.labels(ids).argmax(axis=1)[known], (dataset.fine_labels(ids) % 2)[known], err_msg=split)
    assert dataset.notes["classes"] == {"even": "a, c", "odd": "b, d"}


def test_copies_and_leaks_are_left_out_of_train_and_counted(tmp_path):
    base = rows("train", (10, 10, 10, 10))
    again = [base.inputs[0], f"  {base.inputs[1].replace(' ', '   ')}\n", "test a 0", "unseen a 0", "   "]
    made = corpus(train=Examples([*base.inputs, *again], np.append(base.classes, [0, 3, 0, 0, 0])))
    dataset = prepared(tmp_path, made, valid=8, unseen=4)
    texts = dataset.gather(dataset.splits["train"] + dataset.splits["valid"])
    assert sorted(texts) == sorted(base.inputs)
    assert dataset.notes["duplicates"]["copies left out of train"] == 2
    assert dataset.notes["duplicates"]["of them with another label than the first"] == 1
    assert dataset.notes["leakage"] == {"rows left out of train, being in test": 1, "rows left out of train, being in unseen": 1}
    assert dataset.notes["empty texts left out"] == {"train": 1}


def test_a_validation_part_keeps_nothing_of_test_and_unseen(tmp_path):
    own = rows("valid", (6, 6, 6, 6))
    valid = Examples([*own.inputs, "test a 0", "unseen d 20", own.inputs[0]], np.append(own.classes, [0, 3, 0]))
    train = rows("train", (10, 10, 10, 10))
    made = corpus(train=Examples([*train.inputs, own.inputs[5], "test a 1"], np.append(train.classes, [0, 0])), valid=valid)
    dataset = prepared(tmp_path, made, valid=0, unseen=-1)
    assert sorted(dataset.gather(dataset.splits["valid"])) == sorted([*own.inputs, own.inputs[0]])
    assert sorted(dataset.gather(dataset.splits["train"])) == sorted(train.inputs)
    assert (len(dataset.splits["test"]), len(dataset.splits["unseen"])) == (40, 24)
    assert dataset.notes["leakage"] == {
        "rows left out of train, being in valid": 1,
        "rows left out of train, being in test": 1,
        "rows left out of train, being in unseen": 0,
        "rows left out of valid, being in test": 1,
        "rows left out of valid, being in unseen": 1,
    }
    assert dataset.notes["duplicates"]["copies within valid, left in"] == 1


def test_images_are_compared_by_their_pixels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (48, 2, 2, 1)).astype(np.uint8)
    classes = np.arange(48) % 4
    train = Examples(np.concatenate([images[:40], images[:2], images[40:41]]), np.append(classes[:40], [0, 1, 0]))
    made = corpus(train=train, test=Examples(images[40:], classes[40:]), unseen=None)
    dataset = prepare_corpus(data_config("images"), tmp_path, name="images", made_from={}, load=lambda: made)
    assert dataset.modality == "image" and dataset.input_shape == (2, 2, 1) and dataset.notes["leakage"] == {"rows left out of train, being in test": 1}
    found = dataset.gather(dataset.splits["train"] + dataset.splits["valid"])
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in images[:40])
    assert dataset.notes["unseen"] == "images has no rows of another domain"


def test_it_is_read_once(tmp_path):
    first = prepared(tmp_path)

    def load():
        raise AssertionError("read again")

    made = corpus()
    made_from = {"rows": [list(part.inputs) for part in made.parts.values()], "groups": None}
    again = prepare_corpus(data_config("letters"), tmp_path, name="letters", made_from=made_from, load=load)
    assert again.path == first.path
    file = first.path / "train.labels.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\7")
    with pytest.raises(ArtefactError, match=r"train\.labels\.npy was altered"):
        prepare_corpus(data_config("letters"), tmp_path, name="letters", made_from=made_from, load=load)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labelled": 191}, r"labelled=191, .* 200 different rows for labelled, unlabelled and valid together"),
        ({"labelled": 100, "unlabelled": 91}, "unlabelled=91, data.valid=10"),
        ({"unlabelled": 1}, "labelled=0 labels all that are left"),
        ({"labelled": 3}, "labelled is 3, but must be at least 4, a row of each class of letters, or 0 for all"),
        ({"valid": 3}, "valid is 3, but must be at least 4"),
        ({"valid": 0, "test": 0, "labelled": 161}, "200 different rows for labelled, unlabelled and valid"),
        ({"test": 41}, "test is 41, but letters has 40 test rows"),
        ({"test": 3}, "test is 3, but must be at least 4"),
        ({"unseen": 25}, "unseen is 25, but letters has 24 unseen rows"),
    ],
)
def test_impossible_numbers_are_named(fields, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        prepared(tmp_path, **fields)
    assert not (tmp_path / "datasets").exists()


def test_no_unseen_part(tmp_path):
    with pytest.raises(ConfigError, match=r"unseen is 5, but letters has no rows of another domain: set it to 0"):
        prepared(tmp_path, corpus(unseen=None), unseen=5)
    assert "unseen" not in prepared(tmp_path, corpus(unseen=None), unseen=-1).splits


def test_labels_out_of_range_and_empty_texts(tmp_path):
    test = rows("test", (10, 10, 10, 10))
    unpublished = Examples(test.inputs, np.append(test.classes[:-1], -1))
    with pytest.raises(DataError, match=r"1 of 40 rows of the test part have a label outside 0 \.\. 3, the first of them row 39 with -1"):
        prepared(tmp_path, corpus(test=unpublished))
    with pytest.raises(DataError, match=r"the test part has 40 rows, and not one with a text that is not empty: choose another text column"):
        prepared(tmp_path, corpus(test=Examples([" \n"] * 40, test.classes)))


def test_fixed_rows_are_balanced_and_always_the_same():
    part = rows("test", (30, 30, 30, 30))
    chosen = fixed_rows(part, 20)
    assert np.bincount(chosen.classes).tolist() == [5] * 4 and chosen.inputs == fixed_rows(part, 20).inputs
    assert [int(text.split()[2]) for text in chosen.inputs] == sorted(int(text.split()[2]) for text in chosen.inputs)


@pytest.mark.parametrize("groups", [None, {"first": ("a", "b", "c"), "last": ("d",)}])
def test_a_class_that_never_occurs_is_named(tmp_path, groups):
    group = "d" if groups is None else "last"
    with pytest.raises(DataError, match=rf"letters: the 40 labelled rows hold none of the class '{group}': raise config.data.labelled"):
        prepared(tmp_path, corpus(train=rows("train", (40, 80, 20, 0)), groups=groups), labelled=40, valid=8)
    with pytest.raises(DataError, match=rf"letters: the 30 test rows hold none of the class '{group}'"):
        prepared(tmp_path, corpus(test=rows("test", (10, 10, 10, 0)), groups=groups), labelled=40, valid=8)
