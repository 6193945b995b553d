"""Names to objects: a table of lazy `module:attribute` strings, or a user's own `package.module:attribute`, the one plug-in door."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from jaxkd.errors import ConfigError, unknown_name


def check_name(kind: str, name: str, valid: Iterable[str]) -> None:
    """Raises ConfigError unless `name` is valid or has the form `package.module:attribute`; imports nothing."""
    valid = list(valid)
    module, colon, attribute = name.partition(":")
    if name not in valid and not (colon and module and attribute.isidentifier()):
        raise unknown_name(kind, name, valid)


def resolve(kind: str, name: str, table: Mapping[str, str]) -> Any:
    """The object that a name stands for.

    Args:
      kind: what it is, for the message: "student", "method".
      name: in the table, or `package.module:attribute`.
      table: names -> `module:attribute`.

    Raises:
      ConfigError: an unknown name, or one that cannot be imported.
    """
    check_name(kind, name, table)
    module, _, attribute = table.get(name, name).partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{kind} {name!r} could not be imported: {error}.") from error
