"""Names to objects: a table of lazy `module:attribute` strings, or a user's own `package.module:attribute`, the one plug-in door."""

import contextlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from typing import Any

from jaxkd.errors import ConfigError, unknown_name
from jaxkd.files import sha256_file

_PLUG_IN = re.compile(r"\w[\w.]*:\w+")


def check_name(kind: str, name: str, valid: Iterable[str]) -> None:
    """Raises ConfigError unless `name` is valid or has the form `package.module:attribute`; imports nothing."""
    valid = list(valid)
    module, colon, attribute = name.partition(":")
    if name not in valid and not (colon and module and attribute.isidentifier()):
        raise unknown_name(kind, name, valid)


def sources(values: Iterable[Any]) -> dict[str, str]:
    """Of the modules outside jaxkd that a `package.module:attribute` among some values or lists names: 12 hex digits of the checksum of the file."""
    found = {}
    names = [name for value in values for name in (value if isinstance(value, list) else [value]) if isinstance(name, str) and _PLUG_IN.fullmatch(name)]
    for module in sorted({name.partition(":")[0] for name in names}):
        with contextlib.suppress(ImportError):
            spec = importlib.util.find_spec(module)
            if spec is not None and spec.has_location and spec.origin and not module.startswith("jaxkd."):
                found[f"source of {module}"] = sha256_file(spec.origin)[:12]
    return found


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
