import copy
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from jaxkd.config import default_config
from jaxkd.data import prepare
from jaxkd.data.instruments import INSTRUMENTS
from jaxkd.data.rendered_config import check_config
from jaxkd.errors import ArtefactError, ConfigError, ResourceError


def with_fields(config, **fields):
    config = copy.copy(config)
    vars(config).update(fields)
    return config


@pytest.fixture
def unseen(tiny_dataset):
    if "unseen" not in tiny_dataset.splits:
        pytest.skip(tiny_dataset.notes["unseen"])
    return tiny_dataset.splits["unseen"]


def test_sizes_and_masks(tiny_dataset, tiny_data_config):
    train = tiny_dataset.splits["train"]
    assert (len(train), len(tiny_dataset.splits["valid"]), len(tiny_dataset.splits["test"])) == (48, 16, 16)
    mask = tiny_dataset.label_mask(train)
    assert mask[:24].all() and not mask[24:].any() and not tiny_dataset.labels(train)[24:].any()
    assert tiny_dataset.input_shape == (48000,) and tiny_dataset.sample_rate == 16000 and tiny_dataset.classes == tiny_data_config.classes
    for split, ids in tiny_dataset.splits.items():
        known = ids[:24]
        labels, audio = tiny_dataset.labels(known), tiny_dataset.gather(ids).astype(np.float64)
        assert np.all(labels.sum(axis=0) >= 1) and set(labels.sum(axis=1)) <= {1, 2, 3}, split
        assert np.sqrt((audio**2).mean(axis=1)).min() > 300 and np.abs(audio).max() <= 0.98 * 32767 + 1
    tiny_dataset.verify()


def test_unseen_clips_are_the_test_clips_on_another_bank(tiny_dataset, unseen):
    test = tiny_dataset.splits["test"]
    assert [example.split("/")[1] for example in unseen] == [example.split("/")[1] for example in test]
    np.testing.assert_array_equal(tiny_dataset.labels(test), tiny_dataset.labels(unseen))
    one, other = tiny_dataset.gather(test).astype(np.float64), tiny_dataset.gather(unseen).astype(np.float64)
    level = [np.sqrt((audio**2).mean(axis=1)) for audio in (one, other)]
    assert np.median(np.abs(20 * np.log10(level[0] / level[1]))) < 0.5
    assert max(np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True)) < 0.95
    envelope = [np.abs(audio).reshape(len(audio), 60, -1).mean(axis=2) for audio in (one, other)]
    paired = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*envelope, strict=True)])
    crossed = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(envelope[0], np.roll(envelope[1], 1, axis=0), strict=True)])
    assert paired > crossed + 0.2


def test_splits_share_no_score(tiny_dataset):
    records = json.loads((tiny_dataset.path / "records.json").read_text())
    used = {split: {clip["score"] for clip in clips.values()} for split, clips in records.items()}
    assert not used["train"] & used["valid"] and not used["train"] & used["test"] and not used["valid"] & used["test"]
    assert tiny_dataset.notes["leakage"]["scores"] == []
    for split, ids in tiny_dataset.splits.items():
        for example, row in zip(ids[:24], tiny_dataset.labels(ids[:24]), strict=True):
            assert {voice["label"] for voice in records[split][example]["voices"]} == {tiny_dataset.classes[k] for k in np.flatnonzero(row)}


def test_notes(tiny_dataset, unseen):
    assert {"scores", "train bank", "unseen bank"} == set(tiny_dataset.notes["licences"])
    assert "music21" in tiny_dataset.notes["score_terms"]["folder"] and tiny_dataset.notes["renderer"].startswith("midirenderer ")
    report = tiny_dataset.notes["leakage"]["samples"]
    assert report["compared"][0] > 400 and 0 <= report["shared"] < 10


def test_again_opens_what_is_there(tiny_dataset, tiny_data_config, cache_dir, monkeypatch):
    monkeypatch.setattr("jaxkd.data.rendered.load_scores", None)
    assert prepare(tiny_data_config, cache_dir).fingerprint == tiny_dataset.fingerprint


