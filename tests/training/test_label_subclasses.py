"""A classifier on the frozen embedding of clips with many labels, and LELP's targets for each label."""

import json

import numpy as np
import pytest
from scipy.special import expit, softmax

from jaxkd import methods, pipeline
from jaxkd.embeddings.store import mean_embeddings
from jaxkd.errors import ConfigError, DataError
from jaxkd.lelp.artefact import load_subspaces
from jaxkd.methods.method import Method
from jaxkd.results.artefact import load_predictor
from jaxkd.results.evaluation import classifier_scores
from jaxkd.results.examples import evaluated_examples
from jaxkd.training.experiment import teacher_side
from jaxkd.training.preparation import prepare, trained_teacher
from jaxkd.training.subclasses import subclass_notes, subclass_targets
from tests.small import load_config

METHODS = [name for name in methods.PSEUDO_CLASS if name not in methods.ONE_CLASS]
SUBCLASSES, HIDDEN = 4, 48


def _config(method: str):
    """A two-layer classifier, whose few hidden units make the fits quick."""
    config = load_config("audio", f"method={method},classifier=mlp,runlocal")
    config.lelp.subclasses, config.teacher.hidden = SUBCLASSES, HIDDEN
    return config


@pytest.fixture(scope="module")
def prepared(cache_dir, small_inputs):
    return pipeline.precompute(_config("lelp"), cache_dir)


@pytest.fixture(scope="module")
def targets(prepared, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return {method: subclass_targets(_config(method), prepared, cache) for method in METHODS}, cache


def test_the_classifier_reads_the_time_mean_of_the_frozen_embedding(prepared, small_inputs, cache_dir):
    teacher, _ = trained_teacher(_config("lelp"), prepared.dataset, cache_dir)
    inputs, hidden = teacher.preprocessing["inputs"], teacher.variables["params"]["hidden1"]
    ids = prepared.dataset.splits["test"]
    rows = (small_inputs.store.gather(ids).astype(np.float32).mean(axis=1) - np.array(inputs["mean"])) / np.array(inputs["std"])
    rows = np.maximum(rows @ hidden["kernel"] + hidden["bias"], 0)
    np.testing.assert_allclose(mean_embeddings(prepared.store, ids), rows, atol=1e-4)
    logits = rows @ teacher.classifier.kernel + teacher.classifier.bias
    np.testing.assert_allclose(prepared.teacher_logits().gather(ids), logits, atol=1e-3)
    np.testing.assert_allclose(classifier_scores(evaluated_examples(prepared, ""))["test"], expit(logits), atol=1e-3)
    assert prepared.store.dtype == np.float32


@pytest.mark.parametrize("method", METHODS)
def test_targets_are_probabilities_of_both_sides_of_every_label(targets, prepared, method):
    ids = [example for split in prepared.dataset.splits.values() for example in split]
    probs = targets[0][method].gather(ids)
    assert probs.shape == (len(ids), 2 * len(prepared.dataset.classes), SUBCLASSES)
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=1e-5)


def test_targets_are_those_of_an_svd_of_the_rows_of_each_label(targets, prepared):
    """With the kept rotation; a label that is unknown counts as the teacher says."""
    dataset, kernel = prepared.dataset, np.float64(prepared.classifier.kernel)
    subspaces, _ = load_subspaces(next((targets[1] / "subclasses").glob("lelp-*")) / "subspaces")
    train, test = dataset.splits["train"], dataset.splits["test"]
    embedding, rows = mean_embeddings(prepared.store, train).astype(np.float64), mean_embeddings(prepared.store, test).astype(np.float64)
    guessed = prepared.teacher_logits().gather(train) > 0
    present = np.where(dataset.label_mask(train), dataset.labels(train) > 0.5, guessed)
    assert (present != (dataset.labels(train) > 0.5)).any()
    basis = np.linalg.qr(kernel)[0]
    for label in range(len(dataset.classes)):
        for value in (0, 1):
            c = 2 * label + value
            own = embedding[present[:, label] == value]
            assert subspaces.counts[c] == len(own)
            used = int(subspaces.valid[c].sum())
            if len(own) <= SUBCLASSES:
                continue
            centred = own - own.mean(axis=0)
            _, singular, vectors = np.linalg.svd(centred - centred @ basis @ basis.T, full_matrices=False)
            turn = vectors[:SUBCLASSES] @ subspaces.directions[c]
            np.testing.assert_allclose(turn.T @ turn, np.eye(used), atol=1e-3)
            scale = np.sqrt(np.mean(singular[:SUBCLASSES] ** 2) / (len(own) - 1))
            expected = softmax((rows - own.mean(axis=0)) @ vectors[:SUBCLASSES].T @ turn / scale, axis=1)
            np.testing.assert_allclose(targets[0]["lelp"].gather(test)[:, c], expected, atol=2e-3)


