"""Source "tfds": texts, images or audio of TensorFlow Datasets, by name, read without TensorFlow.

What TFDS prepares is kept in the user's own TFDS folder, as array_record. Builders that need TensorFlow, such as those of GLUE and of audio, come with the
extra `tfds-tf`; a folder that such a builder has once prepared as array_record is read without it, unless it holds TFDS's own audio feature.
"""

import contextlib
import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError
from tensorflow_datasets.core.constants import DATA_DIR
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.read_only_builder import ReadOnlyBuilder

from jaxkd.data import SOURCES
from jaxkd.data.clips import fit_clip
from jaxkd.data.dataset import Dataset
from jaxkd.data.hidden_classes import by_parity
from jaxkd.data.labelled_split import Corpus, Examples, prepare_corpus
from jaxkd.data.tfds_audio import is_audio, member, rate_of, read_audio
from jaxkd.data.tfds_folder import Rows
from jaxkd.data.tfds_plain import PLAIN_BUILDERS, without_tensorflow
from jaxkd.errors import ConfigError, DataError, FetchError, ResourceError, nearest
from jaxkd.files import require_free_memory
from jaxkd.progress import progress

NAME = "tfds"
FILE_FORMAT = "array_record"
INSTALL = "python -m pip install 'jaxkd[tfds-tf]'"


@dataclass(frozen=True)
class Keys:
    """How the rows of a TFDS data set are read.

    Attributes:
      input: the feature with the text, image or audio.
      label: the feature with the label; a member of a feature as OUTER/INNER.
      test: the split that serves as test part; where there is none, "validation" does, and where there is neither, test rows are drawn from "train".
      valid: the split that serves as validation part, or "" to draw validation rows from "train".
      values: names of the classes by label value, where the feature does not tell.
      dropped: label values that belong to no class; their rows are left out.
    """

    input: str
    label: str
    test: str = "test"
    valid: str = ""
    values: Mapping[int, str] = field(default_factory=dict)
    dropped: tuple[int, ...] = ()


KEYS: dict[str, Keys] = {
    "imdb_reviews": Keys("text", "label"),
    "sentiment140": Keys("text", "polarity", values={0: "negative", 4: "positive"}, dropped=(2,)),
    "cifar10": Keys("image", "label"),
    "cifar100": Keys("image", "label"),
    "fashion_mnist": Keys("image", "label"),
    "mnist": Keys("image", "label"),
    "glue/cola": Keys("sentence", "label", test="validation"),
    "glue/sst2": Keys("sentence", "label", test="validation"),
    "gtzan": Keys("audio", "label"),
    "nsynth": Keys("audio", "instrument/family", valid="valid", dropped=(9,)),
    "speech_commands": Keys("audio", "label", valid="validation"),
}
"""By name without version. The labels of GLUE's own test parts are not published; GTZAN has no split; NSynth has family 9, synth_lead, in "train" alone."""

