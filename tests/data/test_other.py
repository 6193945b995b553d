"""Another data set in our classes, and a data set with fewer labels."""

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from jaxkd import config as configs
from jaxkd import pipeline, teachers
from jaxkd.data.dataset import Split, write_dataset
from jaxkd.data.fewer_labels import fewer_labels
from jaxkd.data.other import as_multilabel, checked_pairs, class_pairs, in_our_classes, other_config
from jaxkd.errors import ConfigError

THEIRS = ("grand", "upright", "kit", "kazoo")


@pytest.fixture
def dataset(tmp_path):
    """Eight training and four test clips of four classes; 1 is there, 0 is not, -1 is unknown."""
    known = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [-1, 1, 0, 1], [-1, 0, 1, 0], [0, 0, -1, 1], [0, 0, 0, -1], [1, -1, 1, 1], [-1, -1, -1, -1]])
    rows = {
        split: Split([f"{split}/{i}" for i in range(n)], np.ones((n, 10), np.int16), np.float32(known[:n] == 1), known[:n] >= 0)
        for split, n in (("train", 8), ("valid", 2), ("test", 4))
    }
    fields = {"name": "small", "fingerprint": "f", "modality": "audio", "task": "multilabel", "notes": {}, "licence": "", "sample_rate": 16000}
    return write_dataset(tmp_path / "set", classes=THEIRS, splits=rows, **fields)


def test_a_class_of_ours_is_there_where_one_that_stands_for_it_is_and_absent_where_all_are(dataset):
    pairs = class_pairs(["grand=piano", "upright=piano", "kit = drums"])
    mapped = in_our_classes(dataset, ("drums", "piano", "violin"), checked_pairs(pairs, THEIRS, ("drums", "piano", "violin")))
    ids = dataset.splits["train"]
    mask, labels = mapped.label_mask(ids), mapped.labels(ids)
    seen = np.where(mask, labels, -1).astype(int)
    assert seen.tolist() == [[0, 1, -1], [1, 1, -1], [0, 1, -1], [1, -1, -1], [-1, 0, -1], [0, 0, -1], [1, 1, -1], [-1, -1, -1]]
    assert mapped.classes == ("drums", "piano", "violin") and mapped.fully_labelled is dataset and mapped.fingerprint != dataset.fingerprint
    assert dataset.labels(ids).shape == (8, 4)


def test_one_class_a_clip_is_a_label_that_is_there_and_others_that_are_not(tmp_path):
    labels = np.eye(4, dtype=np.float32)[[2, 0, 3]]
    rows = {split: Split([f"{split}/{i}" for i in range(3)], np.ones((3, 10), np.int16), labels, np.ones((3, 4), bool)) for split in ("train", "valid", "test")}
    fields = {"name": "one", "fingerprint": "f", "modality": "audio", "task": "multiclass", "notes": {}, "licence": "", "sample_rate": 16000}
    theirs = write_dataset(tmp_path / "set", classes=THEIRS, splits=rows, **fields)
    mapped = in_our_classes(as_multilabel(theirs), ("drums", "piano", "violin"), class_pairs(["grand=piano", "upright=piano", "kit=drums"]))
    ids = theirs.splits["test"]
    assert np.where(mapped.label_mask(ids), mapped.labels(ids), -1).tolist() == [[1, 0, -1], [0, 1, -1], [0, 0, -1]]
    assert (mapped.task, mapped.fully_labelled.task, theirs.task) == ("multilabel", "multilabel", "multiclass")
    np.testing.assert_array_equal(mapped.fully_labelled.labels(ids), labels)


def test_without_pairs_the_names_that_both_have():
    assert checked_pairs([], ("drums", "kazoo", "piano"), ("piano", "violin", "drums")) == [("drums", "drums"), ("piano", "piano")]
    assert class_pairs(["piano", "kit=drums"]) == [("piano", "piano"), ("kit", "drums")]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["kitt=drums"], r"unknown class of the other data set .* 'kitt'. Did you mean 'kit'\? Valid: grand, kazoo, kit, upright"),
        (["kit=drum"], r"unknown class of ours .* 'drum'. Did you mean 'drums'\? Valid: drums, piano"),
        (["kit=drums", "kit = drums"], "each once"),
        (["kit="], "an entry is THEIRS=OURS"),
        ([], "have no class of the same name: list pairs THEIRS=OURS"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(entries, message):
    with pytest.raises(ConfigError, match=message):
        checked_pairs(class_pairs(entries), THEIRS, ("drums", "piano"))


def other(**fields):
    config = configs.default_config()
    config.other.update({"source": "rendered_instruments", "seed": 1} | fields)
    return config


def test_the_other_set_is_made_as_ours_at_our_rate_and_at_our_length_unless_it_has_its_own():
    config = other(classes=("piano", "drums", "choir=organ"))
    made = other_config(config)
    assert (made.source, made.seed, made.unlabelled, made.unseen) == ("rendered_instruments", 1, 0, 0)
    assert made.classes == ("piano", "drums", "choir")
    assert (made.sample_rate, made.clip_seconds) == (config.data.sample_rate, config.data.clip_seconds)
    pipeline.check(config)
    config.other.clip_seconds = 10.0
    assert (other_config(config).sample_rate, other_config(config).clip_seconds, config.data.clip_seconds) == (16000, 10.0, 3.0)
    pipeline.check(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": ("pian=piano",)}, "unknown instrument class 'pian'. Did you mean 'piano'?"),
        ({"classes": ("piano=pian",)}, "unknown class of ours in config.other.classes 'pian'. Did you mean 'piano'?"),
        ({"source": "audio_foldr"}, "Did you mean 'audio_folder'?"),
        ({"source": "audio_folder"}, "config.other.folder is empty, but config.other.source='audio_folder' reads it"),
        ({"source": "imdb"}, "another data set is for many labels a clip, but imdb is text"),
        ({"name": "a/b"}, "config.other.name is 'a/b', but it names a split"),
        ({"name": "probe"}, "no 'probe' at the end"),
        ({"clip_seconds": 2.9}, "config.other.clip_seconds is 2.9, but the teacher MTT_musicnn needs clips of at least 2.976 s: raise it"),
        ({"clip_seconds": 61.0}, "config.other.clip_seconds is 61.0, but must be between 0.1 and 60"),
        ({"clip_seconds": -1.0}, "config.other.clip_seconds is -1.0, but must be at least 0"),
        ({"source": "", "clip_seconds": 5.0}, "config.other.clip_seconds is 5.0, but must be left alone where there is no other data set"),
        ({"archives": ("a.npz",)}, "config.other.archives is ('a.npz',), but 0 of the teachers are read from disk"),
    ],
)
def test_another_set_is_checked_before_anything_is_read(fields, message):
    with pytest.raises(ConfigError) as caught:
        pipeline.check(other(**fields))
    assert message in str(caught.value)


