"""Data: fetched archives, sources of examples by id, and the data set on disk."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxkd.config import default_config
from jaxkd.errors import ConfigError
from jaxkd.files import exclusive
from jaxkd.hosts import count, gathered_bytes, index, seen_by, wait_for_file
from jaxkd.plugins import resolve
from jaxkd.together import exclusive_to_job, failing_together

if TYPE_CHECKING:
    from jaxkd.data.dataset import Dataset

SOURCES: dict[str, str] = {
    "rendered_instruments": "jaxkd.data.rendered:prepare",
    "audio_folder": "jaxkd.data.folder:prepare",
    "openmic": "jaxkd.data.openmic:prepare",
    "magnatagatune": "jaxkd.data.magnatagatune:prepare",
    "newsgroups": "jaxkd.data.newsgroups:prepare",
    "newsgroups_bin": "jaxkd.data.newsgroups:prepare",
    "rotten_tomatoes": "jaxkd.data.movie_reviews:prepare",
    "imdb": "jaxkd.data.movie_reviews:prepare",
    "amazon_reviews": "jaxkd.data.amazon:prepare",
    "text_file": "jaxkd.data.text_file:prepare",
    "fashion_mnist": "jaxkd.data.fashion_mnist:prepare",
    "fashion_mnist_bin": "jaxkd.data.fashion_mnist:prepare",
    "fashion_mnist_hard": "jaxkd.data.fashion_mnist:prepare",
    "digits": "jaxkd.data.digits:prepare",
    "digits_bin": "jaxkd.data.digits:prepare",
    "image_folder": "jaxkd.data.image_folder:prepare",
    "tfds": "jaxkd.data.tfds_source:prepare",
}

_MODALITIES = {
    "audio": ("rendered_instruments", "audio_folder", "openmic", "magnatagatune"),
    "text": ("newsgroups", "newsgroups_bin", "rotten_tomatoes", "imdb", "amazon_reviews", "text_file"),
    "image": ("fashion_mnist", "fashion_mnist_bin", "fashion_mnist_hard", "digits", "digits_bin", "image_folder"),
}

OWN_FILES = ("text_file", "image_folder")
"""Sources that are the user's own files, of any size and classes."""

TFDS_AUDIO = ("gtzan", "nsynth", "speech_commands")
"""Names of TFDS, whatever config and version, that are known to be audio, with one class a clip, before they are read."""

READ_BY: dict[str, tuple[str, ...]] = {
    "folder": ("audio_folder", "openmic", "magnatagatune", "amazon_reviews", *OWN_FILES),
    "archive": ("newsgroups", "newsgroups_bin", "rotten_tomatoes", "imdb", "fashion_mnist", "fashion_mnist_bin", "fashion_mnist_hard"),
    **dict.fromkeys(("scores_archive", "train_bank_archive", "unseen_bank", "unseen_bank_archive"), ("rendered_instruments",)),
    **dict.fromkeys(("tfds_name", "tfds_data_dir"), ("tfds",)),
    **dict.fromkeys(("text_column", "label_column"), ("amazon_reviews", "text_file", "tfds")),
    "image_size": ("image_folder",),
    "binary": ("newsgroups", "newsgroups_bin", "amazon_reviews", "tfds"),
    "views": (*_MODALITIES["image"], "tfds"),
}
"""Fields of `config.data` that only some sources read, and which."""

_READ_A_FILE = ("amazon_reviews", "text_file")
"""Sources whose `folder` may be a single file."""

_ORIGINAL_CLASSES = {
    **dict.fromkeys(("newsgroups", "newsgroups_bin"), 20),
    **dict.fromkeys(("rotten_tomatoes", "imdb"), 2),
    "amazon_reviews": 5,
    **dict.fromkeys(("fashion_mnist", "fashion_mnist_bin", "fashion_mnist_hard", "digits", "digits_bin"), 10),
}
"""Before they are merged to two, where that is known; each needs a labelled row. Of the five of amazon_reviews merging leaves out one."""

_WITH_FINE_CLASSES = ("newsgroups_bin", "fashion_mnist_bin", "fashion_mnist_hard", "digits_bin")


def modality_of(data_config: Any) -> str | None:
    """The modality, audio, text or image; None for what tells only when it is read (TFDS but for its known audio, a user's own source)."""
    source, name = data_config.source, data_config.tfds_name.partition(":")[0].partition("/")[0]
    if source == "tfds" and name in TFDS_AUDIO and data_config.text_column in ("", "audio"):
        return "audio"
    return next((modality for modality, names in _MODALITIES.items() if source in names), None)


