"""Data: fetched archives, sources of examples by id, and the data set on disk."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxkd.errors import unknown_name

if TYPE_CHECKING:
    from jaxkd.data.audio_dataset import AudioDataset

SOURCES: dict[str, str] = {
    "rendered_instruments": "jaxkd.data.rendered:prepare",
    "audio_folder": "jaxkd.data.folder:prepare",
}


def prepare(data_config: Any, cache_dir: Path) -> "AudioDataset":
    """Makes the data set that `data_config` describes, or opens it if it is in the cache already.

    Args:
      data_config: the `data` part of a config; `data_config.source` is a name of `SOURCES` or a `package.module:attribute` of the same signature.
      cache_dir: the cache; the data set goes to `cache_dir/datasets/NAME-FINGERPRINT/`.

    Raises:
      ConfigError: an unknown source or an impossible combination.
      DataError: what the data set is made from is missing or damaged.
    """
    source: str = data_config.source
    target = SOURCES.get(source, source)
    if ":" not in target:
        raise unknown_name("data source", source, SOURCES)
    module, attribute = target.split(":", 1)
    return getattr(importlib.import_module(module), attribute)(data_config, Path(cache_dir))
