"""Methods by name: the trained parts beside the student, the losses and their weights. Read without importing JAX."""

from typing import Any

from jaxkd.plugins import check_name, resolve

METHODS = {
    "baseline": "jaxkd.methods.baseline:build",
    "east": "jaxkd.methods.east:build",
    "compressed": "jaxkd.methods.compressed:build",
}

REFERENCES = ("probe",)
"""Rows of a comparison without a student: what the teacher itself reaches, here through a linear probe on its embedding."""


def check(name: str) -> None:
    """Raises ConfigError unless `name` is a method, a reference, or has the plug-in form `package.module:attribute`."""
    check_name("method", name, (*METHODS, *REFERENCES))


def build(name: str, config: Any, *, num_labels: int, feature_dim: int) -> Any:
    """Builds a method.

    Args:
      name: a name of METHODS, or `package.module:attribute` of a function with the arguments below.
      config: the whole experiment's config.
      num_labels: K.
      feature_dim: C, the width of the student's features.

    Returns:
      A `jaxkd.methods.method.Method`.

    Raises:
      ConfigError: an unknown name, or one that cannot be imported.
    """
    return resolve("method", name, METHODS)(config, num_labels=num_labels, feature_dim=feature_dim)
