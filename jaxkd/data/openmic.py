"""Source "openmic": OpenMIC-2018 in its released layout, 20,000 clips of 10 s with partial labels of 20 instruments (Humphrey, Durand and McFee, ISMIR 2018).

The folder holds `openmic-2018.npz`, `class-map.json`, `partitions/split01_train.csv`, `partitions/split01_test.csv` and `audio/000/000046_3840.ogg`.

A label is positive where `Y_true` is above 0.5 and negative where it is below; where it is exactly 0.5, or `Y_mask` has no observation, it is unknown.
Test is the released one. Valid is drawn from the released train list as in EAsT (arXiv 2306.17424): one number of Python's `random`, seeded with 2022, for
each line in file order, and those below 0.15 are valid. With the released list of 14,915 lines that is 2,223 clips.
"""

import json
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxkd.data.dataset import Dataset
from jaxkd.data.recordings import Recording, prepare_released, released_folder, require_recordings
from jaxkd.errors import DataError
from jaxkd.files import sha256_file

NAME = "openmic"
FORMAT_VERSION = 1
ARRAYS, CLASS_MAP = "openmic-2018.npz", "class-map.json"
PARTITIONS = {"train": "partitions/split01_train.csv", "test": "partitions/split01_test.csv"}
INNER_FOLDER = "openmic-2018"
VALID_SEED, VALID_SHARE = 2022, 0.15
USUAL_CLIPS = {"train": 12_692, "valid": 2_223, "test": 5_085}
LICENCE = "CC BY 4.0 (collection and labels); each recording under the licence that openmic-2018-metadata.csv names"


class _Labels(NamedTuple):
    """Of the n clips of the arrays: row by key, Y_true [n, K] and Y_mask [n, K]; names of the K classes."""

    rows: dict[str, int]
    relevance: np.ndarray
    observed: np.ndarray
    classes: list[str]


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Decodes the released folder that `data_config.folder` names into a data set in the cache, or opens it from there.

    Recordings are down-mixed by the mean, resampled to `data_config.sample_rate`, and cut or filled up to `clip_seconds`; the notes count what was done.
    The id of a clip is its sample key.

    Raises:
      ConfigError: no folder is named.
      DataError: files are missing, damaged, or do not fit together; the message names them.
      ArtefactError: the data set in the cache was altered; the message names the file and what to remove.
      ResourceError: too little disk.
    """
    files = [ARRAYS, CLASS_MAP, *PARTITIONS.values()]
    folder = released_folder(NAME, data_config.folder, [*files, "audio"], INNER_FOLDER)
    labels = _read_labels(folder)
    recordings = [_recording(key, split, labels, folder) for key, split in _read_splits(folder, labels).items()]
    require_recordings(recordings, folder / "partitions", f"Unpack the released archive whole into {folder}.")
    return prepare_released(
        data_config,
        cache_dir,
        name=NAME,
        recordings=recordings,
        classes=labels.classes,
        made_from={"source": NAME, "format": FORMAT_VERSION, "lists": {file: sha256_file(folder / file) for file in files}},
        usual=USUAL_CLIPS,
        remarks={"unseen": "OpenMIC-2018 has no clips of another domain"},
        licence=LICENCE,
    )


def valid_lines(count: int) -> list[bool]:
    """Which lines of a train list of `count` lines are valid."""
    generator = random.Random(VALID_SEED)
    return [generator.random() < VALID_SHARE for _ in range(count)]


def _read_splits(folder: Path, labels: _Labels) -> dict[str, str]:
    """Split by sample key, in the order of the lists."""
    keys = {split: (folder / file).read_text().split() for split, file in PARTITIONS.items()}
    for split, listed in keys.items():
        unknown = [key for key in listed if key not in labels.rows]
        if unknown or not listed:
            what = f"lists {len(unknown)} keys that {ARRAYS} does not have, for example {', '.join(unknown[:3])}" if unknown else "is empty"
            raise DataError(f"{folder / PARTITIONS[split]} {what}: take both from one release.")
    splits = {key: "valid" if valid else "train" for key, valid in zip(keys["train"], valid_lines(len(keys["train"])), strict=True)}
    shared = splits.keys() & keys["test"]
    if shared or len(splits) < len(keys["train"]):
        raise DataError(f"{folder / 'partitions'} lists a clip twice{f', for example {min(shared)}' if shared else ''}: take the released lists.")
    return splits | dict.fromkeys(keys["test"], "test")


def _recording(key: str, split: str, labels: _Labels, folder: Path) -> Recording:
    row = labels.rows[key]
    relevance = labels.relevance[row]
    mask = labels.observed[row] & (relevance != 0.5)
    return Recording(key, folder / "audio" / key[:3] / f"{key}.ogg", split, (relevance > 0.5).tolist(), mask.tolist())


def _read_labels(folder: Path) -> _Labels:
    try:
        places = json.loads((folder / CLASS_MAP).read_text())
        classes = sorted(places, key=places.get)
        whole = [places[name] for name in classes] == list(range(len(classes)))
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / CLASS_MAP} is damaged ({error}): take it from the released archive.") from error
    path = folder / ARRAYS
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            relevance, observed = arrays["Y_true"], arrays["Y_mask"]
        keys = _read_strings(path, "sample_key")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise DataError(f"{path} is damaged, or not the released file ({error}): take it from the released archive.") from error
    shape = (len(keys), len(classes))
    if not whole or relevance.shape != shape or observed.shape != shape or observed.dtype != np.bool_ or not np.all((relevance >= 0) & (relevance <= 1)):
        raise DataError(
            f"{path} holds Y_true {relevance.dtype} {relevance.shape} and Y_mask {observed.dtype} {observed.shape} for {shape[0]} keys and the {shape[1]} "
            f"classes of {CLASS_MAP}, which should be numbered from 0; Y_true should be from 0 to 1: take both files from one release."
        )
    return _Labels({key: row for row, key in enumerate(keys)}, relevance, observed, classes)


def _read_strings(path: Path, name: str) -> list[str]:
    """An array of strings of an npz file, which the release keeps as pickled objects; nothing but strings in an array is unpickled."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read_header(file)
        if dtype.hasobject:
            return [str(value) for value in _ArrayOfStrings(file).load().tolist()]
    with np.load(path, allow_pickle=False) as arrays:
        return [str(value) for value in arrays[name].tolist()]


class _ArrayOfStrings(pickle.Unpickler):
    """Refuses everything but a numpy array of built-in objects."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which an array of strings does not need")
