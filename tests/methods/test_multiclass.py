"""Methods on multi-class data: the formula of each total, what each needs of the teacher, and which parameters it trains."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from scipy.special import log_softmax, logsumexp, rel_entr, softmax

from jaxkd import methods
from jaxkd.config import default_config
from jaxkd.errors import ConfigError
from jaxkd.lelp import pseudo_class_loss
from jaxkd.methods.method import Context
from jaxkd.types import Batch, StudentOutputs

ROWS, WIDTH, DIM, CLASSES, SUBCLASSES = 16, 8, 20, 3, 4
LABELLED = 11
WITH_FEATURE_LOSS = ("embedding_distillation", "fitnet", "vid", "rkd")
MULTICLASS = [name for name in methods.METHODS if name in methods.NEED_CLASSIFIER and name not in methods.DISTANCES]


def _batch() -> Batch:
    generator = np.random.default_rng(0)
    classes = generator.integers(0, CLASSES, ROWS)
    mask = np.zeros((ROWS, CLASSES), bool)
    mask[:LABELLED] = True
    pi = softmax(generator.normal(size=(ROWS, CLASSES, SUBCLASSES)), axis=-1).astype(np.float32)
    return Batch(
        np.zeros((ROWS, 1)),
        np.where(mask, np.eye(CLASSES, dtype=np.float32)[classes], 0),
        mask,
        generator.normal(size=(ROWS, 1, DIM)).astype(np.float32),
        np.ones(ROWS, bool),
        teacher_logits=generator.normal(size=(ROWS, CLASSES)).astype(np.float32),
        targets=pi,
        index=np.arange(ROWS, dtype=np.int32),
    )


def _build(name: str, **overrides):
    config = default_config()
    config.lelp.subclasses = SUBCLASSES
    config.crd.negatives = 5
    config.crd.width = 6
    config.update_from_flattened_dict(overrides)
    return methods.build(name, ml_collections.FrozenConfigDict(config), Context("multiclass", CLASSES, np.arange(ROWS, dtype=np.int32) % CLASSES, SUBCLASSES))


def _outputs(method) -> StudentOutputs:
    generator = np.random.default_rng(1)
    features = jnp.asarray(generator.normal(size=(ROWS, 1, WIDTH)), jnp.float32)
    hint = jnp.asarray(generator.normal(size=(ROWS, 1, 5)), jnp.float32)
    logits = jnp.asarray(generator.normal(size=(ROWS, CLASSES * method.outputs_per_label)), jnp.float32)
    return StudentOutputs(logits, features, (hint, features))


def _terms(method, outputs, batch, params=None):
    auxiliary = None
    if method.auxiliary is not None:
        params = params or method.auxiliary.init(jax.random.key(0), outputs, batch).get("params", {})
        auxiliary = method.auxiliary.apply({"params": params}, outputs, batch)
    if method.initial_memory is None:
        return method.losses(outputs, auxiliary, batch, None)
    return method.losses(outputs, auxiliary, batch, None, memory=method.initial_memory(jax.random.key(1)), key=jax.random.key(2))[0]


def _batch_for(name: str) -> Batch:
    if name != "subclass_distillation":
        return _batch()
    return _batch()._replace(teacher_logits=np.random.default_rng(5).normal(size=(ROWS, CLASSES * SUBCLASSES)).astype(np.float32))


def _divergence(teacher: np.ndarray, student: np.ndarray, temperature: float) -> float:
    p, q = softmax(teacher / temperature, axis=-1), softmax(student / temperature, axis=-1)
    return float(temperature**2 * np.mean(np.sum(rel_entr(p, q), axis=-1)))


@pytest.mark.parametrize("name", MULTICLASS)
def test_total_is_alpha_of_the_labels_and_the_rest_of_the_teacher(name):
    batch = _batch_for(name)
    method = _build(name, **{"distillation.alpha": 0.25, "distillation.temperature": 2.0})
    outputs = _outputs(method)
    terms = {key: float(value) for key, value in _terms(method, outputs, batch).items()}
    folded = logsumexp(np.asarray(outputs.logits, np.float64).reshape(ROWS, CLASSES, -1), axis=-1)
    label = -np.mean(np.sum(batch.labels * log_softmax(folded, axis=-1), axis=-1)[:LABELLED])
    assert terms["label_loss"] == pytest.approx(label, rel=1e-5)
    expected = 0.25 * terms["label_loss"] + 0.75 * terms["distillation"]
    if name in WITH_FEATURE_LOSS:
        expected += 1.0 * terms["distance"]
    if name == "crd":
        expected += 0.8 * terms["contrast"]
    assert terms["loss"] == pytest.approx(expected, rel=1e-5)
    assert all(np.isfinite(value) for value in terms.values())


@pytest.mark.parametrize("name", ["kd", *WITH_FEATURE_LOSS, "crd", "outputs_only", "subclass_distillation"])
def test_distillation_term_is_the_divergence_of_all_rows(name):
    batch = _batch_for(name)
    method = _build(name, **{"distillation.temperature": 3.0})
    outputs = _outputs(method)
    student = np.asarray(outputs.logits, np.float64)
    if name == "outputs_only":
        student = logsumexp(student.reshape(ROWS, CLASSES, -1), axis=-1)
    assert float(_terms(method, outputs, batch)["distillation"]) == pytest.approx(_divergence(np.float64(batch.teacher_logits), student, 3.0), rel=1e-5)


@pytest.mark.parametrize("name", methods.PSEUDO_CLASS)
def test_pseudo_class_term_is_the_divergence_over_all_outputs(name):
    batch, method = _batch(), _build(name)
    outputs = _outputs(method)
    joint = softmax(np.float64(batch.teacher_logits), axis=-1)[:, :, None] * batch.targets
    expected = np.mean(np.sum(rel_entr(joint.reshape(ROWS, -1), softmax(np.float64(outputs.logits), axis=-1)), axis=-1))
    assert float(_terms(method, outputs, batch)["distillation"]) == pytest.approx(expected, rel=1e-5)
    assert method.outputs_per_label == SUBCLASSES
    np.testing.assert_allclose(np.asarray(softmax(method.label_logits(outputs.logits), axis=-1)).sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("options", [{"weight": 0.5}, {"temperature_on": "teacher"}, {"tau_squared": False}])
def test_options_of_lelp_reach_the_loss(options):
    batch, method = _batch(), _build("lelp", **{"distillation.temperature": 2.0, **{f"lelp.{name}": value for name, value in options.items()}})
    outputs = _outputs(method)
    arguments = outputs.logits, batch.teacher_logits, batch.targets
    plain, expected = (float(pseudo_class_loss(*arguments, temperature=2.0, **chosen)) for chosen in ({}, options))
    assert float(_terms(method, outputs, batch)["distillation"]) == pytest.approx(expected, rel=1e-5)
    assert abs(plain - expected) > 0.01


@pytest.mark.parametrize("name", [*WITH_FEATURE_LOSS, "crd"])
def test_feature_loss_reaches_the_features_and_what_is_trained_beside(name):
    batch, method = _batch(), _build(name)
    outputs = _outputs(method)
    params = method.auxiliary.init(jax.random.key(0), outputs, batch).get("params", {})

    def apart(params, features):
        moved = outputs._replace(features=features, taps=(outputs.taps[0], features))
        terms = _terms(method, moved, batch, params)
        return terms["contrast" if name == "crd" else "distance"]

    to_params, to_features = jax.grad(apart, argnums=(0, 1))(params, outputs.features)
    assert float(optax.tree.norm(to_features)) > 0
    assert all(float(optax.tree.norm(leaf)) > 0 for leaf in jax.tree.leaves(to_params))


def test_fitnet_takes_the_hint_layer_that_is_named():
    batch, method = _batch(), _build("fitnet", **{"fitnet.tap": 0})
    outputs = _outputs(method)
    params = method.auxiliary.init(jax.random.key(0), outputs, batch)["params"]
    assert params["projection"]["kernel"].shape == (5, DIM)
    projected = outputs.taps[0][:, 0] @ params["projection"]["kernel"] + params["projection"]["bias"]
    assert float(_terms(method, outputs, batch, params)["distance"]) == pytest.approx(float(np.mean((projected - batch.embedding[:, 0]) ** 2)), rel=1e-5)


def test_crd_is_silent_on_rows_that_are_in_no_bank_and_has_an_in_batch_form():
    batch = _batch()
    method = _build("crd")
    assert float(_terms(method, _outputs(method), batch._replace(index=None))["contrast"]) == 0
    within = _build("crd", **{"crd.form": "in_batch"})
    assert within.initial_memory is None
    assert float(_terms(within, _outputs(within), batch)["contrast"]) > 0


def test_two_classes_degenerate_and_it_is_said():
    config = ml_collections.FrozenConfigDict(default_config())
    for name in ("dkd", "dist", "standardised_kd", "kd"):
        method = methods.build(name, config, Context("multiclass", 2, np.zeros(4, np.int32)))
        assert (f"{name} with 2 classes" in method.warning) is (name != "kd")
        assert not methods.build(name, config, Context("multiclass", 3, np.zeros(4, np.int32))).warning


@pytest.mark.parametrize("name", [name for name in methods.ONE_CLASS if name not in methods.PSEUDO_CLASS])
def test_refuses_data_with_many_labels(name):
    with pytest.raises(ConfigError, match="the data is multilabel"):
        methods.build(name, ml_collections.FrozenConfigDict(default_config()), Context("multilabel", 4, np.zeros(4, np.int32)))
