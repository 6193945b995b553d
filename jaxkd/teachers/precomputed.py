"""Embeddings that are on disk already as a teacher: `config.teacher.name="precomputed"` with `config.teacher.archive=FOLDER_OR_FILE`.

| archive | holds |
|---|---|
| a folder of `.npy` files | one an example, [T, D] or [D], NAME.npy (as in EAsT) or NAME.embedding.npy (as the HEAR evaluation has it), in subfolders too |
| `FILE.npz` | arrays `ids` [n] and `embeddings` [n, T, D] or [n, D] |
| `FILE.parquet` | columns `id` and `embedding`, a list [D] or a list of lists [T, D] in each row |
| a TFDS folder (array_record) | features `id` and `embedding` in all its splits |

The name or id of an embedding is the example's id ("train/loops/a.wav"), or this without its split ("loops/a.wav"), either also without the suffix of an
audio or image file ("loops/a"). Every example needs exactly one embedding, and all have one shape. Embeddings of no example are left out and counted.
"""

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxkd.errors import ConfigError, DataError
from jaxkd.files import sha256_file, sha256_json

NAME = "precomputed"
MEDIA_SUFFIXES = (
    *(".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"),
    *(".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
)
_SHOULD = {".npz": "hold the arrays ids (of text) and embeddings", ".parquet": "be a Parquet file with the columns id and embedding"}
FILE_KINDS = tuple(_SHOULD)
ARRAYS = "*.npy"
TFDS_INFO = "dataset_info.json"


class Archive(NamedTuple):
    """What lies on disk.

    Attributes:
      kind: "npy", "npz", "parquet" or "tfds".
      keys: name or id of each embedding -> its place, as `read` takes it.
      read: place -> embedding [T, D] or [D].
      hash_of: places that are used -> hex sha256 of the files that they lie in.
    """

    kind: str
    keys: dict[str, Any]
    read: Callable[[Any], np.ndarray]
    hash_of: Callable[[list[Any]], str]


def check_archive(archive: str, *, field: str = "teacher.archive") -> None:
    """Raises ConfigError unless an archive, which comes from this field of the config, is a folder with embeddings or a file of a kind that is read.

    DataError, if the file is damaged or names other parts than those that are read.
    """
    path = Path(archive).expanduser()
    if not archive:
        raise ConfigError(f"the teacher 'precomputed' is read from disk: set --config.{field}=FOLDER_OR_FILE.")
    if path.is_dir():
        good = (path / TFDS_INFO).is_file() or next(path.rglob(ARRAYS), None) is not None
        found = f"the folder holds neither a .npy file, also in its subfolders, nor the {TFDS_INFO} of a TFDS data set"
    else:
        good = path.is_file() and path.suffix in FILE_KINDS
        found = "there is no such folder or file" if not path.exists() else f"a file must be one of {', '.join(FILE_KINDS)}"
    if not good:
        raise ConfigError(f"the embeddings of the teacher 'precomputed' are to be read from {archive}: {found}: set --config.{field}=FOLDER_OR_FILE.")
    if path.is_file():
        _require_parts(path)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Says of what goes wrong in reading a file what it should be."""
    try:
        yield
    except (KeyError, TypeError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} should {_SHOULD[path.suffix]}: {error}.") from error


def _require_parts(path: Path) -> None:
    """Raises DataError unless a file can be read and names both parts, without reading them."""
    with _reading(path):
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                names, wanted = file.files, ("ids", "embeddings")
        else:
            import pyarrow.parquet

            names, wanted = pyarrow.parquet.read_schema(path).names, ("id", "embedding")
        if missing := [name for name in wanted if name not in names]:
            raise KeyError(f"{', '.join(missing)} not among {', '.join(names) or 'none'}")


def _keyed(names: Sequence[Any], places: Sequence[Any], path: Path) -> dict[str, Any]:
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    keys = dict(zip(names, places, strict=True))
    if len(keys) != len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DataError(f"{path} has two embeddings of {twice!r}: keep one.")
    return keys


def _of_folder(path: Path) -> Archive:
    files = sorted(path.rglob(ARRAYS))
    names = [file.relative_to(path).as_posix().removesuffix(".npy").removesuffix(".embedding") for file in files]

    def read(file: Path) -> np.ndarray:
        try:
            return np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(f"{file} is not an array in numpy's format ({error}): files without a header, such as HEAR's memory maps, are not read.") from error

    def hash_of(used: list[Path]) -> str:
        return sha256_json([[file.relative_to(path).as_posix(), sha256_file(file)] for file in sorted(set(used))])

    return Archive("npy", _keyed(names, files, path), read, hash_of)


def _of_npz(path: Path) -> Archive:
    with _reading(path), np.load(path, allow_pickle=False) as file:
        ids, embeddings = file["ids"], file["embeddings"]
    if ids.ndim != 1 or ids.shape != embeddings.shape[:1]:
        raise DataError(f"{path} has ids {ids.shape} and embeddings {embeddings.shape}: they must be equally many, ids [n] and embeddings [n, ...].")
    return Archive("npz", _keyed(ids.tolist(), range(len(ids)), path), embeddings.__getitem__, lambda _: sha256_file(path))


def _of_parquet(path: Path) -> Archive:
    import pyarrow.parquet

    with _reading(path):
        table = pyarrow.parquet.read_table(path, columns=["id", "embedding"])
        ids, embeddings = table["id"].to_pylist(), table["embedding"]

    def read(row: int) -> np.ndarray:
        try:
            return np.array(embeddings[row].as_py(), np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: the embedding of {ids[row]!r} is no list of numbers, nor a list of equally long ones ({error}).") from error

    return Archive("parquet", _keyed(ids, range(len(ids)), path), read, lambda _: sha256_file(path))


def _of_tfds(path: Path) -> Archive:
    import tensorflow_datasets as tfds

    from jaxkd.data.tfds_folder import Rows, reading

    with reading(path):
        builder = tfds.builder_from_directory(path)
    features = sorted(builder.info.features or ())  # type: ignore[arg-type]
    if not {"id", "embedding"} <= set(features):
        raise DataError(f"{path} has the features {', '.join(features)}, but id and embedding are needed: write it anew with features of these names.")
    sources = {split: Rows(builder, split) for split in builder.info.splits}
    places = [(split, row) for split, source in sources.items() for row in range(len(source))]
    names = [sources[split][row]["id"] for split, row in places]

    def read(place: tuple[str, int]) -> np.ndarray:
        return np.asarray(sources[place[0]][place[1]]["embedding"])

    def hash_of(_: list[Any]) -> str:
        return sha256_json([[file.name, sha256_file(file)] for file in sorted(path.iterdir()) if file.is_file()])

    return Archive("tfds", _keyed(names, places, path), read, hash_of)


def open_archive(archive: str | Path) -> Archive:
    """Opens a folder or file of embeddings.

    Raises:
      ConfigError: no such folder or file, or a kind that is not read.
      DataError: it is damaged, lacks what it should hold, or has an id twice.
    """
    check_archive(str(archive))
    path = Path(archive).expanduser()
    if path.is_dir():
        return _of_tfds(path) if (path / TFDS_INFO).is_file() else _of_folder(path)
    return _of_npz(path) if path.suffix == ".npz" else _of_parquet(path)


def _spellings(example: str, split: str) -> list[str]:
    """The names under which the embedding of an example may lie."""
    names = dict.fromkeys([example, example.removeprefix(f"{split}/")])
    return list(names | {str(PurePosixPath(name).with_suffix("")): None for name in names if PurePosixPath(name).suffix.lower() in MEDIA_SUFFIXES})


def _matched(keys: Mapping[str, Any], splits: Mapping[str, Sequence[str]], archive: str) -> dict[str, str]:
    """Example id -> its key; raises DataError unless each example has one, and its own."""
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    missing = []
    for split, ids in splits.items():
        for example in ids:
            fitting = [name for name in _spellings(example, split) if name in keys]
            if len(fitting) > 1:
                raise DataError(f"{archive} has two embeddings for the example {example!r}, {fitting[0]!r} and {fitting[1]!r}: keep one.")
            if not fitting:
                missing.append((example, split))
            elif fitting[0] in taken:
                raise DataError(f"{archive}: the embedding {fitting[0]!r} fits two examples, {taken[fitting[0]]!r} and {example!r}: name it by the whole id.")
            else:
                found[example], taken[fitting[0]] = fitting[0], example
    if missing:
        wanted, there = " or ".join(map(repr, _spellings(*missing[0]))), ", ".join(map(repr, list(keys)[:3])) or "none"
        raise DataError(
            f"{len(missing)} of {len(missing) + len(found)} examples have no embedding in {archive}, but each needs one; the first is {missing[0][0]!r}, "
            f"looked for as {wanted}. It has {len(keys)} embeddings, the first of them {there}: name them by the examples' ids, or add those that are missing."
        )
    return found


class PrecomputedTeacher:
    """Embeddings on disk, by example id; `embed` takes ids. Attributes as in `jaxkd.teachers.Teacher`, and `note`, which counts embeddings of no example.

    Args:
      archive: see the module.
      splits: ids by split.
      hop_seconds: distance of two frames, 0 for unknown.

    Raises:
      ConfigError, DataError: as `open_archive`, or an example without an embedding of its own.
    """

    name = NAME
    embedding = "stored"
    sample_rate = None
    parameters = None
    tags: tuple[str, ...] = ()

    def __init__(self, archive: str, splits: Mapping[str, Sequence[str]], *, hop_seconds: float = 0.0) -> None:
        self._path, self._archive = archive, open_archive(archive)
        self._keys = _matched(self._archive.keys, splits, archive)
        surplus = len(self._archive.keys) - len(self._keys)
        self.note = f"{surplus} of {len(self._archive.keys)} belong to no example and were left out" if surplus else ""
        places = [self._archive.keys[key] for key in self._keys.values()]
        self.weight_hash = self._archive.hash_of(places)
        self.hop_seconds = hop_seconds
        self.preprocessing = {"kind": self._archive.kind}
        self._first = next(iter(self._keys))
        self._shape = self._read(self._first).shape
        self.dim = self._shape[1]

    def _read(self, example: str) -> np.ndarray:
        """float32 [T, D]."""
        values = np.asarray(self._archive.read(self._archive.keys[self._keys[example]]))
        if values.ndim not in (1, 2) or not values.size or values.dtype.kind not in "fiub":
            raise DataError(f"{self._path}: the embedding of {example!r} is {values.dtype} {values.shape}, but must be numbers [frames, D] or [D].")
        with np.errstate(over="ignore"):
            values = np.atleast_2d(values).astype(np.float32)
        bad = ~np.isfinite(values)
        if bad.any():
            raise DataError(
                f"{self._path}: the embedding of {example!r} has {bad.sum()} of {bad.size} values that are NaN or infinite in float32, the first "
                f"{values[bad][0]}, but all must be finite: embed that example anew, or leave it out of the data."
            )
        return values

    def macs_of(self, ids: list[str]) -> None:
        """None: what made the embeddings is not known."""

    def embed(self, ids: list[str]) -> np.ndarray:
        """Ids -> float32 [B, T, D].

        Raises:
          DataError: an embedding is no array of finite numbers, or of another shape than that of the first example.
        """
        rows = [self._read(example) for example in ids]
        for example, row in zip(ids, rows, strict=True):
            if row.shape != self._shape:
                what = "wide" if row.shape[1] != self.dim else "long"
                fix = "take one embedding for all" if what == "wide" else "cut or fill up all to one number of frames, or keep their mean [D]"
                raise DataError(
                    f"{self._path}: the embeddings are not equally {what}: {self._shape} of {self._first!r}, {row.shape} of {example!r} (frames, D): {fix}."
                )
        return np.stack(rows)


def build(name: str, *, embedding: str, archive: Path, splits: Mapping[str, Sequence[str]], hop_seconds: float) -> PrecomputedTeacher:
    """Opens the embeddings; see `PrecomputedTeacher`. They have no name, so that `embedding` is ""."""
    return PrecomputedTeacher(str(archive), splits, hop_seconds=hop_seconds)


class Ids:
    """A data set as the embed stage reads it for this teacher: its rows are the ids themselves."""

    sample_rate = None

    def __init__(self, dataset: Any) -> None:
        self.fingerprint: str = dataset.fingerprint
        self.splits: dict[str, list[str]] = dataset.splits

    def gather(self, ids: list[str]) -> list[str]:
        """The ids."""
        return ids