@pytest.fixture
def other_cache(cache_dir, tmp_path, tiny_dataset):
    """A cache with the same archives and banks and no data set."""
    for folder in ("packages", "banks", "leakage"):
        if (cache_dir / folder).exists():
            shutil.copytree(cache_dir / folder, tmp_path / folder, copy_function=os.symlink)
    return tmp_path


@pytest.mark.parametrize("name", ["train.inputs.npy", "test.labels.npy"])
def test_altered_cached_set_is_refused(name, tiny_dataset, tiny_data_config, other_cache):
    file = other_cache / "datasets" / tiny_dataset.path.name / name
    shutil.copytree(tiny_dataset.path, file.parent)
    assert prepare(tiny_data_config, other_cache).path == file.parent
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match=rf"{name} was altered: .* remove {file.parent} and run again"):
        prepare(tiny_data_config, other_cache)


@pytest.mark.slow
def test_rendering_again_gives_the_same_bytes(tiny_dataset, tiny_data_config, other_cache):
    again = prepare(tiny_data_config, other_cache)
    assert again.path != tiny_dataset.path and again.fingerprint == tiny_dataset.fingerprint
    assert (again.path / "manifest.json").read_bytes() == (tiny_dataset.path / "manifest.json").read_bytes()
    again.verify()


def test_another_seed_is_another_data_set_and_off_is_noted(tiny_dataset, tiny_data_config, other_cache):
    config = with_fields(tiny_data_config, seed=1, unseen_bank="off", labelled=4, unlabelled=0, valid=2, test=2, unseen=2, clip_seconds=1.0, sample_rate=22050)
    other = prepare(config, other_cache)
    assert other.fingerprint != tiny_dataset.fingerprint and "unseen" not in other.splits
    assert other.notes["unseen"] == "switched off by data.unseen_bank=off" and other.input_shape == (22050,)


def test_full_disk_is_noticed_before_the_work(tiny_data_config, other_cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ResourceError, match="rendering 4 clips needs"):
        prepare(with_fields(tiny_data_config, labelled=1, unlabelled=0, valid=1, test=1, unseen=1), other_cache)


def test_full_memory_is_noticed_before_the_work(tiny_data_config, other_cache, monkeypatch):
    monkeypatch.setattr("jaxkd.files.available_memory_bytes", lambda: 1_000_000_000)
    monkeypatch.setattr("jaxkd.data.rendered.load_scores", None)
    config = with_fields(tiny_data_config, labelled=10_000, unlabelled=0, valid=1, test=1, unseen=1)
    with pytest.raises(ResourceError, match=r"rendering 10,003 clips needs 1,560 MB of memory, but 1,000 MB are available\. Close other programs"):
        prepare(config, other_cache)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"unseen": 17}, "config.data.unseen is 17, above config.data.test 16"),
        ({"classes": ("piano", "harpsicord")}, "unknown instrument class 'harpsicord'. Did you mean 'harpsichord'"),
        ({"clip_seconds": 0.05}, "config.data.clip_seconds is 0.05, but must be between 0.1 and 60"),
        ({"clip_seconds": 61.0}, "config.data.clip_seconds is 61.0, but must be between 0.1 and 60"),
        ({"sample_rate": 3999}, "config.data.sample_rate is 3999, but the renderer gives 4000 to 48000 Hz"),
        ({"sample_rate": 96000}, "config.data.sample_rate is 96000, but the renderer gives 4000 to 48000 Hz"),
    ],
)
def test_impossible_config(fields, message, tiny_data_config):
    with pytest.raises(ConfigError, match=message):
        check_config(with_fields(tiny_data_config, **fields))


def test_the_default_classes_are_all_instruments_in_their_order():
    assert default_config().data.classes == tuple(INSTRUMENTS)


@pytest.mark.parametrize("source", ["no_such_package:prepare", "jaxkd.data.rendered:no_such_function"])
def test_source_that_cannot_be_imported(source, tiny_data_config, tmp_path):
    with pytest.raises(ConfigError, match=f"data source '{source}' could not be imported: .*no_such"):
        prepare(with_fields(tiny_data_config, source=source), tmp_path)


def test_unknown_source(tiny_data_config, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'rendered_instruments'"):
        prepare(with_fields(tiny_data_config, source="rendered_instrument"), tmp_path)
