import json
import shutil
from types import SimpleNamespace

import librosa
import numpy as np
import pytest
import soundfile

from jaxkd.data import openmic, prepare, recordings
from jaxkd.data.dataset import Dataset
from jaxkd.errors import ArtefactError, ConfigError, DataError, ResourceError
from tests.data.released import OPENMIC_CLASSES, VALID_OF_32, write_openmic


@pytest.fixture(scope="module")
def released(tiny_dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("released") / "openmic-2018"
    return folder, write_openmic(folder, tiny_dataset)


@pytest.fixture
def copy(released, tmp_path):
    """A folder of one's own to damage."""
    shutil.copytree(released[0], tmp_path / "openmic-2018")
    return tmp_path / "openmic-2018"


def prepared(folder, tmp_path, **fields) -> Dataset:
    config = {"source": "openmic", "folder": str(folder), "clip_seconds": 3.0, "sample_rate": 32_000, **fields}
    return prepare(SimpleNamespace(**config), tmp_path / "cache")


@pytest.fixture(scope="module")
def dataset(released, tmp_path_factory):
    return prepared(released[0], tmp_path_factory.mktemp("openmic"))


def test_the_rule_gives_the_published_number_of_valid_clips():
    valid = openmic.valid_lines(14_915)
    assert (sum(valid), len(valid) - sum(valid)) == (2_223, 12_692)
    assert sum(openmic.USUAL_CLIPS.values()) == 20_000
    assert tuple(np.flatnonzero(openmic.valid_lines(32))) == VALID_OF_32


def test_splits_follow_the_lists(dataset, released):
    keys = released[1]
    expected = {"train": [key for line, key in enumerate(keys[:32]) if line not in VALID_OF_32], "valid": [keys[line] for line in VALID_OF_32]}
    assert dataset.splits == {**expected, "test": keys[32:]}
    assert dataset.notes["split"] == "train 25, valid 7, test 12: not the usual split, which has train 12,692, valid 2,223, test 5,085"
    assert (dataset.task, dataset.modality, dataset.sample_rate, dataset.input_shape) == ("multilabel", "audio", 32_000, (96_000,))


def test_labels_are_those_of_the_arrays(dataset, released):
    with np.load(released[0] / "openmic-2018.npz", allow_pickle=True) as arrays:
        row = {key: place for place, key in enumerate(arrays["sample_key"])}
        relevance, observed = arrays["Y_true"], arrays["Y_mask"]
    assert dataset.classes == tuple(OPENMIC_CLASSES)
    for ids in dataset.splits.values():
        places = [row[key] for key in ids]
        np.testing.assert_array_equal(dataset.labels(ids), relevance[places] > 0.5)
        np.testing.assert_array_equal(dataset.label_mask(ids), relevance[places] != 0.5)
    assert observed[row[released[1][0]], 2] and not dataset.label_mask(released[1][:1])[0, 2]


def test_audio_is_that_of_librosa(dataset, released):
    """Files at 44.1 kHz in stereo and at 16 kHz, against librosa's down-mix and resampler."""
    for key in released[1][:6]:
        sound, rate = soundfile.read(released[0] / "audio" / key[:3] / f"{key}.ogg", always_2d=True)
        expected = librosa.resample(librosa.to_mono(sound.T), orig_sr=rate, target_sr=32_000)
        clip = dataset.gather([key])[0] / 32767.0
        length = min(len(expected), len(clip))
        error = np.sqrt(np.mean((clip[:length] - expected[:length]) ** 2) / np.mean(expected**2))
        assert error < 0.02, key
    assert dataset.notes["decoded"] == {"resampled from 16000 Hz": 33, "resampled from 44100 Hz": 11}


def test_clips_are_cut_and_filled_up(released, tmp_path):
    longer = prepared(released[0], tmp_path, clip_seconds=3.5, sample_rate=16_000)
    shorter = prepared(released[0], tmp_path, clip_seconds=1.0, sample_rate=16_000)
    for key in released[1][:2]:
        np.testing.assert_array_equal(longer.gather([key])[0, 48_000:], 0)
        np.testing.assert_array_equal(longer.gather([key])[0, :16_000], shorter.gather([key])[0])
    assert longer.notes["decoded"]["filled up with silence"] == 44 and shorter.notes["decoded"]["cut"] == 44


def test_again_is_opened_and_a_changed_file_is_noticed(dataset, copy, tmp_path, released):
    shutil.copytree(dataset.path, tmp_path / "cache" / "datasets" / dataset.path.name)
    assert prepared(copy, tmp_path).path.parent == tmp_path / "cache" / "datasets"
    keys = released[1]
    shutil.copy(copy / "audio" / keys[1][:3] / f"{keys[1]}.ogg", copy / "audio" / keys[40][:3] / f"{keys[40]}.ogg")
    changed = prepared(copy, tmp_path)
    assert changed.fingerprint != dataset.fingerprint
    assert changed.notes["leakage"] == {"test, copies of train": 1}
    file = changed.path / "test.inputs.npy"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ArtefactError, match=rf"test\.inputs\.npy has .* remove {changed.path} and run again"):
        prepared(copy, tmp_path)


