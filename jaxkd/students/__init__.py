"""Students by name: small networks with a head of K outputs and taps on their stages."""

from typing import Any

from jaxkd.plugins import check_name, resolve

STUDENTS = {
    "cp_resnet": "jaxkd.students.cp_resnet:cp_resnet",
    "cp_resnet_small": "jaxkd.students.cp_resnet:cp_resnet_small",
    "cp_resnet_tiny": "jaxkd.students.cp_resnet:cp_resnet_tiny",
}


def check(name: str) -> None:
    """Raises ConfigError unless `name` is in the table or has the plug-in form `package.module:attribute`."""
    check_name("student", name, STUDENTS)


def build(name: str, *, num_outputs: int, axis_name: str | None = None) -> Any:
    """Builds a student.

    Args:
      name: a name of STUDENTS, or `package.module:attribute` of a function with the keywords below.
      num_outputs: K, the size of the head.
      axis_name: the pmap axis that BatchNorm averages over, or None.

    Returns:
      A `flax.linen.Module` whose `__call__(inputs [B, T, F], train)` gives `jaxkd.types.StudentOutputs`.

    Raises:
      ConfigError: an unknown name, or one that cannot be imported.
    """
    return resolve("student", name, STUDENTS)(num_outputs=num_outputs, axis_name=axis_name)
