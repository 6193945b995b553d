"""Students by name: small networks with a head of K outputs and taps on their stages."""

import importlib
from typing import Any

from jaxkd.errors import unknown_name

STUDENTS = {
    "cp_resnet": "jaxkd.students.cp_resnet:cp_resnet",
    "cp_resnet_small": "jaxkd.students.cp_resnet:cp_resnet_small",
    "cp_resnet_tiny": "jaxkd.students.cp_resnet:cp_resnet_tiny",
}


def check(name: str) -> None:
    """Raises ConfigError unless `name` is in the table or has the plug-in form `package.module:attribute`."""
    if name not in STUDENTS and ":" not in name:
        raise unknown_name("student", name, STUDENTS)


def build(name: str, *, num_outputs: int, axis_name: str | None = None) -> Any:
    """Builds a student.

    Args:
      name: a name of STUDENTS, or `package.module:attribute` of a function with the keywords below.
      num_outputs: K, the size of the head.
      axis_name: the pmap axis that BatchNorm averages over, or None.

    Returns:
      A `flax.linen.Module` whose `__call__(inputs [B, T, F], train)` gives `jaxkd.types.StudentOutputs`.

    Raises:
      ConfigError: an unknown name.
    """
    check(name)
    module, attribute = STUDENTS.get(name, name).split(":")
    return getattr(importlib.import_module(module), attribute)(num_outputs=num_outputs, axis_name=axis_name)
