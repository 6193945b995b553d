"""The audio data set on disk: clips as int16 arrays by split, read by example id through memory maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.errors import ArtefactError, DataError
from jaxkd.files import atomic_directory, read_json, sha256_file, sha256_json, write_json

SCHEMA = 1
MANIFEST = "manifest.json"
SPLIT_ORDER = ("train", "valid", "test")
ARRAYS = {"audio": np.int16, "labels": np.float32, "label_mask": np.bool_}


@dataclass(frozen=True)
class Split:
    """The arrays of one split, all of n rows.

    Attributes:
      ids: n ids, unique in the data set.
      audio: int16 [n, samples], mono.
      labels: float32 [n, K] in [0, 1].
      label_mask: bool [n, K], True where a label counts; a row of False is an unlabelled clip.
    """

    ids: list[str]
    audio: np.ndarray
    labels: np.ndarray
    label_mask: np.ndarray


class AudioDataset:
    """Clips of one length with multi-label targets, by id.

    Attributes:
      path: its folder.
      name: what it was made by.
      fingerprint: identifies what it was made from.
      sample_rate: samples a second.
      clip_samples: samples of a clip.
      classes: names of the K labels.
      splits: ids by split, in the order train, valid, test, others; "train" holds labelled and unlabelled clips.
      notes: licences, the leakage report, and why a split is absent.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.name: str = manifest["name"]
        self.fingerprint: str = manifest["fingerprint"]
        self.sample_rate: int = manifest["sample_rate"]
        self.clip_samples: int = manifest["clip_samples"]
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        self.splits: dict[str, list[str]] = {split: manifest["splits"][split] for split in sorted(manifest["splits"], key=_split_order)}
        self.notes: dict[str, Any] = manifest["notes"]
        self._files: dict[str, dict[str, Any]] = manifest["files"]
        self._rows = {example: (split, row) for split, ids in self.splits.items() for row, example in enumerate(ids)}
        self._arrays = {(split, kind): self._map(split, kind) for split in self.splits for kind in ARRAYS}

    @classmethod
    def open_verified(cls, path: str | Path) -> "AudioDataset":
        """Opens a data set and reads every file once (see `verify`).

        Raises:
          ArtefactError: a file is missing, cut short or altered; the message names it.
        """
        dataset = cls.open(path)
        dataset.verify()
        return dataset

    @classmethod
    def open(cls, path: str | Path) -> "AudioDataset":
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

    def _map(self, split: str, kind: str) -> np.ndarray:
        file = self.path / f"{split}.{kind}.npy"
        if not file.is_file():
            raise ArtefactError(f"{file} is missing: {_remedy(self.path)}")
        size, expected = file.stat().st_size, self._files[file.name]["bytes"]
        if size != expected:
            raise ArtefactError(f"{file} has {size:,} bytes, expected {expected:,}: {_remedy(self.path)}")
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise ArtefactError(f"{file} is not a numpy array ({error}): {_remedy(self.path)}") from error
        shape = (len(self.splits[split]), self.clip_samples if kind == "audio" else len(self.classes))
        if array.shape != shape or array.dtype != ARRAYS[kind]:
            raise ArtefactError(f"{file} holds {array.dtype} {array.shape}, expected {np.dtype(ARRAYS[kind])} {shape}: {_remedy(self.path)}")
        return array

    def verify(self) -> None:
        """Reads every file and compares its sha256 with the manifest.

        Raises:
          ArtefactError: a file is missing or differs; the message names it, both checksums, and what to remove.
        """
        for name, entry in self._files.items():
            if not (self.path / name).is_file():
                raise ArtefactError(f"{self.path / name} is missing: {_remedy(self.path)}")
            digest = sha256_file(self.path / name)
            if digest != entry["sha256"]:
                raise ArtefactError(f"{self.path / name} was altered: its sha256 is {digest}, expected {entry['sha256']}. {_remedy(self.path)}")

    def _gather(self, ids: Sequence[str], kind: str) -> np.ndarray:
        unknown = [example for example in ids if example not in self._rows]
        if unknown:
            raise DataError(f"{len(unknown)} of {len(ids)} ids are not in {self.path}: {', '.join(map(repr, unknown[:3]))}.")
        width = self.clip_samples if kind == "audio" else len(self.classes)
        gathered = np.empty((len(ids), width), ARRAYS[kind])
        for split in self.splits:
            places = [place for place, example in enumerate(ids) if self._rows[example][0] == split]
            if places:
                gathered[places] = self._arrays[split, kind][[self._rows[ids[place]][1] for place in places]]
        return gathered

    def gather(self, ids: Sequence[str]) -> np.ndarray:
        """Audio of the ids, in their order: int16 [n, clip_samples].

        Raises:
          DataError: an id is not in the data set.
        """
        return self._gather(ids, "audio")

    def labels(self, ids: Sequence[str]) -> np.ndarray:
        """Labels of the ids, in their order: float32 [n, K], 0 where masked."""
        return self._gather(ids, "labels")

    def label_mask(self, ids: Sequence[str]) -> np.ndarray:
        """Which labels count: bool [n, K]; a row of False is an unlabelled clip."""
        return self._gather(ids, "label_mask")


def _split_order(split: str) -> tuple[int, str]:
    return (SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER), split)


def _remedy(path: Path) -> str:
    return f"remove {path} and run again, and it is made anew."


def write_audio_dataset(
    path: Path,
    *,
    name: str,
    fingerprint: str,
    sample_rate: int,
    classes: Sequence[str],
    splits: Mapping[str, Split],
    notes: Mapping[str, Any],
    licence: str,
    records: Mapping[str, Any] | None = None,
) -> AudioDataset:
    """Writes a data set atomically and opens it.

    Args:
      path: its folder.
      name: what it was made by.
      fingerprint: identifies what it was made from.
      sample_rate: samples a second.
      classes: names of the K labels.
      splits: the arrays by split; labels are set to 0 where masked.
      notes: JSON-able remarks for the report.
      licence: the terms of what the clips were made from, in a line.
      records: JSON-able details of each clip, kept beside the arrays as `records.json`.
    """
    with atomic_directory(path) as folder:
        for split, arrays in splits.items():
            masked = np.where(arrays.label_mask, arrays.labels, np.float32(0.0))
            for kind, array in (("audio", arrays.audio), ("labels", masked), ("label_mask", arrays.label_mask)):
                np.save(folder / f"{split}.{kind}.npy", np.ascontiguousarray(array, ARRAYS[kind]), allow_pickle=False)
        if records is not None:
            write_json(folder / "records.json", records)
        manifest = {
            "schema": SCHEMA,
            "kind": "audio_dataset",
            "name": name,
            "fingerprint": fingerprint,
            "licence": licence,
            "sample_rate": sample_rate,
            "clip_samples": next(iter(splits.values())).audio.shape[1],
            "classes": list(classes),
            "splits": {split: list(arrays.ids) for split, arrays in splits.items()},
            "notes": dict(notes),
            "files": {file.name: {"bytes": file.stat().st_size, "sha256": sha256_file(file)} for file in sorted(folder.iterdir())},
        }
        write_json(folder / MANIFEST, {**manifest, "sha256": sha256_json(manifest)})
    return AudioDataset.open(path)
