"""The frozen teachers that a config names: one, and `config.teacher.others` beside it. Read without importing JAX."""

import shlex
from collections.abc import Container
from typing import Any, NamedTuple

from jaxkd.errors import ConfigError, unknown_name

NORMALISATIONS = ("none", "zscore", "vggish", "openl3")
FIELDS = ("embedding", "archive", "normalisation", "hop_seconds")


class Choice(NamedTuple):
    """One frozen teacher.

    Attributes:
      name: of the teachers' table, "hear:PACKAGE.MODULE", or "package.module:attribute".
      embedding: one of its embeddings, "" for its default.
      archive: local file or folder, "" to fetch what is needed.
      normalisation: of the embedding, one of NORMALISATIONS.
      hop_seconds: distance of two frames of precomputed embeddings, 0 for unknown.
      compute_dtype: "float32", or "bfloat16" for the operands of its products.
    """

    name: str
    embedding: str = ""
    archive: str = ""
    normalisation: str = "none"
    hop_seconds: float = 0.0
    compute_dtype: str = "float32"

    @property
    def label(self) -> str:
        """Name and embedding, as a report shows them."""
        return f"{self.name}:{self.embedding}" if self.embedding else self.name


def choices(settings: Any, table: Container[str]) -> tuple[Choice, ...]:
    """The frozen teachers of `config.teacher`, the main one first; `table` holds the names without a colon.

    An entry of `others` is NAME or NAME:EMBEDDING, then FIELD=VALUE pairs separated by spaces, with the fields `archive`, `normalisation` (that of the main
    teacher if it is not given) and `hop_seconds`: "MSD_musicnn:penultimate", "precomputed archive=vggish.npz normalisation=vggish hop_seconds=0.96".

    Raises:
      ConfigError: an entry that cannot be read.
    """
    main = Choice(settings.name, settings.embedding, settings.archive, settings.normalisation, settings.hop_seconds, settings.compute_dtype)
    return main, *(_entry(entry, main, table) for entry in settings.others)


def _entry(entry: Any, main: Choice, table: Container[str]) -> Choice:
    try:
        words = shlex.split(entry) if isinstance(entry, str) else []
    except ValueError as error:
        raise ConfigError(f"config.teacher.others has {entry!r}, which cannot be read: {error}.") from error
    if not words:
        raise ConfigError(f"config.teacher.others has {entry!r}, but an entry is the name of a teacher, then FIELD=VALUE pairs.")
    parts = words[0].split(":")
    length = 1 if parts[0] in table else 2
    values: dict[str, Any] = {"normalisation": main.normalisation, "embedding": ":".join(parts[length:])}
    for word in words[1:]:
        field, equals, text = word.partition("=")
        if not equals or field not in FIELDS:
            raise unknown_name(f"field of {entry!r} in config.teacher.others", word, [f"{name}=..." for name in FIELDS])
        values[field] = text
    try:
        values["hop_seconds"] = float(values.get("hop_seconds", 0.0))
    except ValueError:
        raise ConfigError(f"config.teacher.others has {entry!r}, but hop_seconds={values['hop_seconds']} is no number of seconds.") from None
    if values["normalisation"] not in NORMALISATIONS:
        raise unknown_name(f"normalisation of {entry!r} in config.teacher.others", values["normalisation"], NORMALISATIONS)
    return Choice(":".join(parts[:length]), compute_dtype=main.compute_dtype, **values)
