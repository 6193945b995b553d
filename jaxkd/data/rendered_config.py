"""What the source "rendered_instruments" can be asked for; read without what renders it."""

from typing import Any

from jaxkd.data.instruments import INSTRUMENTS
from jaxkd.data.render import RENDERED_RATE
from jaxkd.errors import ConfigError, unknown_name

MAX_CLIP_SECONDS = 60.0


def check_config(data_config: Any) -> None:
    """Raises ConfigError for a value that cannot be rendered; needs neither network nor cache."""
    for field, least in {"labelled": 1, "unlabelled": 0, "valid": 1, "test": 1, "unseen": 0, "seed": 0, "sample_rate": 4000}.items():
        value = getattr(data_config, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"data.{field}={value!r} should be a whole number of at least {least}.")
    if data_config.unseen > data_config.test:
        raise ConfigError(f"data.unseen={data_config.unseen} exceeds data.test={data_config.test}: unseen clips are test clips on another bank.")
    if data_config.sample_rate > RENDERED_RATE:
        raise ConfigError(f"data.sample_rate={data_config.sample_rate} exceeds the renderer's {RENDERED_RATE}.")
    if not 0.1 <= data_config.clip_seconds <= MAX_CLIP_SECONDS:
        raise ConfigError(f"data.clip_seconds={data_config.clip_seconds} should be between 0.1 and {MAX_CLIP_SECONDS:.0f}.")
    if not data_config.classes or len(set(data_config.classes)) != len(data_config.classes):
        raise ConfigError(f"data.classes={tuple(data_config.classes)!r} should be a list of different names.")
    for name in data_config.classes:
        if name not in INSTRUMENTS:
            raise unknown_name("instrument class", name, INSTRUMENTS)