NEED_TENSORFLOW = ("glue", "gtzan")


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Draws the data set that `data_config` describes (see `jaxkd.data.labelled_split.prepare_corpus`), or opens it from the cache.

    `data_config.tfds_name` is NAME, NAME/CONFIG or NAME/CONFIG:VERSION; `data_config.tfds_data_dir` the folder that TFDS prepares data sets in (its own
    default if empty). The features of a name that is not in `KEYS` are named by `data_config.text_column` (a text, image or audio) and `label_column`,
    which may also choose others of a name that is (CIFAR-100's coarse_label, NSynth's pitch). `data_config.binary` merges the classes to two by number
    modulo 2 and keeps the original ones as fine labels. Audio becomes clips of `clip_seconds` at `sample_rate`, mono; a lower rate is resampled too, and
    the notes count what was done.

    Raises:
      ConfigError: no name, an unknown one, or no such feature; more rows than there are, or too few.
      FetchError: TFDS cannot download the data set.
      DataError: a feature or label that cannot be read; the message names it.
      ArtefactError: the data set in the cache was altered; the message names the file and what to remove.
      ResourceError: TensorFlow is needed and missing; too little disk or memory.
    """
    name = data_config.tfds_name
    if not name:
        raise ConfigError(f"data.source=tfds needs data.tfds_name=NAME, for example {', '.join(KEYS)}.")
    builder = _builder(name, data_config.tfds_data_dir)
    keys = _keys(data_config, builder)
    made_from: dict[str, Any] = {"tfds": builder.info.full_name, "keys": [keys.input, keys.label, keys.test], "binary": data_config.binary}
    rate = rate_of(builder.info, member(builder.info.features, keys.input))
    if is_audio(member(builder.info.features, keys.input), rate):
        made_from |= {"sample_rate": data_config.sample_rate, "points": _points(data_config)}
    if isinstance(builder, ReadOnlyBuilder):
        made_from["rows"] = {split: [info.num_examples, info.num_bytes] for split, info in builder.info.splits.items()}

    def load() -> Corpus:
        _make_ready(builder, data_config.tfds_data_dir)
        licences = {"rows": builder.info.redistribution_info.license or f"the terms of {builder.info.full_name} ({builder.info.homepage or 'none stated'})"}
        notes = {"citation": builder.info.citation} if builder.info.citation else {}
        remarks: Counter[str] = Counter()
        train = _read(builder, "train", keys, data_config, remarks)
        originals, values = _classes(builder, keys, train)
        splits = builder.info.splits or (keys.test,)
        test_split = next((split for split in (keys.test, "validation") if split in splits), None)
        test = _numbered(_read(builder, test_split, keys, data_config, remarks), values, keys) if test_split else None
        valid = _numbered(_read(builder, keys.valid, keys, data_config, remarks), values, keys) if keys.valid else None
        groups = by_parity(originals) if data_config.binary and len(originals) > 2 else None
        return Corpus(_numbered(train, values, keys), test, None, originals, groups, licences, notes, valid)

    return prepare_corpus(data_config, cache_dir, name=NAME, made_from=made_from, load=load)


def _builder(name: str, data_dir: str) -> Any:
    try:
        with _tensorflow_for(name, data_dir):
            return tfds.builder(name, data_dir=str(Path(data_dir).expanduser()) if data_dir else None, file_format=FILE_FORMAT)
    except tfds.core.DatasetNotFoundError as error:
        if _tensorflow_is_missing() and name.partition("/")[0] in NEED_TENSORFLOW:
            raise _needs_tensorflow(name, data_dir) from error
        hint = nearest(name, {*SOURCES, *KEYS})
        hint += f" Builders that need TensorFlow are not found while it is missing: {INSTALL}." if _tensorflow_is_missing() else ""
        raise ConfigError(
            f"data.tfds_name={name}: TFDS has no such data set, neither as a builder nor prepared in its folder. Check the spelling.{hint}"
        ) from error
    except ParseError as error:
        raise DataError(
            f"data.tfds_name={name}: the dataset_info.json of its folder cannot be read ({str(error).splitlines()[0]}): copy the folder whole, or remove it "
            "and prepare it anew."
        ) from error
    except (ValueError, AssertionError) as error:
        raise ConfigError(
            f"data.tfds_name={name}: {str(error).splitlines()[0]} Check name, config and version; if it was prepared in another file format than "
            f"{FILE_FORMAT}, name another folder with data.tfds_data_dir=FOLDER."
        ) from error


def _tensorflow_is_missing() -> bool:
    return importlib.util.find_spec("tensorflow") is None


def _needs_tensorflow(name: str, data_dir: str) -> ResourceError:
    folder, own = Path(data_dir or DATA_DIR).expanduser(), name.partition(":")[0]
    found = f"holds no {own}" if folder.is_dir() else "does not exist"
    return ResourceError(
        f"the TFDS builder of {name} needs TensorFlow, which is not installed: {INSTALL}. A set that is prepared already is read without: "
        f"data.tfds_data_dir={data_dir!r} stands for {folder}, which {'holds it in another form' if (folder / own).is_dir() else found}."
    )


@contextlib.contextmanager
def _tensorflow_for(name: str, data_dir: str) -> Iterator[None]:
    """Names what is missing where TFDS fails to import it: the extra for TensorFlow, else the package."""
    try:
        yield
    except ImportError as error:
        if _tensorflow_is_missing():
            raise _needs_tensorflow(name, data_dir) from error
        raise ResourceError(f"the TFDS builder of {name} needs {error.name or error}, which is not installed: install that package.") from error


def _keys(data_config: Any, builder: Any) -> Keys:
    """How to read the data set: as the table says, with the features that the config names instead."""
    known = KEYS.get(data_config.tfds_name.partition(":")[0]) or KEYS.get(builder.name) or Keys("", "")
    chosen = replace(known, input=data_config.text_column or known.input)
    if data_config.label_column not in ("", known.label):
        chosen = replace(chosen, label=data_config.label_column, values={}, dropped=())
    try:
        for name in (chosen.input, chosen.label):
            member(builder.info.features, name)
    except (KeyError, TypeError):
        raise ConfigError(
            f"data.text_column={data_config.text_column!r} and data.label_column={data_config.label_column!r}: {builder.info.full_name} has the features "
            f"{', '.join(sorted(builder.info.features))}. Name two of them."
        ) from None
    return chosen


def _points(data_config: Any) -> int:
    return round(data_config.clip_seconds * data_config.sample_rate)


def _make_ready(builder: Any, data_dir: str) -> None:
    """Downloads and prepares the data set unless it is there."""
    if builder.is_prepared():
        return
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with without_tensorflow(builder) if builder.name in PLAIN_BUILDERS else _tensorflow_for(builder.name, data_dir):
            builder.download_and_prepare(download_config=config, file_format=FILE_FORMAT)
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise FetchError(
            f"TFDS could not prepare {builder.info.full_name} in {builder.data_dir} ({error}). Is the network there? Run again, or name a folder in which it "
            f"is prepared as {FILE_FORMAT} with data.tfds_data_dir=FOLDER."
        ) from error


def _read(builder: Any, split: str, keys: Keys, data_config: Any, remarks: Counter[str]) -> Examples:
    """The inputs and label values of a split, in TFDS's own order; `remarks` will count what was done to audio."""
    name, feature, label = builder.info.full_name, member(builder.info.features, keys.input), member(builder.info.features, keys.label)
    if label.shape != () or not np.issubdtype(label.np_dtype, np.integer):
        raise DataError(f"{name}: feature {keys.label} is {label}, but must be a whole number: choose another with data.label_column.")
    if builder.info.splits and split not in builder.info.splits:
        raise DataError(f"{name} has the splits {', '.join(builder.info.splits)}, but no {split}: choose another data set or config.")
    source, shape = Rows(builder, split), feature.shape
    rate = rate_of(builder.info, feature)
    if is_audio(feature, rate):
        assert rate is not None
        return read_audio(
            source,
            name=f"{name} {split}",
            input_key=keys.input,
            label_key=keys.label,
            fit=lambda decoded: fit_clip(decoded, data_config.sample_rate, _points(data_config)),
            rate=rate,
            points=_points(data_config),
            remarks=remarks,
        )
    if isinstance(feature, tfds.features.Image) and None not in shape and feature.np_dtype == np.uint8:
        require_free_memory(3 * len(source) * int(np.prod(shape)), f"reading {name}")
        inputs: Any = np.empty((len(source), *shape), np.uint8)
    elif isinstance(feature, tfds.features.Text) and shape == ():
        inputs = [""] * len(source)
    else:
        raise DataError(
            f"{name}: feature {keys.input} is {feature}, but must be a text, an 8-bit image of one size, or audio of a known rate: choose another with "
            "data.text_column."
        )
    labels = np.empty(len(source), np.int64)
    for place in progress(range(len(source)), description=f"reading {name} {split}", unit="row"):
        row = source[place]
        content = row[keys.input]
        inputs[place] = content.decode(errors="replace") if isinstance(content, bytes) else content
        labels[place] = member(row, keys.label)
    return Examples(inputs, labels)


