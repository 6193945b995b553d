"""The probe as a teacher's classifier: its logits are those of the reference row's probe and of scikit-learn, it is kept once and refused when altered."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxkd import pipeline
from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.training import sgd_probe
from jaxkd.training import teacher as module
from jaxkd.training.experiment import normalisations
from jaxkd.training.preparation import trained_teacher
from jaxkd.training.probe import fit_probe
from jaxkd.training.sgd_probe import fit_sgd_probe
from tests.jobs import free_port
from tests.small import small_config, text_config
from tests.training import stored_clips


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(sgd_probe, "MAX_STEPS", stored_clips.STEPS)


def rows_of(folder, dataset, split):
    """Mean over time of the stored frames, labels, label mask."""
    ids = dataset.splits[split]
    with np.load(folder / "embeddings.npz") as stored:
        means = stored["embeddings"][np.isin(stored["ids"], ids)].astype(np.float64).mean(axis=1)
    return means, dataset.labels(ids), dataset.label_mask(ids)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_logits_are_those_of_the_published_probe_on_the_normalised_mean_embedding(task, tmp_path):
    dataset = stored_clips.write(tmp_path, task)
    teacher, examples = trained_teacher(stored_clips.config_of(tmp_path), dataset, tmp_path / "cache")
    embedding = teacher.embed(examples.gather(dataset.splits["test"]))[:, 0]
    train, valid, (test, *_) = (rows_of(tmp_path, dataset, split) for split in stored_clips.ROWS)
    np.testing.assert_allclose(embedding, test, rtol=1e-6)
    normalised = [((means - 128) / 256).astype(np.float32) for means in (train[0], valid[0], test)]
    probe = fit_sgd_probe((normalised[0], train[1], train[2]), (normalised[1], valid[1], valid[2]), task=task, learning_rate=0.2)
    np.testing.assert_allclose(teacher.classifier.logits(embedding), normalised[2] @ probe.kernel + probe.bias, atol=1e-5)
    assert np.ptp(probe.kernel) > 0.1


def test_by_lbfgs_they_are_those_of_logistic_regression_on_the_standardised_embedding(tmp_path):
    dataset, config = stored_clips.write(tmp_path), stored_clips.config_of(tmp_path)
    config.evaluation.probe_solver = "lbfgs"
    teacher, examples = trained_teacher(config, dataset, tmp_path / "cache")
    train, valid, (test, *_) = (rows_of(tmp_path, dataset, split) for split in stored_clips.ROWS)
    penalty, known = fit_probe(train, valid).inverse_penalty, train[2].any(axis=1)
    mean, std = train[0][known].mean(axis=0), train[0][known].std(axis=0)
    expected = [
        LogisticRegression(C=penalty, max_iter=1000).fit((train[0][rows] - mean) / std, train[1][rows, label]).decision_function((test - mean) / std)
        for label, rows in enumerate(train[2].T)
    ]
    logits = teacher.classifier.logits(teacher.embed(examples.gather(dataset.splits["test"]))[:, 0])
    np.testing.assert_allclose(logits, np.stack(expected, axis=1), atol=1e-3)


def test_constants_of_the_frozen_embedding_are_not_applied_to_what_a_classifier_makes_of_it(tmp_path):
    config = stored_clips.config_of(tmp_path)
    for classifier, method, kind, expected in (
        ("probe", "fitnet", "vggish", "vggish"),
        ("linear", "fitnet", "vggish", "none"),
        ("mlp", "kd", "openl3", "none"),
        ("linear", "fitnet", "zscore", "zscore"),
        ("linear", "east", "vggish", "vggish"),
    ):
        config.method = method
        config.teacher.update({"classifier": classifier, "normalisation": kind})
        assert normalisations(config) == [expected], (classifier, method, kind)


def test_is_fitted_once_and_anew_where_its_recipe_differs_and_tells_what_it_cost(tmp_path, monkeypatch):
    dataset, config, fitted = stored_clips.write(tmp_path), stored_clips.config_of(tmp_path), []
    fit = module.fit_on_embedding
    monkeypatch.setattr(module, "fit_on_embedding", lambda *given: [fitted.append(1), fit(*given)][1])
    first, _ = trained_teacher(config, dataset, tmp_path / "cache")
    config.seed, config.method, config.teacher_training.steps = 7, "east_kd", 9
    again, _ = trained_teacher(config, dataset, tmp_path / "cache")
    assert len(fitted) == 1 and again.weight_hash == first.weight_hash and again.preprocessing == first.preprocessing
    assert first.name == "precomputed-probe"
    assert first.preprocessing["probe"] == {"solver": "sgd", "learning_rate": 0.2, "normalisations": ["vggish"]}
    assert first.training is not None
    assert first.training["trained_parameters"] == first.parameters == (stored_clips.DIM + 1) * len(stored_clips.CLASSES)
    assert first.training["seconds"] > 0
    for part, change in ((config.evaluation, {"probe_learning_rate": 0.1}), (config.teacher, {"normalisation": "none"})):
        part.update(change)
        other, _ = trained_teacher(config, dataset, tmp_path / "cache")
        assert other.weight_hash != first.weight_hash
    assert len(fitted) == 3


def test_one_that_was_made_from_something_else_is_refused(tmp_path):
    dataset, config = stored_clips.write(tmp_path), stored_clips.config_of(tmp_path)
    trained_teacher(config, dataset, tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "classifiers").glob("*/student/config.json")
    made = json.loads(kept.read_text())
    made["made_from"]["probe"]["learning_rate"] = 0.3
    kept.write_text(json.dumps(made))
    said = rf"{kept.parts[-3]} was made from .*remove that folder and run again.*\n  probe\.learning_rate: 0\.2 here, 0\.3 there$"
    with pytest.raises(ArtefactError, match=said):
        trained_teacher(config, dataset, tmp_path / "cache")


def test_has_no_subclasses_and_no_more_directions_than_the_embedding():
    config = text_config(method="subclass_distillation")
    config.teacher.classifier = "probe"
    with pytest.raises(ConfigError, match=r"'probe'.* 'subclass_distillation' trains a teacher of subclasses: set it to linear, mlp or finetuned"):
        pipeline.check(config)
    config = small_config(method="lelp")
    config.teacher.classifier, config.lelp.subclasses = "probe", 2000
    with pytest.raises(ConfigError, match=r"config\.lelp\.subclasses is 2000.*1506 dimensions.* set it to at most 1490"):
        pipeline.check(config)


@pytest.mark.slow
def test_in_a_job_process_0_fits_it_and_all_have_that_one(tmp_path):
    dataset = stored_clips.write(tmp_path)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-m", "tests.training.stored_clips", str(tmp_path), f"127.0.0.1:{free_port()}", "2"]
    processes = [subprocess.Popen([*command, str(process)], env=environment, cwd=root) for process in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    first, second = (json.loads((tmp_path / f"{process}.json").read_text()) for process in range(2))
    alone, _ = trained_teacher(stored_clips.config_of(tmp_path), dataset, tmp_path / "other")
    assert (first["fits"], second["fits"]) == (1, 0)
    assert first["hash"] == second["hash"] == alone.weight_hash
    assert first["training"] == second["training"]