def test_clips_that_are_too_short_for_the_student_are_refused_before_anything_is_read(tmp_path):
    config = other(clip_seconds=0.4)
    np.savez(tmp_path / "ours.npz", ids=["one"], embeddings=np.zeros((1, 4), np.float32))
    config.teacher.update({"name": "precomputed", "embedding": "", "archive": str(tmp_path / "ours.npz")})
    with pytest.raises(ConfigError, match=r"config.other.clip_seconds is 0.4, but the student 'cp_resnet_small' needs clips of at least 0.449 s"):
        pipeline.check(config)
    config.data.clip_seconds = 0.3
    with pytest.raises(ConfigError, match=r"config.data.clip_seconds is 0.3, but the student 'cp_resnet_small'"):
        pipeline.check(config)


@pytest.mark.parametrize(
    ("archives", "message"),
    [
        (("one.npz",), "but 2 of the teachers are read from disk: name one archive for each teacher 'precomputed', in their order"),
        (("one.npz", "absent.npz"), "read from absent.npz: there is no such folder or file"),
        (("one.npz", "two.parquet"), ""),
        ((), ""),
    ],
)
def test_the_other_set_may_have_embeddings_of_its_own(tmp_path, monkeypatch, archives, message):
    monkeypatch.chdir(tmp_path)
    for name in ("ours.npz", "one.npz"):
        np.savez(name, ids=["one"], embeddings=np.zeros((1, 4), np.float32))
    for name in ("ours.parquet", "two.parquet"):
        parquet.write_table(pyarrow.table({"id": ["one"], "embedding": [[0.0] * 4]}), name)
    config = other(archives=archives)
    config.teacher.update({"name": "precomputed", "embedding": "", "archive": "ours.npz"})
    config.teacher.others = ("MSD_vgg", "precomputed archive=ours.parquet")
    if message:
        with pytest.raises(ConfigError, match=message):
            pipeline.check(config)
        return
    pipeline.check(config)
    assert [choice.archive for choice in teachers.other_choices(config)] == ([archives[0], "", archives[1]] if archives else ["ours.npz", "", "ours.parquet"])
    before = configs.fingerprint(config)
    config.other.archives = ("elsewhere.npz", "two.parquet")
    assert configs.fingerprint(config) == before


def test_a_trained_classifier_is_tested_on_another_set_too():
    config = other()
    config.teacher.classifier = "linear"
    pipeline.check(config)


def test_classes_of_a_folder_are_checked_against_its_header(tmp_path):
    (tmp_path / "labels.csv").write_text("file,split,grand,kit\n")
    config = other(source="audio_folder", folder=str(tmp_path), classes=("grand=piano", "kitt=drums"))
    with pytest.raises(ConfigError, match=r"'kitt'\. Did you mean 'kit'"):
        pipeline.check(config)
    config.other.classes = ("grand=piano", "kit=drums")
    pipeline.check(config)


def test_fewer_labels_are_nested_and_leave_the_rest_alone(dataset):
    train = dataset.splits["train"]
    labelled = [frozenset(np.flatnonzero(fewer_labels(dataset, share, 0).label_mask(train).any(axis=1))) for share in (0.25, 0.5, 0.75, 1.0)]
    assert [len(rows) for rows in labelled] == [2, 4, 5, 7]
    assert labelled[0] < labelled[1] < labelled[2] < labelled[3]
    half = fewer_labels(dataset, 0.5, 0)
    rows = [train[row] for row in labelled[1]]
    np.testing.assert_array_equal(half.labels(rows), dataset.labels(rows))
    np.testing.assert_array_equal(half.label_mask(rows), dataset.label_mask(rows))
    assert not half.labels([name for name in train if name not in rows]).any()
    np.testing.assert_array_equal(half.labels(dataset.splits["test"]), dataset.labels(dataset.splits["test"]))
    assert half.splits == dataset.splits and half.fully_labelled is dataset and half.fingerprint != dataset.fingerprint
    assert fewer_labels(dataset, 1.0, 0) is dataset
    draws = {tuple(fewer_labels(dataset, 0.5, seed).label_mask(train).any(axis=1)) for seed in range(4)}
    assert len(draws) > 1


def test_fewer_labels_of_classes_are_refused(dataset):
    dataset.task = "multiclass"
    with pytest.raises(ConfigError, match=r"choose labels by data\.labelled"):
        fewer_labels(dataset, 0.5, 0)