def _classes(builder: Any, keys: Keys, train: Examples) -> tuple[tuple[str, ...], Sequence[int]]:
    """Names of the classes and the label value of each: those of the feature, of the table, or all values that occur in the training part."""
    feature = member(builder.info.features, keys.label)
    if isinstance(feature, tfds.features.ClassLabel) and feature.num_classes:
        kept = [value for value in range(feature.num_classes) if value not in keys.dropped]
        return tuple(feature.names[value] for value in kept), kept
    if keys.values:
        return tuple(keys.values.values()), tuple(keys.values)
    values = sorted({int(value) for value in train.classes})
    return tuple(map(str, values)), values


def _numbered(part: Examples, values: Sequence[int], keys: Keys) -> Examples:
    """Label values as places among the classes; raises DataError for a value of no class."""
    kept = part.take(np.flatnonzero(~np.isin(part.classes, keys.dropped))) if keys.dropped else part
    wrong = np.setdiff1d(kept.classes, values)
    if len(wrong):
        shown = f"{', '.join(map(str, list(values)[:5]))}{', ...' if len(values) > 5 else ''}"
        raise DataError(
            f"the feature {keys.label} has the value {wrong[0]}, which is none of the {len(values)} classes ({shown}). Choose another with data.label_column; "
            "a part whose labels are not published has -1."
        )
    return replace(kept, classes=np.searchsorted(values, kept.classes).astype(np.int32))
