import csv
import gzip
import json

import numpy as np
import pytest

from jaxkd.data import prepare
from jaxkd.errors import ConfigError, DataError
from tests.data.corpora import class_by_text, data_config

STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")


def reviews(count, prefix):
    """(stars, title, text), stars in turn."""
    return [(row % 5 + 1, f'{prefix} "title", {row}', f"text of {prefix}\nnumber {row}, \u00e9") for row in range(count)]


def write_csv(path, rows):
    """The layout of amazon_review_full: every field quoted, quotes doubled, a line break written as a backslash and an n."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([label, title, text.replace("\n", "\\n")] for label, title, text in rows)


def write_json(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "amazon_review_full_csv"
    path.mkdir()
    write_csv(path / "train.csv", reviews(100, "train"))
    write_csv(path / "test.csv", reviews(25, "test"))
    return path


def prepared(path, tmp_path, **fields):
    return prepare(data_config("amazon_reviews", folder=str(path), **fields), tmp_path / "cache")


def test_five_stars_of_the_released_csv(folder, tmp_path):
    dataset = prepared(folder, tmp_path, labelled=20)
    assert dataset.classes == STARS and not dataset.fine_classes
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 90, "valid": 10, "test": 25}
    assert class_by_text(dataset, "test") == {f"{title}\n{text}": STARS[stars - 1] for stars, title, text in reviews(25, "test")}
    train = class_by_text(dataset, "train") | class_by_text(dataset, "valid")
    expected = {f"{title}\n{text}": STARS[stars - 1] for stars, title, text in reviews(100, "train")}
    assert train.keys() == expected.keys() and all(name in (None, expected[text]) for text, name in train.items())


def test_two_classes_leave_three_stars_out(folder, tmp_path):
    dataset = prepared(folder, tmp_path, binary=True)
    assert dataset.classes == ("negative", "positive") and dataset.fine_classes == ("1 star", "2 stars", "4 stars", "5 stars")
    mapping = {1: "negative", 2: "negative", 4: "positive", 5: "positive"}
    assert class_by_text(dataset, "test") == {f"{title}\n{text}": mapping[stars] for stars, title, text in reviews(25, "test") if stars != 3}
    ids = dataset.splits["test"]
    fine = dict(zip(dataset.gather(ids), dataset.fine_labels(ids), strict=True))
    assert all(dataset.fine_classes[fine[f"{title}\n{text}"]] == STARS[stars - 1] for stars, title, text in reviews(25, "test") if stars != 3)
    assert dataset.notes["reviews of three stars left out"] == {"train.csv": 20, "test.csv": 5}
    assert dataset.notes["classes"] == {"negative": "1 star, 2 stars", "positive": "4 stars, 5 stars"}


@pytest.mark.parametrize(("text_key", "label_key"), [("reviewText", "overall"), ("text", "rating")])
def test_json_lines_of_both_ages(text_key, label_key, tmp_path):
    rows = [{label_key: float(stars), text_key: text, "summary": title, "asin": "x"} for stars, title, text in reviews(100, "json")]
    rows.append({label_key: 5.0, text_key: "a lone surrogate \ud83d here"})
    rows.append({label_key: 5.0})
    write_json(tmp_path / "Books_5.json.gz", rows)
    dataset = prepared(tmp_path / "Books_5.json.gz", tmp_path)
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 71, "valid": 10, "test": 20}
    found = {text: name for split in dataset.splits for text, name in class_by_text(dataset, split).items()}
    assert found == {text: STARS[stars - 1] for stars, _, text in reviews(100, "json")} | {"a lone surrogate ? here": "5 stars"}
    assert dataset.notes["empty texts left out"] == {"train": 1}


def test_other_columns_are_named(tmp_path):
    lines = "\n".join(f"{row % 5 + 1},x,opinion {row}" for row in range(60))
    (tmp_path / "mine.csv").write_text(f"points,id,opinion\n{lines}\n")
    dataset = prepared(tmp_path / "mine.csv", tmp_path, text_column="opinion", label_column="points")
    found = {text: name for split in dataset.splits for text, name in class_by_text(dataset, split).items()}
    assert found == {f"opinion {row}": STARS[row % 5] for row in range(60)}
    write_json(tmp_path / "mine.jsonl.gz", [{"opinion": f"json {row}", "points": row % 5 + 1, "overall": 9} for row in range(60)])
    dataset = prepared(tmp_path / "mine.jsonl.gz", tmp_path, text_column="opinion", label_column="points")
    np.testing.assert_array_equal(np.sort([int(text.split()[1]) for ids in dataset.splits.values() for text in dataset.gather(ids)]), np.arange(60))


def test_a_changed_file_is_noticed(folder, tmp_path):
    first = prepared(folder, tmp_path)
    assert prepared(folder, tmp_path).path == first.path != prepared(folder, tmp_path, binary=True).path
    write_csv(folder / "train.csv", reviews(101, "train"))
    assert prepared(folder, tmp_path).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"6","t","x"\n', r"train\.csv, line 1: the label is '6', but must be a whole number of stars, 1 to 5"),
        ('"5","t","x"\n"","t","x"\n', "line 2: the label is ''"),
        ('"5","t","x"\n"4.5","t","x"\n', "line 2: the label is '4.5'"),
        ('label,title,text\n"5","t","x"\n', "line 1: the label is 'label'"),
        ('"5","x"\n', r"line 1: 2 columns, expected 3 \(label, title, text\)"),
        ("", r"train\.csv holds no reviews"),
        ('"5",""," "\n', "the train part has 1 rows, and not one with a text that is not empty: choose another text column"),
        ('"5","t","' + "x" * 200_000, r"cannot be read after 0 reviews \(field larger than field limit"),
    ],
)
def test_damaged_csv(content, message, folder, tmp_path):
    (folder / "train.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        prepared(folder, tmp_path)


@pytest.mark.parametrize(
    ("lines", "fields", "message"),
    [
        (['{"overall": 5.0, "reviewText": "x"}', "{'overall': 5.0}"], {}, r"mine\.json, line 2 is not JSON"),
        (['{"stars": 5, "body": "x"}'], {}, r"line 1 has no text and no rating; its keys are stars, body\. Name the columns with data\.text_column"),
        (['{"overall": 5.0, "reviewText": "x"}', "", '{"reviewText": "y"}'], {}, "line 3 has no overall; its keys are reviewText"),
        (['{"overall": 5.0, "reviewText": "x"}'], {"text_column": "body", "label_column": "overall"}, "line 1 has no body; its keys are overall, reviewText"),
        (['{"overall": null, "reviewText": "x"}'], {}, "line 1: the label is None"),
        (["[5]"], {}, "line 1 has no text and no rating; its keys are none"),
    ],
)
def test_damaged_json(lines, fields, message, tmp_path):
    (tmp_path / "mine.json").write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        prepared(tmp_path / "mine.json", tmp_path, **fields)


def test_wrong_files(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"amazon_reviews needs data\.folder=FOLDER"):
        prepared("", tmp_path)
    with pytest.raises(ConfigError, match=r"text_column='x' and data\.label_column='': name both"):
        prepared(folder, tmp_path, text_column="x")
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        prepared(tmp_path / "nowhere", tmp_path)
    (folder / "test.csv").rename(folder / "test.txt")
    with pytest.raises(DataError, match=r"should hold one file test \(\.csv, .*it holds none"):
        prepared(folder, tmp_path)
    with pytest.raises(DataError, match=r"test\.txt should end in \.csv, \.json, \.jsonl"):
        prepared(folder / "test.txt", tmp_path)
    with pytest.raises(DataError, match=r"line 1 has no body; its keys are 1, .*\. Name the columns"):
        prepared(folder / "train.csv", tmp_path, text_column="body", label_column="1")
    (folder / "cut.csv.gz").write_bytes(gzip.compress((folder / "train.csv").read_bytes())[:-40])
    with pytest.raises(DataError, match=r"cut\.csv\.gz cannot be read after \d+ reviews \(.*end-of-stream"):
        prepared(folder / "cut.csv.gz", tmp_path)
    (folder / "latin.csv").write_bytes("5,t,\u00e9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv cannot be read after 0 reviews \(.*utf-8"):
        prepared(folder / "latin.csv", tmp_path)