def test_permuted_has_the_targets_of_lelp_in_another_order_on_each_side(targets, prepared):
    dataset, train = prepared.dataset, prepared.dataset.splits["train"]
    guessed = prepared.teacher_logits().gather(train) > 0
    present = np.where(dataset.label_mask(train), dataset.labels(train) > 0.5, guessed)
    plain, permuted = (targets[0][method].gather(train) for method in ("lelp", "permuted"))
    assert not np.array_equal(plain, permuted)
    for label in range(len(dataset.classes)):
        for value in (False, True):
            own = present[:, label] == value
            ours, theirs = (np.sort(probs[own, 2 * label : 2 * label + 2].reshape(own.sum(), -1), axis=0) for probs in (plain, permuted))
            np.testing.assert_array_equal(ours, theirs)


def test_sides_of_labels_with_too_few_rows_are_told_in_the_notes(targets, prepared):
    """Of n rows there are n - 1 directions."""
    dataset, train = prepared.dataset, prepared.dataset.splits["train"]
    present = np.where(dataset.label_mask(train), dataset.labels(train) > 0.5, prepared.teacher_logits().gather(train) > 0)
    rows = {
        f"{name} {side}": np.sum(present[:, label] == value) for label, name in enumerate(dataset.classes) for value, side in enumerate(("absent", "present"))
    }
    few = [f"{name}: {count - 1} of {SUBCLASSES}" for name, count in rows.items() if 1 < count <= SUBCLASSES]
    notes = {"too few rows or too little variance for all subclasses": "; ".join(few)}
    assert few and notes.items() <= prepared.notes.items()
    assert {method: subclass_notes(_config(method), prepared._replace(targets=targets[0][method]), targets[1]) for method in ("lelp", "uniform")} == {
        "lelp": notes,
        "uniform": {},
    }


def test_a_label_that_never_occurs_is_named(prepared, tmp_path):
    config = _config("lelp")
    config.lelp.classes_from = "teacher"
    bias = prepared.classifier.bias.copy()
    bias[prepared.dataset.classes.index("harp")] = -1e4
    silent = prepared._replace(classifier=prepared.classifier._replace(bias=bias))
    with pytest.raises(DataError, match=r"no training row counts as harp present.*, or set config\.lelp\.classes_from='label'"):
        subclass_targets(config, silent, tmp_path)


def test_methods_on_the_frames_get_them_beside_the_classifiers_logits(prepared, small_inputs, cache_dir):
    beside = prepare(_config("east"), cache_dir)
    ids = beside.dataset.splits["train"][:5]
    np.testing.assert_array_equal(beside.embedding().gather(ids), small_inputs.store.gather(ids))
    np.testing.assert_array_equal(beside.teacher_logits().gather(ids), prepared.teacher_logits().gather(ids))
    method = Method(lambda *_: {}, needs=("embedding", "logits"))
    side = teacher_side(method, beside)
    np.testing.assert_array_equal(side.embedding.gather(ids), small_inputs.store.gather(ids))
    np.testing.assert_array_equal(side.logits.gather(ids), beside.teacher_logits().gather(ids))


def test_more_subclasses_than_the_null_space_has_are_refused_before_the_teacher_is_trained(small_inputs, cache_dir):
    config = _config("lelp")
    config.lelp.subclasses, config.teacher_training.steps = 40, 41
    with pytest.raises(ConfigError, match="less the 16 that the classifier reads: use at most 32"):
        prepare(config, cache_dir)


@pytest.mark.slow
def test_run_with_many_labels_exports_a_student_of_one_score_a_label(prepared, cache_dir, tmp_path):
    config = _config("lelp")
    config.training.steps, config.evaluation.bootstrap_resamples = 4, 50
    pipeline.run(config, tmp_path / "run", cache_dir)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["task"], report["teacher"]["reference"]) == ("multilabel", "teacher")
    assert 0 <= report["results"]["test"]["agreement"] <= 1
    labels = len(prepared.dataset.classes)
    with np.load(tmp_path / "run" / "student" / "parameters.npz") as kept:
        assert kept["params/head/bias"].shape == (labels * 2 * SUBCLASSES,)
        assert not [name for name in kept.files if "auxiliary" in name or "teacher" in name]
        assert sum(kept[name].size for name in kept.files if name.startswith("params/")) == report["student"]["parameters"]
    with np.load(tmp_path / "run" / "predictions" / "test.npz") as kept:
        assert kept["scores"].shape == (32, labels)
        scores = load_predictor(tmp_path / "run" / "student")(prepared.dataset.gather(kept["ids"].tolist()))
        np.testing.assert_allclose(scores, kept["scores"], atol=1e-5)
