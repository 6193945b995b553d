"""The tiny experiment that whole-program tests share: `configs/audio.py:runlocal`, on real rendered clips and the real teacher."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

CONFIGS = Path(__file__).parent.parent / "configs"


def user_environment(**variables: str) -> dict[str, str]:
    """The environment of a program as a user starts it: compiled in full."""
    return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | variables


def load_config(name: str, argument: str) -> ml_collections.ConfigDict:
    """The config of `configs/NAME.py:ARGUMENT`."""
    module_spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module.get_config(argument)


def small_config(*, method: str = "compressed") -> ml_collections.ConfigDict:
    """`configs/audio.py:method=METHOD,runlocal`."""
    return load_config("audio", f"method={method},runlocal")


def text_config(*, method: str = "lelp") -> ml_collections.ConfigDict:
    """`configs/text.py:method=METHOD,runlocal`: 20 Newsgroups by parity, with a classifier on WordLlama embeddings as the teacher."""
    return load_config("text", f"method={method},runlocal")


def dropping_student(*, num_outputs: int, axis_name: str | None) -> Any:
    """A bag of embeddings that drops half of its units in training, in plug-in form."""
    from jaxkd.students import build

    return build("bag_of_embeddings", num_outputs=num_outputs, axis_name=axis_name, dropout=0.5)


def parameters(workdir: Path) -> dict[str, np.ndarray]:
    """Those of the student of a finished run."""
    with np.load(workdir / "student" / "parameters.npz") as arrays:
        return dict(arrays)


def require_equal_students(workdir: Path, other: Path) -> None:
    """Sees that two finished runs have the same student, bit for bit."""
    ours, theirs = parameters(workdir), parameters(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