def test_interrupted_while_decoding_begins_anew(released, tmp_path, monkeypatch, dataset):
    def interrupted(path, seconds):
        if path.stem == released[1][30]:
            raise KeyboardInterrupt
        return decode(path, seconds)

    decode = recordings.decode_file
    monkeypatch.setattr(recordings, "decode_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(released[0], tmp_path)
    assert list((tmp_path / "cache" / "datasets").iterdir()) == []
    killed = tmp_path / "cache" / "datasets" / f".{dataset.path.name}.abcd1234.tmp"
    killed.mkdir()
    (killed / "train.inputs.npy").write_bytes(b"what a run that was killed left")
    monkeypatch.undo()
    again = prepared(released[0], tmp_path)
    assert list((tmp_path / "cache" / "datasets").iterdir()) == [again.path]
    assert (again.path / "manifest.json").read_bytes() == (dataset.path / "manifest.json").read_bytes()


def test_full_disk_is_noticed_before_the_work(released, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000_000))
    monkeypatch.setattr(recordings, "decode_file", None)
    with pytest.raises(ResourceError, match=r"decoding 44 files needs 18 MB of disk, but .* has 10 MB free"):
        prepared(released[0], tmp_path)


def test_everything_that_is_missing_is_named(copy, tmp_path, released):
    keys = released[1]
    for key in (keys[0], keys[3], keys[40]):
        (copy / "audio" / key[:3] / f"{key}.ogg").unlink()
    examples = ", ".join(rf".*{keys[place]}\.ogg" for place in (0, 3, 40))
    with pytest.raises(DataError, match=rf"3 of 44 clips that .*partitions lists are missing \(train 1, valid 1, test 1\), for example {examples}\. Unpack"):
        prepared(copy, tmp_path)
    for file in ("openmic-2018.npz", "partitions/split01_test.csv"):
        (copy / file).unlink()
    with pytest.raises(DataError, match=r"lacks openmic-2018\.npz, partitions/split01_test\.csv\. The released archive of openmic holds them"):
        prepared(copy, tmp_path)
    with pytest.raises(DataError, match=r"lacks openmic-2018\.npz, .*, audio\. It holds the folder openmic-2018: name that one"):
        prepared(copy.parent, tmp_path)
    for place, what in ((tmp_path / "absent", "does not exist"), (copy / "class-map.json", "is a file")):
        with pytest.raises(DataError, match=rf"the folder {place} of openmic {what}: name the one that its released archive unpacks to"):
            prepared(place, tmp_path)
    with pytest.raises(ConfigError, match=r"data\.source=openmic needs data\.folder=FOLDER"):
        prepared("", tmp_path)


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: {"Y_true": arrays["Y_true"][:, :19]}, r"Y_true float64 \(44, 19\).* for 44 keys and the 20 classes of class-map\.json"),
        (lambda arrays: {"Y_mask": arrays["Y_mask"].astype(float)}, r"Y_mask float64 \(44, 20\)"),
        (lambda arrays: {"Y_true": arrays["Y_true"] * 3 - 1}, r"Y_true should be from 0 to 1"),
        (lambda arrays: {"sample_key": np.array([Evil()], object)}, r"openmic-2018\.npz is damaged.*it asks for builtins\.print"),
        (lambda arrays: {"sample_key": arrays["sample_key"][1:], "Y_true": arrays["Y_true"][1:], "Y_mask": arrays["Y_mask"][1:]}, r"lists 1 keys that openmic"),
    ],
)
def test_arrays_that_do_not_fit(change, message, copy, tmp_path, capsys):
    with np.load(copy / "openmic-2018.npz", allow_pickle=True) as file:
        arrays = dict(file)
    np.savez(copy / "openmic-2018.npz", **(arrays | change(arrays)))
    with pytest.raises(DataError, match=message):
        prepared(copy, tmp_path)
    assert "unpickled" not in capsys.readouterr().out


def test_keys_without_pickle_are_read_too(copy, tmp_path, dataset):
    with np.load(copy / "openmic-2018.npz", allow_pickle=True) as file:
        arrays = dict(file)
    np.savez(copy / "openmic-2018.npz", **{**arrays, "sample_key": arrays["sample_key"].astype(str)})
    assert prepared(copy, tmp_path, clip_seconds=1.0, sample_rate=16_000).splits == dataset.splits


def test_damaged_files(copy, tmp_path, released):
    file = copy / "audio" / released[1][5][:3] / f"{released[1][5]}.ogg"
    file.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{file.name} is empty \(0 bytes\)"):
        prepared(copy, tmp_path)
    with (copy / "partitions" / "split01_test.csv").open("a") as lines:
        lines.write(f"{released[1][2]}\n")
    with pytest.raises(DataError, match=rf"partitions lists a clip twice, for example {released[1][2]}"):
        prepared(copy, tmp_path)
    (copy / "openmic-2018.npz").write_bytes((copy / "openmic-2018.npz").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"openmic-2018\.npz is damaged"):
        prepared(copy, tmp_path)
    for content in ("[", json.dumps({"a": 1, "b": 2}), "[]"):
        (copy / "class-map.json").write_text(content)
        with pytest.raises(DataError, match=r"class-map\.json|openmic-2018\.npz"):
            prepared(copy, tmp_path)
