"""Classes and sides of labels without a training row: named, early where the labels alone show it, with the way out that there is."""

import numpy as np
import pytest

from jaxkd.config import default_config
from jaxkd.errors import DataError
from jaxkd.training import preparation
from jaxkd.training.subclasses import subclass_targets
from tests.training.few_rows import ROWS, few_rows, random_labels

NEVER = [
    ("multiclass", {"beech": 0.0}, "no training row counts as beech: .*leave the class out"),
    ("multilabel", {"beech": 0.0}, "no training row counts as beech present: .*leave the label out"),
    ("multilabel", {"ash": 1.0, "beech": 0.0}, "no training row counts as ash absent, beech present: "),
]


def _config(method: str, classes_from: str = "label"):
    config = default_config()
    config.method = method
    config.lelp.update({"subclasses": 4, "classes_from": classes_from})
    return config


def _labels(task: str, never: dict[str, float]) -> np.ndarray:
    """The random labels with some that are the same in all rows; rows that lose their only class are given the last."""
    labels = random_labels(task)
    for name, value in never.items():
        labels[:, ("ash", "beech", "cedar").index(name)] = value
    if task == "multiclass":
        labels[labels.sum(axis=1) == 0, 2] = 1
    return labels


@pytest.fixture
def stopped(monkeypatch):
    """Makes the precompute stage end where it would begin to embed."""

    def stop(*_):
        raise InterruptedError

    monkeypatch.setattr(preparation, "student_inputs", stop)


@pytest.mark.parametrize(("task", "never", "message"), NEVER)
@pytest.mark.parametrize("method", ["lelp", "random_directions", "permuted"])
def test_what_the_labels_show_is_refused_before_anything_is_embedded(tmp_path, monkeypatch, stopped, task, never, message, method):
    dataset = few_rows(tmp_path, task, _labels(task, never)).dataset
    monkeypatch.setattr(preparation, "load_dataset", lambda *_: dataset)
    with pytest.raises(DataError, match=message) as caught:
        preparation.prepare(_config(method), tmp_path)
    assert "classes_from" not in str(caught.value)
    for other in (_config(method, "teacher"), _config("uniform"), _config("kd")):
        with pytest.raises(InterruptedError):
            preparation.prepare(other, tmp_path)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_class_that_the_teacher_may_find_is_not_refused_early(tmp_path, monkeypatch, stopped, task):
    known = np.repeat(np.arange(ROWS) > 3, 3).reshape(ROWS, 3)
    dataset = few_rows(tmp_path, task, _labels(task, {"beech": 0.0}), known).dataset
    monkeypatch.setattr(preparation, "load_dataset", lambda *_: dataset)
    with pytest.raises(InterruptedError):
        preparation.prepare(_config("lelp"), tmp_path)


@pytest.mark.parametrize(("task", "never", "message"), NEVER)
def test_the_other_source_is_named_where_it_helps(tmp_path, task, never, message):
    prepared = few_rows(tmp_path, task, _labels(task, never))
    with pytest.raises(DataError, match=rf"{message}.*, or set config\.lelp\.classes_from='teacher', by which none is missing\."):
        subclass_targets(_config("lelp"), prepared, tmp_path)
    subclass_targets(_config("lelp", "teacher"), prepared, tmp_path)
    blind = prepared._replace(classifier=prepared.classifier._replace(bias=np.array([0, -1e4, 0], np.float32)))
    for source in ("label", "teacher"):
        with pytest.raises(DataError, match=r"no training row counts as .*beech") as caught:
            subclass_targets(_config("lelp", source), blind, tmp_path / "blind")
        assert "classes_from" not in str(caught.value)


def test_clusters_name_a_missing_class_too(tmp_path):
    prepared = few_rows(tmp_path, "multiclass", _labels("multiclass", {"beech": 0.0}))
    with pytest.raises(DataError, match="no training row counts as beech"):
        subclass_targets(_config("kmeans"), prepared, tmp_path)
