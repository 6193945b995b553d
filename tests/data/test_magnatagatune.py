import csv
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from jaxkd.data import prepare
from jaxkd.errors import ConfigError, DataError, ResourceError
from tests.data.released import write_magnatagatune


@pytest.fixture(scope="module")
def released(tiny_dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("released") / "magnatagatune"
    return folder, write_magnatagatune(folder, tiny_dataset)


@pytest.fixture
def copy(released, tmp_path):
    """A folder of one's own to damage."""
    shutil.copytree(released[0], tmp_path / "own")
    return tmp_path / "own"


def prepared(folder, tmp_path, **fields):
    config = {"source": "magnatagatune", "folder": str(folder), "clip_seconds": 3.0, "sample_rate": 16_000, **fields}
    return prepare(SimpleNamespace(**config), tmp_path / "cache")


@pytest.fixture(scope="module")
def dataset(released, tmp_path_factory):
    return prepared(released[0], tmp_path_factory.mktemp("magnatagatune"))


def clip_ids(folder):
    with (folder / "annotations_final.csv").open() as file:
        return {row["mp3_path"]: row["clip_id"] for row in csv.DictReader(file, delimiter="\t")}


def test_the_most_frequent_tags_are_the_classes(dataset, released):
    counts = Counter(tag for tags in released[1].values() for tag in tags)
    assert len(dataset.classes) == 50
    assert [counts[tag] for tag in dataset.classes] == sorted(counts.values(), reverse=True)[:50]


def test_splits_by_folder_and_labels(dataset, released):
    folder, tagged = released
    ids = clip_ids(folder)
    expected = {"train": [], "valid": [], "test": []}
    for path, tags in tagged.items():
        split = "train" if path[0] in "0123456789ab" else "valid" if path[0] == "c" else "test"
        if set(tags) & set(dataset.classes) and (folder / path).is_file() and (folder / path).stat().st_size:
            expected[split].append(ids[path])
    assert dataset.splits == expected and [len(part) for part in expected.values()] == [24, 2, 5]
    path_of = {number: path for path, number in ids.items()}
    for part in dataset.splits.values():
        np.testing.assert_array_equal(dataset.labels(part), [[tag in tagged[path_of[number]] for tag in dataset.classes] for number in part])
        assert dataset.label_mask(part).all()
    assert dataset.notes["split"] == "train 24, valid 2, test 5: not the usual split, which has train 15,244, valid 1,529, test 4,332"
    assert dataset.notes["empty files of the release left out"] == 3


def test_audio_is_that_of_the_files(dataset, released):
    for path, number in list(clip_ids(released[0]).items())[:3]:
        expected, rate = soundfile.read(released[0] / path)
        assert rate == 16_000
        np.testing.assert_allclose(dataset.gather([number])[0, : len(expected)] / 32767.0, expected[:48_000], atol=2e-5)


def test_files_in_a_folder_mp3_and_at_another_rate(tiny_dataset, tmp_path, dataset):
    write_magnatagatune(tmp_path / "own", tiny_dataset, mp3="mp3")
    assert prepared(tmp_path / "own", tmp_path).fingerprint == dataset.fingerprint
    file = next((tmp_path / "own" / "mp3" / "1").glob("*.mp3"))
    sound, _ = soundfile.read(file)
    soundfile.write(file, np.stack([sound, np.zeros_like(sound)], axis=1), 32_000, format="MP3", subtype="MPEG_LAYER_III")
    assert prepared(tmp_path / "own", tmp_path).notes["decoded"]["resampled from 32000 Hz"] == 1


def test_everything_that_is_missing_is_named(copy, tmp_path):
    shutil.rmtree(copy / "d")
    files = sorted((copy / "1").iterdir())
    files[0].unlink()
    with pytest.raises(DataError, match=r"3 of 31 clips that .*\.csv lists are missing \(train 1, test 2\), for example .*/1/.* cat mp3\.zip\.001"):
        prepared(copy, tmp_path)
    for name in "0123456789abcef":
        shutil.rmtree(copy / name)
    with pytest.raises(DataError, match=r"lacks the folders 0 to 9 and a to f .* Unpack them there: cat mp3\.zip\.001"):
        prepared(copy, tmp_path)
    (copy / "annotations_final.csv").unlink()
    with pytest.raises(DataError, match=r"own lacks annotations_final\.csv"):
        prepared(copy, tmp_path)
    with pytest.raises(ConfigError, match=r"data\.source=magnatagatune needs data\.folder"):
        prepared("", tmp_path)


def test_another_empty_file_is_damage(copy, tmp_path):
    file = next((copy / "0").iterdir())
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"0-29\.mp3 is empty \(0 bytes\)"):
        prepared(copy, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0].replace("clip_id", "id"), *lines[1:]], r"line 1 has 62 columns, 'id' to 'mp3_path', but the header should be clip_id"),
        (lambda lines: [lines[0], lines[1].replace('"0"', '"2"'), *lines[2:]], "line 2 has '2' for a tag, but 0 or 1 is expected: take the released file"),
        (
            lambda lines: [lines[0], lines[1].replace("0/artist", "x/artist"), *lines[2:]],
            "line 2 has the path 'x/artist.*', but one below a folder 0 to 9 or a to f",
        ),
        (lambda lines: [lines[0], lines[1].rpartition("\t")[0], *lines[2:]], "line 2 has 61 columns, but the header 62"),
        (lambda lines: [*lines, lines[1]], r"lists the clip_id \d+ twice"),
        (lambda lines: [line for line in lines if "c/artist" not in line], "has no clip of split valid with one of its 50"),
        (lambda lines: lines[:1], "has no clip of split train, valid, test"),
        (lambda lines: [], "line 1 has nothing, but the header"),
    ],
)
def test_bad_annotations(change, message, copy, tmp_path):
    file = copy / "annotations_final.csv"
    file.write_text("\n".join(change(file.read_text().splitlines())))
    with pytest.raises(DataError, match=message):
        prepared(copy, tmp_path)


def test_without_a_decoder(released, tmp_path, monkeypatch):
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "Microsoft"})
    with pytest.raises(ResourceError, match=r"libsndfile .* cannot decode MP3 \(1\.1 and newer can\)"):
        prepared(released[0], tmp_path)
