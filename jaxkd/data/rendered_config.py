"""What the source "rendered_instruments" can be asked for; read without what renders it."""

from typing import Any

from jaxkd.data.instruments import INSTRUMENTS
from jaxkd.data.render import RENDERED_RATE
from jaxkd.errors import ConfigError, unknown_name

MIN_SAMPLE_RATE = 4000
CLIP_SECONDS = (0.1, 60.0)


def check_config(data_config: Any, *, part: str = "data") -> None:
    """Raises ConfigError for a value that `jaxkd.config.validate` allows and that cannot be rendered; needs neither network nor cache.

    Args:
      data_config: the `data` part of a config.
      part: of the user's config that the length of the clips comes from; for messages.
    """
    if data_config.unseen > data_config.test:
        raise ConfigError(
            f"config.data.unseen is {data_config.unseen}, above config.data.test {data_config.test}, but unseen clips are test clips on another bank: lower it."
        )
    if not MIN_SAMPLE_RATE <= data_config.sample_rate <= RENDERED_RATE:
        raise ConfigError(f"config.data.sample_rate is {data_config.sample_rate}, but the renderer gives {MIN_SAMPLE_RATE} to {RENDERED_RATE} Hz.")
    least, most = CLIP_SECONDS
    if not least <= data_config.clip_seconds <= most:
        raise ConfigError(f"config.{part}.clip_seconds is {data_config.clip_seconds}, but must be between {least:g} and {most:g}.")
    for name in data_config.classes:
        if name not in INSTRUMENTS:
            raise unknown_name("instrument class", name, INSTRUMENTS)
