"""A released tagger that is fine-tuned on the labelled clips: as a reference row with its cost, and as a teacher."""

import json

import numpy as np
import pytest

from jaxkd import pipeline, teachers
from jaxkd.embeddings.store import mean_embeddings
from jaxkd.results.artefact import load_predictor
from jaxkd.training.preparation import HEAD_LEAST_STD, frozen_store, load_dataset
from jaxkd.training.probe import fit_probe
from tests.small import load_config

STEPS = 2


def _config(method: str):
    """A few clips and steps."""
    config = load_config("audio", f"method={method},teacher=MTT_vgg,classifier=finetuned,runlocal")
    config.data.update({"labelled": 8, "unlabelled": 8, "valid": 8, "test": 8, "unseen": 0, "unseen_bank": "off"})
    for part in (config.training, config.teacher_training):
        part.update({"steps": STEPS, "batch_size": 4, "eval_every_steps": 1, "warmup_steps": 1})
    config.training.unlabelled_ratio = 1
    config.evaluation.update({"batch_size": 8, "bootstrap_resamples": 50})
    return config


@pytest.fixture(scope="module")
def runs(cache_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    for method in ("teacher", "kd"):
        config = _config(method)
        pipeline.check(config)
        pipeline.run(config, folder / method, cache_dir)
    return {method: folder / method for method in ("teacher", "kd")}


@pytest.mark.slow
def test_the_reference_row_tells_what_fine_tuning_cost(runs):
    teacher, kd = (json.loads((runs[method] / "report.json").read_text()) for method in ("teacher", "kd"))
    assert teacher["student"] is None
    assert teacher["teacher"]["name"] == "MTT_vgg (finetuned)"
    cost = teacher["teacher"]["training"]
    assert cost["seconds"] > 0 and cost["peak_memory_bytes"] > 10**8
    assert cost["trained_parameters"] == teacher["teacher"]["parameters"] == 605_748 - 2 - 256 * 50 - 50 + 256 * 16 + 16  # input, head
    assert teacher["results"]["test"]["map"] == pytest.approx(teacher["teacher"]["predictions"]["test"]["map"])
    assert kd["teacher"]["training"] == cost  # found in the cache
    with np.load(runs["kd"] / "student" / "parameters.npz") as kept:
        assert kd["student"]["training"]["trained_parameters"] == sum(kept[name].size for name in kept.files if name.startswith("params/"))
        assert not [name for name in kept.files if "conv_" in name]


@pytest.mark.slow
def test_a_student_is_taught_by_the_fine_tuned_network(runs, cache_dir):
    config = _config("east")
    prepared = pipeline.precompute(config, cache_dir)
    ids, (choice,) = prepared.dataset.splits["test"], teachers.choices(config.teacher)
    tuned, frozen = mean_embeddings(prepared.embedding(), ids), mean_embeddings(frozen_store(config, choice, prepared.dataset, cache_dir)[0], ids)
    moved = np.linalg.norm(tuned - frozen) / np.linalg.norm(frozen)
    assert 1e-4 < moved < 0.5
    with np.load(runs["kd"] / "predictions" / "teacher_test.npz") as kept:
        logits = tuned @ prepared.classifier.kernel + prepared.classifier.bias
        np.testing.assert_allclose(kept["scores"], 1 / (1 + np.exp(-logits)), atol=1e-5)
    with np.load(runs["kd"] / "predictions" / "test.npz") as kept:
        np.testing.assert_allclose(load_predictor(runs["kd"] / "student")(prepared.dataset.gather(ids)), kept["scores"], atol=1e-5)


@pytest.mark.slow
def test_fine_tuning_starts_from_a_probe_of_the_frozen_embedding(cache_dir, tmp_path):
    config = _config("teacher")
    config.teacher_training.learning_rate = 1e-12
    pipeline.run(config, tmp_path, cache_dir)
    dataset, (choice,) = load_dataset(config, cache_dir), teachers.choices(config.teacher)
    store = frozen_store(config, choice, dataset, cache_dir)[0]
    train, valid, test = (
        (mean_embeddings(store, ids), dataset.labels(ids), dataset.label_mask(ids)) for ids in map(dataset.splits.get, ("train", "valid", "test"))
    )
    probe = fit_probe(train, valid, least_std=HEAD_LEAST_STD)
    with np.load(tmp_path / "predictions" / "teacher_test.npz") as kept:
        np.testing.assert_allclose(kept["scores"], probe.scores(test[0]), atol=1e-4)  # the probe reads embeddings in float16
    assert np.ptp(probe.scores(test[0])) > 1e-3
