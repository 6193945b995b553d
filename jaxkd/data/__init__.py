"""Data: fetched archives, sources of examples by id, and the data set on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxkd.plugins import resolve

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
      ConfigError: an unknown source, one that cannot be imported, or an impossible combination.
      DataError: what the data set is made from is missing or damaged, or the data set in the cache was altered.
    """
    return resolve("data source", data_config.source, SOURCES)(data_config, Path(cache_dir))
