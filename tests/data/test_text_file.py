"""The user's own texts: real sentences written as tables by the test, and read back by csv and json."""

import csv
import gzip
import json

import numpy as np
import pytest

from jaxkd.data import prepare
from jaxkd.data.fetch import fetch
from jaxkd.data.movie_reviews import PACKAGE, read_reviews
from jaxkd.errors import ConfigError, DataError
from tests.data.corpora import class_by_text, data_config

NAMES = ("negative", "positive", "long")


@pytest.fixture(scope="module")
def sentences(cache_dir):
    """200 different texts with the names of three classes in turn; one stands on several lines of a CSV file."""
    reviews = read_reviews(fetch(PACKAGE, cache_dir))
    by_class = [reviews["rotten_tomatoes"].take(np.flatnonzero(reviews["rotten_tomatoes"].classes == number)[:67]).inputs for number in (0, 1)]
    by_class.append(reviews["imdb"].inputs[:67])
    found = [(by_class[row % 3][row // 3], NAMES[row % 3]) for row in range(200)]
    return [(f"{found[0][0]}\n\nin parts", found[0][1]), *found[1:]]


def write_csv(path, rows, header=("text", "label")):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_json(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def prepared(path, tmp_path, **fields):
    return prepare(data_config("text_file", folder=str(path), **{"valid": 0, **fields}), tmp_path / "cache")


@pytest.mark.parametrize("name", ["mine.csv", "mine.csv.gz"])
def test_one_file_with_ids_by_row(name, sentences, tmp_path):
    path = write_csv(tmp_path / name, sentences)
    dataset = prepared(path, tmp_path)
    assert dataset.modality == "text" and dataset.classes == ("long", "negative", "positive")
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 120, "valid": 40, "test": 40}
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="", encoding="utf-8") as file:
        expected = {f"train/{number}": (row["text"], row["label"]) for number, row in enumerate(csv.DictReader(file))}
    ids = [example for split in dataset.splits.values() for example in split]
    classes = [dataset.classes[place] for place in dataset.labels(ids).argmax(axis=1)]
    assert dict(zip(ids, zip(dataset.gather(ids), classes, strict=True), strict=True)) == expected
    assert dataset.label_mask(ids).all()


def test_a_folder_of_parts_with_columns_and_ids_of_its_own(sentences, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    parts = {"train": sentences[:100], "valid": sentences[100:130], "test": sentences[130:170], "unseen": sentences[170:]}
    stars = {name: number for number, name in enumerate(NAMES)}
    for part, rows in parts.items():
        if part in ("train", "unseen"):
            lines = [{"id": f"{part}-{row}", "body": text, "stars": stars[name], "more": None} for row, (text, name) in enumerate(rows)]
            write_json(folder / f"{part}.jsonl", lines)
        else:
            write_csv(folder / f"{part}.csv", [(stars[name], text, f"{part}-{row}") for row, (text, name) in enumerate(rows)], ("stars", "body", "id"))
    dataset = prepared(folder, tmp_path, text_column="body", label_column="stars", unseen=-1, labelled=30)
    assert dataset.classes == ("0", "1", "2")
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 100, "valid": 30, "test": 40, "unseen": 30}
    for part, rows in parts.items():
        ids = [f"{part}-{row}" for row in range(len(rows))]
        assert sorted(dataset.splits[part]) == sorted(ids)
        assert dataset.gather(ids) == [text for text, _ in rows]
        known = dataset.label_mask(ids).all(axis=1)
        assert known.sum() == (30 if part == "train" else len(ids))
        np.testing.assert_array_equal(dataset.labels(ids).argmax(axis=1)[known], np.array([stars[name] for _, name in rows])[known])
    assert "unseen" not in prepared(folder, tmp_path, text_column="body", label_column="stars").splits


def test_training_rows_without_a_label_are_transferred(sentences, tmp_path):
    without = [(text, " ") for text, _ in sentences[150:]]
    copies = [(sentences[0][0], ""), (sentences[150][0], "")]
    path = write_csv(tmp_path / "mine.csv", [*copies, *sentences[:150], *without])
    dataset = prepared(path, tmp_path, test=30, valid=20)
    known = {text for text, _ in sentences[:150]}
    for split, count in (("valid", 20), ("test", 30)):
        found = class_by_text(dataset, split)
        assert len(found) == count and found.keys() <= known and None not in found.values()
    train = class_by_text(dataset, "train")
    assert {text for text, name in train.items() if name is None} == {text for text, _ in without}
    assert len(dataset.splits["train"]) == len(train) == 150
    assert dataset.notes["duplicates"] == {"copies left out of train": 2, "of them with another label than the first": 0}
    assert dataset.notes["rows"]["unlabelled"].endswith(", 50 of them without a label")
    fewer = prepared(path, tmp_path, test=30, valid=20, labelled=60, unlabelled=45)
    transferred = {text for text, name in class_by_text(fewer, "train").items() if name is None}
    assert len(fewer.splits["train"]) == 105 and len(transferred) == 45 and len(transferred & known) == 40
    assert class_by_text(fewer, "valid") == class_by_text(dataset, "valid")
    with pytest.raises(ConfigError, match=r"labelled=101, .*text_file has 200 different rows for .* together, 50 of them without a label"):
        prepared(path, tmp_path, test=30, valid=20, labelled=101)
    lines = [{"text": text, "label": name.strip() or None} for text, name in [*sentences[:150], *without]]
    assert class_by_text(prepared(write_json(tmp_path / "mine.json", lines), tmp_path, test=30, valid=20), "train").keys() == train.keys()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train.csv": "text,label\na,x\nb,y\n", "test.csv": "text,label\nc,x\nd,z\n"},
            r"test\.csv, line 3: the label is 'z', which no row of",
        ),
        ({"train.csv": "text,label\na,x\nb,y\n", "valid.csv": "text,label\nc,\n"}, r"valid\.csv, line 2: the label is empty, .*fill it in, or remove the line"),
        ({"train.csv": "text,label\na,x\nb,x\n"}, r"train\.csv: the column 'label' has 1 different labels \(x\), but there must be at least 2"),
        ({"train.csv": "text,label\na,x\nb\n"}, r"train\.csv, line 3: 1 columns, expected 2 \(text, label\)"),
        ({"train.csv": "a,b\n1,2\n"}, r"train\.csv, line 1 has no text and no label; its keys are a, b\. Name the columns with data\.text_column"),
        ({"train.csv": "text,label,text\na,x,b\n"}, r"train\.csv, line 1: the header names a column twice \(text, label, text\)"),
        ({"train.csv": "text,label\n"}, r"train\.csv holds no rows"),
        ({"train.csv": "id,text,label\n7,a,x\n7,b,y\n"}, r"train\.csv, line 3: the id is '7', which stands at .*train\.csv, line 2 too"),
        ({"train.csv": "id,text,label\n7,a,x\n,b,y\n"}, r"train\.csv, line 3: the id is '', which names no example"),
        ({"train.json": '{"text": "a", "label": "x"}\n{"text": "b"}\n'}, r"train\.json, line 2 has no label; its keys are text"),
        ({"train.json": '{"text": "a", "label": ["x"]}\n'}, r"train\.json, line 1: 'label' is \['x'\], but must be a string or a number"),
        ({"train.json": '{"text": 5, "label": "x"}\n'}, r"train\.json, line 1: 'text' is 5, but must be a string"),
        ({"train.csv": "text,label\na,x\n", "train.jsonl": ""}, r"should hold one file train \(.*; it holds train\.csv, train\.jsonl"),
        ({"test.csv": "text,label\na,x\n"}, r"should hold one file train \(.*; it holds none"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(files, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, tmp_path)
    assert not (tmp_path / "cache" / "datasets").exists()


def test_no_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.source=text_file needs data\.folder=FILE"):
        prepared("", tmp_path)
