"""The runs of a comparison: its rows, by name, and the config of each run."""

import ast
import copy
import re
from typing import Any

from jaxkd.config import flatten
from jaxkd.errors import ConfigError

_FIXED = ("name", "method", "seed", "compare")
"""What no setting of a row may change."""


def variants(config: Any) -> dict[str, tuple[str, ...]]:
    """The variants of `compare.variants`: name -> (method, "field=value", ..), from entries "NAME = METHOD field=value ..".

    Raises:
      ConfigError: an entry that cannot be read, or a name that comes twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for entry in config.compare.variants:
        name, _, definition = str(entry).partition("=")
        name = name.strip()
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or not definition.split() or "=" in definition.split()[0]:
            raise ConfigError(f"config.compare.variants has {entry!r}, but an entry is NAME = METHOD, then FIELD=VALUE pairs, separated by spaces.")
        if name in found:
            raise ConfigError(f"config.compare.variants names {name!r} twice: name each once.")
        found[name] = tuple(definition.split())
    return found


def rows(config: Any) -> dict[str, str]:
    """The rows of a comparison in their order, name -> method: its methods under their own names, then its variants."""
    return {method: method for method in config.compare.methods} | {name: definition[0] for name, definition in variants(config).items()}


def member(config: Any, name: str, seed: int) -> Any:
    """The run of one row and seed of a comparison.

    It is the config with method and seed set; then with what `compare.settings` says of the method; then, for a variant, with the variant's own pairs and
    what `compare.settings` says of the variant. An entry of `compare.settings` is a name and `field=value` pairs, separated by spaces:
    "lelp lelp.subclasses=5 distillation.temperature=2.0".

    Args:
      config: of the comparison.
      name: of a method, or of one of `compare.variants`.
      seed: of the run.

    Raises:
      ConfigError: an entry that cannot be read, or names a field that is unknown or that no setting may change; names the entry.
    """
    own = copy.deepcopy(config)
    method, *pairs = variants(config).get(name, (name,))
    own.method, own.seed = method, seed
    _apply_settings(own, config, method)
    if name != method:
        _apply(own, pairs, f"config.compare.variants has {' '.join([name, '=', method, *pairs])!r}")
        _apply_settings(own, config, name)
    return own


def _apply_settings(own: Any, config: Any, name: str) -> None:
    for entry in config.compare.settings:
        of, *pairs = entry.split()
        if of == name:
            _apply(own, pairs, f"config.compare.settings has {entry!r}")


def _apply(own: Any, pairs: list[str], where: str) -> None:
    fields = flatten(own)
    for pair in pairs:
        field, equals, text = pair.partition("=")
        if not equals or field not in fields or field.partition(".")[0] in _FIXED:
            raise ConfigError(f"{where}, but {pair!r} is not FIELD=VALUE of a field of the config.")
        try:
            own.update_from_flattened_dict({field: text if isinstance(fields[field], str) else ast.literal_eval(text)})
        except (TypeError, ValueError, SyntaxError) as error:
            raise ConfigError(f"{where}, but {text!r} is no value for {field} ({fields[field]!r}).") from error
