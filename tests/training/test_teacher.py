"""The trained classifier of a teacher: its embedding is the input of its last layer, and its logits are those of the network."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxkd.lelp import fold_logits
from jaxkd.metrics import softmax
from jaxkd.training.preparation import trained_teacher
from jaxkd.training.probe import fit_probe
from tests.small import text_config


def test_logits_from_the_store_are_those_of_the_network(text_inputs, cache_dir):
    """The network written out in numpy, on the frozen embeddings that it takes."""
    teacher, examples = trained_teacher(text_config(), text_inputs.dataset, cache_dir)
    ids, params, inputs = text_inputs.dataset.splits["test"], teacher.variables["params"], teacher.preprocessing["inputs"]
    rows = (examples.gather(ids) - np.array(inputs["mean"])) / np.array(inputs["std"])
    hidden = np.maximum(rows @ params["hidden1"]["kernel"] + params["hidden1"]["bias"], 0)
    np.testing.assert_allclose(text_inputs.store.gather(ids)[:, 0], hidden, atol=1e-4)
    logits = hidden @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(text_inputs.teacher_logits().gather(ids), logits, atol=1e-4)


def test_texts_of_a_trained_network_are_embedded_by_length_each_as_it_would_be_alone(text_inputs, cache_dir):
    config = text_config()
    config.teacher.update({"name": "bag_of_embeddings", "classifier": "finetuned"})
    teacher, examples = trained_teacher(config, text_inputs.dataset, cache_dir)
    ids = sorted(text_inputs.dataset.splits["test"][:40])
    rows = examples.gather(ids)
    assert len({np.count_nonzero(row) // 32 for row in rows}) > 2
    alone = [teacher.embed(examples.gather([example])) for example in ids]
    np.testing.assert_allclose(teacher.embed(rows), np.concatenate(alone), atol=1e-6)


def test_teacher_does_not_depend_on_the_students_seed_or_method(cache_dir, text_inputs):
    config = text_config(method="kd")
    config.seed = 7
    teacher, _ = trained_teacher(config, text_inputs.dataset, cache_dir)
    assert teacher.weight_hash == text_inputs.classifier.weight_hash


@pytest.mark.slow
def test_teacher_of_subclass_distillation_has_subclasses_of_its_own(cache_dir, text_inputs):
    config = text_config(method="subclass_distillation")
    config.lelp.subclasses = 4
    teacher, _ = trained_teacher(config, text_inputs.dataset, cache_dir)
    assert teacher.classifier.kernel.shape == (text_inputs.store.dim, 8)
    embedding = np.zeros((3, text_inputs.store.dim), np.float32)
    folded = softmax(np.asarray(fold_logits(teacher.classifier.logits(embedding), 2)))
    np.testing.assert_allclose(folded, softmax(teacher.classifier.logits(embedding)).reshape(3, 2, 4).sum(axis=-1), rtol=1e-5)


def test_probe_over_classes_is_the_multinomial_regression(text_inputs):
    dataset, store = text_inputs.dataset, text_inputs.store
    of = {}
    for split in ("valid", "test"):
        ids = dataset.splits[split]
        of[split] = (store.gather(ids)[:, 0], dataset.labels(ids), dataset.label_mask(ids))
    probe = fit_probe(of["valid"], of["test"], task="multiclass")
    standardised = (of["valid"][0] - probe.mean) / probe.std
    model = LogisticRegression(C=probe.inverse_penalty, max_iter=1000).fit(standardised, of["valid"][1].argmax(axis=1))
    expected = model.predict_proba((of["test"][0] - probe.mean) / probe.std)
    np.testing.assert_allclose(probe.scores(of["test"][0]), expected, atol=1e-5)