def check_fields(config: Any) -> None:
    """Checks that a field of `READ_BY` that is set is read by the source, or by that of the other data set, which shares all fields but its folder.

    Raises:
      ConfigError: names the field, its value and the sources that read it.
    """
    defaults: Any = default_config().data
    for field, readers in READ_BY.items():
        default = defaults[field]
        for part in ("data", "other"):
            own = config[part].source
            sources = {own} if field == "folder" else {config.data.source, config.other.source} - {""}
            value = config[part].get(field, default)
            if value == default or any(source in readers or source not in SOURCES for source in sources):
                continue
            other_source = f"{own}_bin" if field == "binary" and f"{own}_bin" in SOURCES else f"one of {', '.join(readers)}"
            raise ConfigError(
                f"config.{part}.{field} is {value!r}, but {part}.source={own!r} does not read it: set it to {default!r}, or the source to {other_source}."
            )


def check_folders(config: Any, *, also: str = "") -> None:
    """Checks that the folder of the data, and of the other data set, is there where its source reads one; `also` is what else to set where none is named.

    Raises:
      ConfigError: names the field, its value and the source that reads it.
    """
    for part in ("data", "other"):
        source, folder = config[part].source, config[part].folder
        if source not in READ_BY["folder"]:
            continue
        if not folder:
            raise ConfigError(f"config.{part}.folder is empty, but config.{part}.source={source!r} reads it: set --config.{part}.folder=PATH{also}.")
        path, kind = Path(folder).expanduser(), "folder or file" if source in _READ_A_FILE else "folder"
        if not path.is_dir() and not (source in _READ_A_FILE and path.is_file()):
            found = f"is no {kind}" if path.exists() else "does not exist"
            raise ConfigError(f"config.{part}.folder is {folder!r}, which {found}: name the {kind} that config.{part}.source={source!r} is read from.")


def check_labelled(data_config: Any) -> None:
    """Checks, where the classes are known before the data are read, that `data_config.labelled` has a row for each; 0 is all rows.

    Raises:
      ConfigError: names the value and the least.
    """
    source, least = data_config.source, _ORIGINAL_CLASSES.get(data_config.source, 0)
    least -= source == "amazon_reviews" and data_config.binary
    if 0 < data_config.labelled < least:
        raise ConfigError(f"config.data.labelled is {data_config.labelled}, but must be at least {least}, a row of each class of {source}, or 0 for all.")


def may_have_fine_classes(data_config: Any) -> bool:
    """Whether the classes may hold hidden ones; of two classes merged from others, and of a user's own source, that is known when it is read."""
    source = data_config.source
    return source not in SOURCES or source in _WITH_FINE_CLASSES or (data_config.binary and source in READ_BY["binary"])


def prepare(data_config: Any, cache_dir: Path) -> "Dataset":
    """Makes the data set that `data_config` describes, or opens it if it is in the cache already; every process of a job must call it.

    In a job process 0 alone makes it, or reads all of it to verify it, and the others open it, if they share the folder; else each does it for itself.

    Args:
      data_config: the `data` part of a config; `data_config.source` is a name of `SOURCES` or a `package.module:attribute` of the same signature.
      cache_dir: the cache; the data set goes to `cache_dir/datasets/NAME-FINGERPRINT/`.

    Raises:
      ConfigError: an unknown source, one that cannot be imported, or an impossible combination.
      DataError: what the data set is made from is missing or damaged, or the data set in the cache was altered.
    """
    cache_dir = Path(cache_dir)
    with failing_together():
        source = resolve("data source", data_config.source, SOURCES)
    if count() > 1 and seen_by(cache_dir / "datasets").all():
        return _prepare_once(source, data_config, cache_dir)
    with failing_together(), exclusive(cache_dir, "datasets", "preparing data"):
        return source(data_config, cache_dir)


def _prepare_once(source: Callable[[Any, Path], "Dataset"], data_config: Any, cache_dir: Path) -> "Dataset":
    """`prepare` by process 0, whose data set the others open; where a source changes in memory what it has written, each calls it."""
    from jaxkd.data.dataset import MANIFEST, Dataset

    own, told = None, b""
    with exclusive_to_job(cache_dir, "datasets", "preparing data"):
        with failing_together():
            if index() == 0:
                own = source(data_config, cache_dir)
                told = json.dumps([os.path.relpath(own.path, cache_dir), own.fingerprint]).encode()
        name, fingerprint = json.loads(gathered_bytes(told)[0])
        with failing_together():
            if own is None:
                wait_for_file(cache_dir / name / MANIFEST)
                own = Dataset.open(cache_dir / name)
                own = own if own.fingerprint == fingerprint else source(data_config, cache_dir)
    return own
