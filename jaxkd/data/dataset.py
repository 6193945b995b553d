"""The data set on disk: examples by split with their labels, read by example id through memory maps."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.data.clips import Clips
from jaxkd.errors import ArtefactError, DataError
from jaxkd.files import atomic_directory, read_json, sha256_file, sha256_json, write_json
from jaxkd.progress import progress

SCHEMA = 2
MANIFEST = "manifest.json"
LARGE_BYTES = 1_000_000_000  # from here on, reading every file takes so long that a progress line is shown
SPLIT_ORDER = ("train", "valid", "test")
MODALITIES = ("audio", "text", "image")
TASKS = ("multilabel", "multiclass")


@dataclass(frozen=True)
class Split:
    """One split, all of n rows.

    Attributes:
      ids: n ids, unique in the data set.
      inputs: audio: int16 [n, samples], mono, or n clips that are decoded as they are written; image: uint8 [n, H, W, channels]; text: n strings.
      labels: float32 [n, K] in [0, 1]; one-hot for a multi-class task.
      label_mask: bool [n, K], True where a label counts; a row of False is an unlabelled example.
      fine_labels: int32 [n], the hidden subclass of each row (known for unlabelled rows too), or None where there is none.
    """

    ids: list[str]
    inputs: np.ndarray | Clips | Sequence[str]
    labels: np.ndarray
    label_mask: np.ndarray
    fine_labels: np.ndarray | None = None


def rows_of(ids: Sequence[str], rows: Mapping[str, int], path: Path) -> np.ndarray:
    """The rows of ids, in their order: int64 [n].

    Args:
      ids: of the examples; they may repeat.
      rows: id -> row.
      path: what is read, for the message.

    Raises:
      DataError: an id has no row; the message counts them and names the first.
    """
    try:
        return np.fromiter(map(rows.__getitem__, ids), np.int64, len(ids))
    except KeyError:
        unknown = [example for example in ids if example not in rows]
        raise DataError(f"{len(unknown)} of {len(ids)} ids are not in {path}: {', '.join(map(repr, unknown[:3]))}.") from None


class Dataset:
    """Examples with targets, by id.

    Attributes:
      path: its folder.
      name: what it was made by.
      fingerprint: identifies what it was made from.
      modality: "audio", "text" or "image".
      task: "multilabel" or "multiclass".
      classes: names of the K labels.
      fine_classes: names of the hidden subclasses, empty where there are none.
      splits: ids by split, in the order train, valid, test, others; "train" holds labelled and unlabelled rows.
      notes: licences, the leakage report, and why a split is absent.
      sample_rate: samples a second of audio, None for other modalities.
      input_shape: shape of one example: audio (samples,), image (H, W, channels), text ().
      fully_labelled: itself, or the data set that this one has the examples of, but fewer labels or other classes; embeddings are made from it.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.name: str = manifest["name"]
        self.fingerprint: str = manifest["fingerprint"]
        self.modality: str = manifest["modality"]
        self.task: str = manifest["task"]
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        self.fine_classes: tuple[str, ...] = tuple(manifest["fine_classes"])
        self.splits: dict[str, list[str]] = {split: manifest["splits"][split] for split in sorted(manifest["splits"], key=_split_order)}
        self.notes: dict[str, Any] = manifest["notes"]
        self.sample_rate: int | None = manifest["sample_rate"]
        self.input_shape: tuple[int, ...] = tuple(manifest["input_shape"])
        self.fully_labelled = self
        self._files: dict[str, dict[str, Any]] = manifest["files"]
        self._rows = {example: row for row, example in enumerate(itertools.chain(*self.splits.values()))}
        self._starts = np.cumsum([0, *map(len, self.splits.values())])[:-1]
        self._arrays = {name.removesuffix(".npy"): self._map(name) for name in self._files if name.endswith(".npy")}

    @classmethod
    def open_verified(cls, path: str | Path) -> "Dataset":
        """Opens a data set and reads every file once (see `verify`).

        Raises:
          ArtefactError: a file is missing, cut short or altered; the message names it.
        """
        dataset = cls.open(path)
        dataset.verify()
        return dataset

    @classmethod
    def open(cls, path: str | Path) -> "Dataset":
        """Opens a data set; checks the manifest, and the size, shape and kind of every array (`verify` reads them whole).

        Raises:
          ArtefactError: a file is missing, cut short or altered; the message names it.
        """
        path = Path(path)
        manifest = read_json(path / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("sha256") != sha256_json({key: value for key, value in manifest.items() if key != "sha256"}):
            raise ArtefactError(f"{path / MANIFEST} was altered after it was written: {_remedy(path)}")
        if manifest["schema"] != SCHEMA:
            raise ArtefactError(f"{path / MANIFEST} has schema {manifest['schema']}, this version reads {SCHEMA}: {_remedy(path)}")
        return cls(path, manifest)

    def _map(self, name: str) -> np.ndarray:
        file, entry = self.path / name, self._files[name]
        if not file.is_file():
            raise ArtefactError(f"{file} is missing: {_remedy(self.path)}")
        size, expected = file.stat().st_size, entry["bytes"]
        if size != expected:
            raise ArtefactError(f"{file} has {size:,} bytes, expected {expected:,}: {_remedy(self.path)}")
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise ArtefactError(f"{file} is not a numpy array ({error}): {_remedy(self.path)}") from error
        if list(array.shape) != entry["shape"] or str(array.dtype) != entry["dtype"]:
            raise ArtefactError(f"{file} holds {array.dtype} {array.shape}, expected {entry['dtype']} {tuple(entry['shape'])}: {_remedy(self.path)}")
        return np.asarray(array)

    def verify(self) -> None:
        """Reads every file and compares its sha256 with the manifest.

        Raises:
          ArtefactError: a file is missing or differs; the message names it, both checksums, and what to remove.
        """
        large = sum(entry["bytes"] for entry in self._files.values()) >= LARGE_BYTES
        files = self._files.items()
        for name, entry in progress(files, description=f"checking {self.path.name}", unit="file") if large else files:
            if not (self.path / name).is_file():
                raise ArtefactError(f"{self.path / name} is missing: {_remedy(self.path)}")
            digest = sha256_file(self.path / name)
            if digest != entry["sha256"]:
                raise ArtefactError(f"{self.path / name} was altered: its sha256 is {digest}, expected {entry['sha256']}. {_remedy(self.path)}")

    def _places(self, ids: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By split: the places in `ids` that are of it, and their rows there."""
        rows = rows_of(ids, self._rows, self.path)
        numbers, splits = np.searchsorted(self._starts, rows, side="right") - 1, list(self.splits)
        by_split = {number: np.flatnonzero(numbers == number) for number in np.unique(numbers)}
        return {splits[number]: (places, rows[places] - self._starts[number]) for number, places in by_split.items()}

    def _gather(self, ids: Sequence[str], kind: str) -> np.ndarray:
        first = self._arrays[f"{next(iter(self.splits))}.{kind}"]
        gathered = np.empty((len(ids), *first.shape[1:]), first.dtype)
        for split, (places, rows) in self._places(ids).items():
            gathered[places] = self._arrays[f"{split}.{kind}"][rows]
        return gathered

    def gather(self, ids: Sequence[str]) -> Any:
        """Inputs of the ids, in their order: audio int16 [n, samples], image uint8 [n, H, W, channels], text a list of n strings.

        Raises:
          DataError: an id is not in the data set.
        """
        if self.modality != "text":
            return self._gather(ids, "inputs")
        texts = [""] * len(ids)
        for split, (places, rows) in self._places(ids).items():
            encoded, offsets = self._arrays[f"{split}.inputs"], self._arrays[f"{split}.offsets"]
            for place, row in zip(places, rows, strict=True):
                texts[place] = encoded[offsets[row] : offsets[row + 1]].tobytes().decode()
        return texts

    def labels(self, ids: Sequence[str]) -> np.ndarray:
        """Labels of the ids, in their order: float32 [n, K], 0 where masked."""
        return self._gather(ids, "labels")

    def label_mask(self, ids: Sequence[str]) -> np.ndarray:
        """Which labels count: bool [n, K]; a row of False is an unlabelled example."""
        return self._gather(ids, "label_mask")

    def groups(self, ids: Sequence[str]) -> list[str]:
        """What each of the ids is an excerpt of, for folds that keep excerpts of one whole together: a clip's score, else the example itself.

        Raises:
          DataError: an id is not in the data set.
        """
        records = read_json(self.path / "records.json") if "records.json" in self._files else {}
        split_of = {ids[place]: split for split, (places, _) in self._places(ids).items() for place in places}
        return [records.get(split_of[example], {}).get(example, {}).get("score", example) for example in ids]

    def fine_labels(self, ids: Sequence[str]) -> np.ndarray:
        """Hidden subclass of the ids, in their order: int32 [n], places in `fine_classes`.

        Raises:
          DataError: the data set has no fine labels.
        """
        if not self.fine_classes:
            raise DataError(f"the data set {self.name} has no fine labels.")
        return self._gather(ids, "fine_labels")


def _split_order(split: str) -> tuple[int, str]:
    return (SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER), split)


def _remedy(path: Path) -> str:
    return f"remove {path} and run again, and it is made anew."


def _arrays(split: Split, modality: str) -> dict[str, np.ndarray | Clips]:
    """The arrays of a split by kind, as they are stored."""
    mask = np.asarray(split.label_mask, np.bool_)
    arrays: dict[str, np.ndarray | Clips] = {"labels": np.where(mask, split.labels, np.float32(0.0)).astype(np.float32), "label_mask": mask}
    if isinstance(split.inputs, Clips):
        arrays["inputs"] = split.inputs
    elif modality == "text":
        encoded = [text.encode() for text in split.inputs]
        arrays["inputs"] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays["offsets"] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    else:
        arrays["inputs"] = np.ascontiguousarray(split.inputs, np.int16 if modality == "audio" else np.uint8)
    if split.fine_labels is not None:
        arrays["fine_labels"] = np.asarray(split.fine_labels, np.int32)
    return arrays


def _write_array(path: Path, array: np.ndarray | Clips) -> dict[str, Any]:
    """Writes a numpy file, clips without holding all of them in memory; returns its shape and dtype."""
    if isinstance(array, Clips):
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": array.shape})
            for chunk in array.chunks(f"decoding {path.name.partition('.')[0]}"):
                file.write(chunk.astype("<i2", copy=False).tobytes())
        return {"shape": list(array.shape), "dtype": "int16"}
    np.save(path, array, allow_pickle=False)
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def write_dataset(
    path: Path,
    *,
    name: str,
    fingerprint: str,
    modality: str,
    task: str,
    classes: Sequence[str],
    splits: Mapping[str, Split],
    notes: Mapping[str, Any],
    licence: str,
    fine_classes: Sequence[str] = (),
    sample_rate: int | None = None,
    records: Mapping[str, Any] | None = None,
) -> Dataset:
    """Writes a data set atomically and opens it.

    Args:
      path: its folder.
      name: what it was made by.
      fingerprint: identifies what it was made from.
      modality: "audio", "text" or "image".
      task: "multilabel", or "multiclass" with one-hot labels.
      classes: names of the K labels.
      splits: the rows by split; labels are set to 0 where masked.
      notes: JSON-able remarks for the report; read after the examples are written, so that `Clips.remarks` may be among them.
      licence: the terms of what the examples were made from, in a line.
      fine_classes: names of the hidden subclasses; every split then has `fine_labels`.
      sample_rate: samples a second, for audio.
      records: JSON-able details of each example, kept beside the arrays as `records.json`.
    """
    with atomic_directory(path) as folder:
        files: dict[str, dict[str, Any]] = {}
        for split, rows in splits.items():
            for kind, array in _arrays(rows, modality).items():
                files[f"{split}.{kind}.npy"] = _write_array(folder / f"{split}.{kind}.npy", array)
        if records is not None:
            write_json(folder / "records.json", records)
            files["records.json"] = {}
        for file, entry in files.items():
            entry |= {"bytes": (folder / file).stat().st_size, "sha256": sha256_file(folder / file)}
        first = next(iter(splits.values())).inputs
        manifest = {
            "schema": SCHEMA,
            "kind": "dataset",
            "name": name,
            "fingerprint": fingerprint,
            "licence": licence,
            "modality": modality,
            "task": task,
            "sample_rate": sample_rate,
            "input_shape": [] if modality == "text" else list(np.shape(first)[1:]),
            "classes": list(classes),
            "fine_classes": list(fine_classes),
            "splits": {split: list(rows.ids) for split, rows in splits.items()},
            "notes": dict(notes),
            "files": files,
        }
        write_json(folder / MANIFEST, {**manifest, "sha256": sha256_json(manifest)})
    return Dataset.open(path)
