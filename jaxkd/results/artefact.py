"""The trained student as a function, with nothing of the teacher."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxkd import lelp, students
from jaxkd.data.hashed_words import HashedWords
from jaxkd.data.tokens import pad_tokens
from jaxkd.errors import ConfigError
from jaxkd.training.artefact import load_student
from jaxkd.training.experiment import probabilities
from jaxkd.training.inputs import transform_of


def load_predictor(path: str | Path) -> Callable[[Any], np.ndarray]:
    """The student of a run as a function.

    Args:
      path: its folder, `WORKDIR/student`.

    Returns:
      f(examples) -> scores in (0, 1), float32 [B, K], columns in the order of "classes" in its config.json. Examples are audio int16 [B, samples]
      (mono, of the rate and length in config.json), a list of texts, images uint8 [B, H, W, channels], or frozen features float32 [B, D]. Of texts with more
      tokens than the student was trained with the first ones are read, and each call warns how many these are.

    Raises:
      ArtefactError: as `load_student`.
      ConfigError: examples of another kind or shape.
    """
    variables, config = load_student(Path(path))
    classes = len(config["classes"])
    student = students.build(config["name"], num_outputs=classes * config["outputs_per_label"], **config["options"])
    transform = transform_of(config["inputs"])

    @jax.jit
    def logits(variables: Any, rows: jax.Array) -> jax.Array:
        return lelp.serving_logits(student.apply(variables, transform(None, rows), train=False).logits, classes, config["task"])

    def predict(examples: Any) -> np.ndarray:
        rows = _rows(config["inputs"], examples)
        return probabilities(np.asarray(logits(variables, rows)), config["task"]) if len(rows) else np.zeros((0, classes), np.float32)

    return predict


def _rows(inputs: dict[str, Any], examples: Any) -> np.ndarray:
    """Examples as the student's transform takes them."""
    if inputs["kind"] == "tokens":
        if isinstance(examples, str) or not all(isinstance(text, str) for text in examples):
            raise ConfigError("this student takes a list of texts.")
        return _tokens(inputs["tokeniser"], examples)
    expected = {"log_mel": [inputs.get("samples")], "image": inputs.get("shape"), "features": [len(inputs.get("mean", []))]}[inputs["kind"]]
    if list(np.shape(examples)[1:]) != expected:
        raise ConfigError(f"the examples have shape {np.shape(examples)}, but this student takes [B, {', '.join(map(str, expected))}].")
    return np.asarray(examples)


def _tokens(tokeniser: dict[str, Any], texts: Sequence[str]) -> np.ndarray:
    """Token ids of texts, int32 [B, L], padded; warns of those that are cut."""
    most = tokeniser["max_tokens"]
    rows = HashedWords(tokeniser["vocabulary"]).encode(texts, most + 1)
    longer = sum(len(row) > most for row in rows)
    if longer:
        warnings.warn(f"{longer:,} of {len(rows):,} texts are longer than {most:,} tokens: this student reads the first {most:,} of each.", stacklevel=4)
    return pad_tokens([row[:most] for row in rows], most)
