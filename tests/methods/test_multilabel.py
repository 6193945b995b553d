"""Methods on multi-label data with a teacher that has a classifier: the formula of each total, entry by entry, and which entries count."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from scipy.special import expit, logsumexp, rel_entr, softmax

from jaxkd import methods
from jaxkd.config import default_config
from jaxkd.lelp import multilabel_pseudo_class_loss
from jaxkd.methods.method import Context
from jaxkd.types import Batch, StudentOutputs

ROWS, WIDTH, DIM, LABELS, SUBCLASSES = 12, 6, 10, 3, 4
UNLABELLED = 4
WITH_FEATURE_LOSS = ("embedding_distillation", "fitnet", "vid", "rkd")
FITTING = [name for name in methods.METHODS if name in methods.NEED_CLASSIFIER and name not in (*methods.ONE_CLASS, *methods.DISTANCES)]


def _batch() -> Batch:
    """Labels that are partly known in the first rows, no label in the last ones."""
    generator = np.random.default_rng(0)
    mask = generator.random((ROWS, LABELS)) < 0.7
    mask[:, 0] = True
    mask[ROWS - UNLABELLED :] = False
    labels = (generator.random((ROWS, LABELS)) < 0.4) & mask
    return Batch(
        np.zeros((ROWS, 1)),
        labels.astype(np.float32),
        mask,
        generator.normal(size=(ROWS, 2, DIM)).astype(np.float32),
        np.arange(ROWS) < ROWS - 1,
        teacher_logits=(2 * generator.normal(size=(ROWS, LABELS))).astype(np.float32),
        targets=softmax(generator.normal(size=(ROWS, 2 * LABELS, SUBCLASSES)), axis=-1).astype(np.float32),
    )


def _build(name: str, **overrides):
    config = default_config()
    config.lelp.subclasses = SUBCLASSES
    config.update_from_flattened_dict(overrides)
    return methods.build(name, ml_collections.FrozenConfigDict(config), Context("multilabel", LABELS, np.full(ROWS, -1, np.int32), SUBCLASSES))


def _outputs(method) -> StudentOutputs:
    generator = np.random.default_rng(1)
    features = jnp.asarray(generator.normal(size=(ROWS, 5, WIDTH)), jnp.float32)
    return StudentOutputs(jnp.asarray(generator.normal(size=(ROWS, LABELS * method.outputs_per_label)), jnp.float32), features, (features,))


def _terms(method, outputs, batch):
    auxiliary = None
    if method.auxiliary is not None:
        auxiliary = method.auxiliary.apply({"params": method.auxiliary.init(jax.random.key(0), outputs, batch).get("params", {})}, outputs, batch)
    return {name: float(value) for name, value in method.losses(outputs, auxiliary, batch, None).items()}


def _folded(outputs: StudentOutputs) -> np.ndarray:
    """One logit a label."""
    if outputs.logits.shape[-1] == LABELS:
        return np.float64(outputs.logits)
    sides = logsumexp(np.float64(outputs.logits).reshape(ROWS, LABELS, 2, -1), axis=-1)
    return sides[..., 1] - sides[..., 0]


def _counts(batch: Batch, masked: bool) -> np.ndarray:
    asked = batch.label_mask | ~batch.label_mask.any(axis=1, keepdims=True) if masked else np.ones((ROWS, LABELS), bool)
    return asked & batch.where[:, None]


@pytest.mark.parametrize("name", FITTING)
def test_total_is_alpha_of_the_known_labels_and_the_rest_of_the_teacher(name):
    batch, method = _batch(), _build(name, **{"distillation.alpha": 0.25})
    outputs = _outputs(method)
    terms, logits = _terms(method, outputs, batch), _folded(outputs)
    entropy = np.logaddexp(0, logits) - batch.labels * logits
    assert terms["label_loss"] == pytest.approx(entropy[batch.label_mask & batch.where[:, None]].mean(), rel=1e-5)
    apart = terms["distance"] if name in WITH_FEATURE_LOSS else 0
    assert terms["loss"] == pytest.approx(0.25 * terms["label_loss"] + 0.75 * terms["distillation"] + apart, rel=1e-5)
    np.testing.assert_allclose(method.label_logits(outputs.logits), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", ["kd", "outputs_only", *WITH_FEATURE_LOSS])
def test_distillation_is_the_divergence_of_each_label_that_counts(name, masked):
    batch, tau = _batch(), 2.0
    method = _build(name, **{"distillation.temperature": tau, "distillation.masked": masked})
    outputs = _outputs(method)
    teacher, student = expit(batch.teacher_logits / tau), expit(_folded(outputs) / tau)
    divergence = tau**2 * (rel_entr(teacher, student) + rel_entr(1 - teacher, 1 - student))
    assert _terms(method, outputs, batch)["distillation"] == pytest.approx(divergence[_counts(batch, masked)].mean(), rel=1e-4)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", [name for name in methods.PSEUDO_CLASS if name not in methods.ONE_CLASS])
def test_pseudo_class_term_is_the_divergence_over_both_sides_of_each_label(name, masked):
    batch, method = _batch(), _build(name, **{"distillation.masked": masked})
    outputs = _outputs(method)
    assert method.outputs_per_label == 2 * SUBCLASSES
    present = expit(np.float64(batch.teacher_logits))
    target = np.stack([1 - present, present], axis=-1)[..., None] * batch.targets.reshape(ROWS, LABELS, 2, SUBCLASSES)
    student = softmax(np.float64(outputs.logits).reshape(ROWS, LABELS, -1), axis=-1).reshape(target.shape)
    divergence = rel_entr(target, student).sum(axis=(2, 3))
    assert _terms(method, outputs, batch)["distillation"] == pytest.approx(divergence[_counts(batch, masked)].mean(), rel=1e-5)


@pytest.mark.parametrize("options", [{"weight": 0.5}, {"temperature_on": "teacher"}, {"tau_squared": False}])
def test_options_of_lelp_reach_the_loss(options):
    batch, method = _batch(), _build("lelp", **{"distillation.temperature": 2.0, **{f"lelp.{name}": value for name, value in options.items()}})
    outputs = _outputs(method)
    arguments = outputs.logits, batch.teacher_logits, batch.targets
    plain, expected = (
        float(multilabel_pseudo_class_loss(*arguments, label_mask=_counts(batch, True), where=batch.where, temperature=2.0, **chosen))
        for chosen in ({}, options)
    )
    assert _terms(method, outputs, batch)["distillation"] == pytest.approx(expected, rel=1e-5)
    assert abs(plain - expected) > 0.01


def test_an_unlabelled_row_moves_the_student_on_every_label():
    batch, method = _batch(), _build("lelp")
    outputs = _outputs(method)
    gradient = jax.grad(lambda logits: method.losses(outputs._replace(logits=logits), None, batch, None)["loss"])(outputs.logits)
    norms = np.linalg.norm(np.reshape(gradient, (ROWS, LABELS, -1)), axis=-1)
    np.testing.assert_array_equal(norms > 0, _counts(batch, True))


@pytest.mark.parametrize("name", WITH_FEATURE_LOSS)
def test_feature_loss_reaches_the_features(name):
    batch, method = _batch(), _build(name)
    outputs = _outputs(method)
    params = method.auxiliary.init(jax.random.key(0), outputs, batch).get("params", {})

    def apart(features):
        moved = outputs._replace(features=features, taps=(features,))
        return method.losses(moved, method.auxiliary.apply({"params": params}, moved, batch), batch, None)["distance"]

    assert float(optax.tree.norm(jax.grad(apart)(outputs.features))) > 0
