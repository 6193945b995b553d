"""Another data set that the trained student is tested on: its clips as the student takes them, its labels in our classes and in its own."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxkd import data, students
from jaxkd.data.dataset import Dataset
from jaxkd.data.other import as_multilabel, checked_pairs, class_pairs, in_our_classes, other_config, other_split
from jaxkd.embeddings.store import EmbeddingStore
from jaxkd.errors import ConfigError, DataError
from jaxkd.metrics import evaluated_classes
from jaxkd.training.inputs import Features, StudentInputs


def load_other(config: Any, dataset: Any, cache_dir: Path) -> Dataset:
    """The data set of `config.other` with the classes of `dataset`; its `fully_labelled` is the same with its own classes.

    Raises:
      ConfigError: its examples are not what the student takes, or its classes do not fit `config.other.classes`.
      DataError: no class can be scored on its test split.
    """
    if dataset.task != "multilabel":
        raise ConfigError(
            f"config.other.source is {config.other.source!r}, but the student learns one of {len(dataset.classes)} classes an example: another data set "
            "is scored for students of many labels. Leave it empty."
        )
    theirs = as_multilabel(data.prepare(other_config(config), cache_dir))
    kinds = [(one.modality, one.sample_rate) for one in (dataset, theirs)]
    if kinds[0] != kinds[1]:
        raise ConfigError(
            f"config.other.source {theirs.name} holds {kinds[1]}, but the student takes {kinds[0]} (kind, sample rate): "
            "let that source make its clips at data.sample_rate."
        )
    if other_split(config) in dataset.splits:
        raise ConfigError(f"the data has a split {other_split(config)!r} of its own: give the other data set another config.other.name.")
    mapped = in_our_classes(theirs, dataset.classes, checked_pairs(class_pairs(config.other.classes), theirs.classes, dataset.classes))
    ids = mapped.splits["test"]
    if not evaluated_classes(mapped.labels(ids), mapped.label_mask(ids)).any():
        raise DataError(f"none of our classes has both a positive and a negative among the {len(ids)} test rows of {theirs.name}: see config.other.classes.")
    return mapped


def require_any_length(config: Any, dataset: Any, inputs: StudentInputs) -> None:
    """Refuses clips of another length for a student that is built for the length of ours, from shapes alone, before the other data set is read.

    Raises:
      ConfigError: the parameters of the student depend on the length, or no frame of its features is left at the other one.
    """
    samples = round(other_config(config).clip_seconds * dataset.sample_rate)
    if inputs.settings["kind"] != "log_mel" or samples == dataset.input_shape[0]:
        return
    student = students.build(config.student.name, num_outputs=len(dataset.classes), **students.options(config.student.name, config))

    def start(rows: Any) -> Any:
        return student.init_with_output(jax.random.key(0), inputs.transform(None, rows), train=False)

    (_, own), (outputs, theirs) = (jax.eval_shape(start, jax.ShapeDtypeStruct((1, length), jnp.int16)) for length in (dataset.input_shape[0], samples))
    if own != theirs or not outputs.features.shape[1]:
        what = "is built for clips of one length" if own != theirs else "has no frame of its features left"
        raise ConfigError(
            f"config.other.clip_seconds is {samples / dataset.sample_rate:g}, but the student {config.student.name!r}, trained on clips of "
            f"{dataset.input_shape[0] / dataset.sample_rate:g} s, {what}: set it to 0 for clips of that length, or take a student that averages over time."
        )


def inputs_on(inputs: StudentInputs, other: Dataset, store: EmbeddingStore | None) -> StudentInputs:
    """The inputs of a network on the other data set, made as those on ours.

    Args:
      inputs: on ours.
      other: the other one.
      store: its frozen features for a network that takes those, else None.

    Raises:
      DataError: features of another width.
    """
    if store is None:
        return inputs._replace(source=other, settings={**inputs.settings, "samples": other.input_shape[0]}, notes={})
    require_width((store.dim,), (len(inputs.settings["mean"]),), other)
    return inputs._replace(source=Features(store), settings={**inputs.settings, "made_by": store.identity}, notes={})


def require_width(theirs: tuple[int, ...], ours: tuple[int, ...], other: Dataset) -> None:
    """Raises DataError unless the embeddings of the other data set are as wide as ours, [D] of each teacher."""
    if theirs != ours:
        raise DataError(
            f"the embeddings of the other data set, {other.name}, have {' + '.join(map(str, theirs))} dimensions, those of ours {' + '.join(map(str, ours))}: "
            "make both with one teacher (config.other.archives)."
        )
