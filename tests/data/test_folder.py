import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from jaxkd.data import prepare
from jaxkd.errors import ArtefactError, ConfigError, DataError, ResourceError

HEADER = "file,split,piano,drums"
LINES = ["a.wav,train,1,0", "b.flac,train,,", "c.wav,valid,0,1", "d.ogg,test,1,", "e.wav,unseen_room,0,0"]


def tone(seconds, rate, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "mine"
    path.mkdir()
    soundfile.write(path / "a.wav", tone(2.0, 16000), 16000)
    soundfile.write(path / "b.flac", tone(1.0, 44100), 44100)
    soundfile.write(path / "c.wav", np.stack([tone(0.5, 48000), np.zeros(24000)], axis=1), 48000)
    soundfile.write(path / "d.ogg", tone(1.0, 22050), 22050)
    soundfile.write(path / "e.wav", tone(1.0, 16000).astype(np.float32), 16000, subtype="FLOAT")
    write(path)
    return path


def write(folder, lines=tuple(LINES), header=HEADER):
    (folder / "labels.csv").write_text("\n".join([header, *lines]) + "\n")


def prepared(folder, tmp_path, **fields):
    config = {"source": "audio_folder", "folder": str(folder), "clip_seconds": 1.0, "sample_rate": 16000, **fields}
    return prepare(SimpleNamespace(**config), tmp_path / "cache")


def test_decodes_resamples_cuts_and_pads(folder, tmp_path):
    dataset = prepared(folder, tmp_path)
    assert dataset.classes == ("piano", "drums")
    assert dataset.splits == {
        "train": ["train/a.wav", "train/b.flac"],
        "valid": ["valid/c.wav"],
        "test": ["test/d.ogg"],
        "unseen_room": ["unseen_room/e.wav"],
    }
    ids = [example for ids in dataset.splits.values() for example in ids]
    np.testing.assert_array_equal(dataset.labels(ids), [[1, 0], [0, 0], [0, 1], [1, 0], [0, 0]])
    np.testing.assert_array_equal(dataset.label_mask(ids), [[True, True], [False, False], [True, True], [True, False], [True, True]])
    audio = dataset.gather(ids) / 32767
    expected = tone(1.0, 16000)
    np.testing.assert_allclose(audio[0], expected, atol=1e-4)
    np.testing.assert_allclose(audio[1][500:-500], expected[500:-500], atol=2e-3)
    np.testing.assert_allclose(audio[2][500:7500], expected[500:7500] / 2, atol=2e-3)  # mean of a tone and silence
    assert not audio[2][8100:].any()
    np.testing.assert_allclose(audio[3][500:-500], expected[500:-500], atol=0.05)
    notes = {"cut": 1, "filled up with silence": 1, "resampled from 22050 Hz": 1, "resampled from 44100 Hz": 1, "resampled from 48000 Hz": 1}
    assert dataset.notes["decoded"] == notes and "unseen" not in dataset.notes


def test_again_is_opened_and_a_changed_file_is_noticed(folder, tmp_path):
    first = prepared(folder, tmp_path)
    assert prepared(folder, tmp_path).path == first.path
    soundfile.write(folder / "a.wav", tone(1.0, 16000, 220.0), 16000)
    assert prepared(folder, tmp_path).fingerprint != first.fingerprint


@pytest.mark.parametrize("name", ["train.inputs.npy", "valid.labels.npy"])
def test_altered_cached_set_is_refused(name, folder, tmp_path):
    file = prepared(folder, tmp_path).path / name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match=rf"{name} was altered: .* remove {file.parent} and run again"):
        prepared(folder, tmp_path)


def test_disk_for_the_clips_is_asked_for_before_they_are_decoded(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000_000))
    monkeypatch.setattr("jaxkd.data.folder.decode_clip", None)
    with pytest.raises(ResourceError, match=r"decoding 5 files needs 26 MB of disk, but .* has 20 MB free\. Free some space"):
        prepared(folder, tmp_path, clip_seconds=100.0)


