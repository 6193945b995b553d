"""Another data set as a student takes it: its kind, the length of its clips, the width of what a teacher says of them."""

import copy
from pathlib import Path

import flax.linen as nn
import numpy as np
import pytest

from jaxkd.errors import ConfigError, DataError
from jaxkd.training import other_data
from jaxkd.training.inputs import audio_inputs
from jaxkd.types import StudentOutputs
from tests.small import small_config

PLACE = "tests.training.test_other_data"


class Flat(nn.Module):
    """A network whose weights are for one number of frames."""

    num_outputs: int

    @nn.compact
    def __call__(self, inputs, train):
        features = nn.Dense(4)(inputs.reshape(len(inputs), 1, -1))
        return StudentOutputs(nn.Dense(self.num_outputs)(features[:, 0]), features, (features,))


class Strided(nn.Module):
    """A network that reads windows of 30 frames, so that fewer leave it nothing."""

    num_outputs: int

    @nn.compact
    def __call__(self, inputs, train):
        features = nn.Conv(4, (30,), strides=(30,), padding="VALID")(inputs)
        return StudentOutputs(nn.Dense(self.num_outputs)(features.mean(axis=1)), features, (features,))


def flat(*, num_outputs, axis_name):
    return Flat(num_outputs)


def strided(*, num_outputs, axis_name):
    return Strided(num_outputs)


@pytest.mark.parametrize(
    ("student", "seconds", "message"),
    [
        ("cp_resnet_tiny", 5.0, ""),
        (f"{PLACE}:strided", 1.0, ""),
        (f"{PLACE}:strided", 0.9, "trained on clips of 3 s, has no frame of its features left"),
        (f"{PLACE}:flat", 3.0, ""),
        (f"{PLACE}:flat", 5.0, "config.other.clip_seconds is 5, but the student .*, trained on clips of 3 s, is built for clips of one length: set it to 0"),
    ],
)
def test_a_student_for_one_length_is_refused_another(tiny_dataset, student, seconds, message):
    config = small_config()
    config.student.name = student
    config.other.clip_seconds = seconds
    inputs = audio_inputs(config, tiny_dataset)
    if not message:
        other_data.require_any_length(config, tiny_dataset, inputs)
        return
    with pytest.raises(ConfigError, match=message):
        other_data.require_any_length(config, tiny_dataset, inputs)


def test_embeddings_of_another_width_are_refused(tiny_dataset):
    with pytest.raises(DataError, match=r"have 128 dimensions, those of ours 1506 \+ 200: make both with one teacher"):
        other_data.require_width((128,), (1506, 200), tiny_dataset)
    other_data.require_width((128, 200), (128, 200), tiny_dataset)


def test_another_data_set_of_another_rate_is_refused(tiny_dataset, monkeypatch):
    theirs = copy.copy(tiny_dataset)
    theirs.sample_rate = 8000
    monkeypatch.setattr("jaxkd.data.prepare", lambda config, cache_dir: theirs)
    config = small_config()
    config.other.source = "rendered_instruments"
    with pytest.raises(ConfigError, match=r"holds \('audio', 8000\), but the student takes \('audio', 16000\).* at data\.sample_rate"):
        other_data.load_other(config, tiny_dataset, Path("unused"))


def test_a_student_of_one_class_an_example_is_refused_another_data_set_before_that_is_read(tiny_dataset, monkeypatch):
    ours = copy.copy(tiny_dataset)
    ours.task = "multiclass"
    monkeypatch.setattr("jaxkd.data.prepare", lambda config, cache_dir: pytest.fail("was read"))
    config = small_config()
    config.other.source = "tfds"
    with pytest.raises(ConfigError, match=r"config.other.source is 'tfds', but the student learns one of 16 classes an example"):
        other_data.load_other(config, ours, Path("unused"))


def test_another_data_set_without_a_class_to_score_is_refused(tiny_dataset, monkeypatch):
    theirs = copy.copy(tiny_dataset)
    theirs._arrays = tiny_dataset._arrays | {"test.labels": np.zeros_like(tiny_dataset.labels(tiny_dataset.splits["test"]))}
    monkeypatch.setattr("jaxkd.data.prepare", lambda config, cache_dir: theirs)
    config = small_config()
    config.other.source = "rendered_instruments"
    with pytest.raises(DataError, match="none of our classes has both a positive and a negative among the 16 test rows"):
        other_data.load_other(config, tiny_dataset, Path("unused"))