@pytest.mark.parametrize("name", ["copy.wav", "sub/../a.wav"])
def test_a_file_in_two_splits_is_refused(name, folder, tmp_path):
    (folder / "sub").mkdir()
    (folder / "copy.wav").write_bytes((folder / "a.wav").read_bytes())
    write(folder, [*LINES, f"{name},test,1,0"])
    message = {
        "copy.wav": r"labels\.csv, line 7: copy\.wav \(split test\) has the same content as a\.wav \(line 2, split train\): no clip may be in two splits",
        "sub/../a.wav": r"labels\.csv, line 7: sub/\.\./a\.wav is listed twice, first on line 2",
    }
    with pytest.raises(DataError, match=message[name]):
        prepared(folder, tmp_path)


def test_copies_within_a_split_are_clips_of_their_own_and_are_counted(folder, tmp_path):
    (folder / "copy.wav").write_bytes((folder / "a.wav").read_bytes())
    write(folder, [*LINES, "copy.wav,train,1,0"])
    dataset = prepared(folder, tmp_path)
    assert dataset.splits["train"] == ["train/a.wav", "train/b.flac", "train/copy.wav"]
    assert dataset.notes["copies of another clip of the split"] == 1


def test_bad_audio(folder, tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(4.0, 16000), 16000)
    long = (tmp_path / "long.wav").read_bytes()
    cases = {
        "empty": (lambda path: path.write_bytes(b""), r"a\.wav is empty \(0 bytes\)"),
        "no samples": (lambda path: soundfile.write(path, np.zeros(0), 16000), r"a\.wav is empty: it holds no samples"),
        "silent": (lambda path: soundfile.write(path, np.zeros(16000), 16000), r"a\.wav is silent"),
        "text": (lambda path: path.write_text("hello " * 99), r"a\.wav is not audio"),
        "low rate": (lambda path: soundfile.write(path, tone(1.0, 8000), 8000), r"a\.wav has a rate of 8000 Hz, below data\.sample_rate=16000"),
        "cut": (lambda path: path.write_bytes(long[:344]), r"a\.wav is cut off: it holds 300 bytes of audio, but its header says 128000"),
        "nan": (lambda path: soundfile.write(path, np.full(16000, np.nan), 16000, subtype="FLOAT"), r"a\.wav holds samples that are NaN"),
    }
    for make, message in cases.values():
        make(folder / "a.wav")
        with pytest.raises(DataError, match=message):
            prepared(folder, tmp_path)


@pytest.mark.parametrize(
    "lines, message",
    [
        (["a.wav,train,1,yes", *LINES[1:]], "line 2: label 'yes' should be 1, 0 or nothing"),
        ([*LINES, "a.wav,valid,1,1"], "line 7: a.wav is listed twice, first on line 2"),
        ([*LINES, "./a.wav,train,1,1"], "line 7: ./a.wav is listed twice, first on line 2"),
        ([*LINES, "x.wav,valid,1,1"], "line 7: .*x.wav does not exist"),
        (["a.wav,training,1,0", *LINES[1:]], "line 2: split 'training' should be"),
        (["a.wav,train,1", *LINES[1:]], "line 2: 3 columns, the header has 4"),
        (LINES[2:], "no line of split train"),
        (LINES[:2], "no line of split valid, test"),
        (LINES[1:], "every label of split train is unknown"),
    ],
)
def test_bad_lines(lines, message, folder, tmp_path):
    write(folder, lines)
    with pytest.raises(DataError, match=message):
        prepared(folder, tmp_path)


@pytest.mark.parametrize("header", ["name,split,piano,drums", "file,split,piano,piano", "file,split"])
def test_bad_header(header, folder, tmp_path):
    write(folder, header=header)
    with pytest.raises(DataError, match="line 1: the header should be"):
        prepared(folder, tmp_path)


def test_missing_folder_and_labels(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.folder"):
        prepared("", tmp_path)
    with pytest.raises(DataError, match=r"labels\.csv is missing"):
        prepared(tmp_path / "absent", tmp_path)
