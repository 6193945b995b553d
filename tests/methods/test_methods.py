"""Methods: which loss reaches which parameters, and the formulas of their totals."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from scipy.special import softmax

from jaxkd import methods
from jaxkd.config import default_config
from jaxkd.errors import ConfigError
from jaxkd.losses import distance_correlation_loss, masked_bernoulli_cross_entropy
from jaxkd.methods.method import Context
from jaxkd.types import Batch, StudentOutputs
from tests.dcor_oracle import dcor

ROWS, FRAMES, WIDTH, DIM, LABELS = 12, 3, 8, 20, 4


def _batch(unlabelled: int = 5) -> Batch:
    generator = np.random.default_rng(0)
    labels = (generator.random((ROWS, LABELS)) < 0.4).astype(np.float32)
    mask = np.ones((ROWS, LABELS), bool)
    mask[ROWS - unlabelled :] = False
    return Batch(np.zeros((ROWS, 1)), labels, mask, generator.normal(size=(ROWS, 1, DIM)).astype(np.float32), np.ones(ROWS, bool))


def _outputs() -> StudentOutputs:
    generator = np.random.default_rng(1)
    features = jnp.asarray(generator.normal(size=(ROWS, FRAMES, WIDTH)), jnp.float32)
    return StudentOutputs(jnp.asarray(generator.normal(size=(ROWS, LABELS)), jnp.float32), features, (features,))


def _build(name: str, **overrides):
    config = default_config()
    config.update_from_flattened_dict(overrides)
    return methods.build(name, ml_collections.FrozenConfigDict(config), Context("multilabel", LABELS, np.full(ROWS, -1, np.int32)))


def _terms(method, outputs, batch, params=None):
    if method.auxiliary is None:
        return method.losses(outputs, None, batch, None), {}
    if params is None:
        params = method.auxiliary.init(jax.random.key(0), outputs, batch).get("params", {})
    return method.losses(outputs, method.auxiliary.apply({"params": params}, outputs, batch), batch, None), params


def _norm(tree) -> float:
    return float(optax.tree.norm(tree))


def test_baseline_is_the_masked_cross_entropy():
    batch, outputs = _batch(), _outputs()
    terms, _ = _terms(_build("baseline"), outputs, batch)
    assert float(terms["loss"]) == pytest.approx(float(masked_bernoulli_cross_entropy(outputs.logits, batch.labels, batch.label_mask)))


def test_east_weighs_label_loss_and_distance():
    batch, outputs = _batch(), _outputs()
    terms, _ = _terms(_build("east", **{"east.weight": 0.7}), outputs, batch)
    label = masked_bernoulli_cross_entropy(outputs.logits, batch.labels, batch.label_mask)
    distance = distance_correlation_loss(outputs.features.mean(axis=1), batch.embedding[:, 0])
    assert float(terms["loss"]) == pytest.approx(0.3 * float(label) + 0.7 * float(distance), rel=1e-6)


def test_east_with_fitnet_trains_an_adapter_to_the_raw_embedding():
    batch, outputs = _batch(), _outputs()
    terms, params = _terms(_build("east", **{"distance.name": "fitnet"}), outputs, batch)
    adapter = params["adapter"]
    adapted = outputs.features.mean(axis=1) @ adapter["kernel"] + adapter["bias"]
    assert float(terms["distance"]) == pytest.approx(float(np.mean((adapted - batch.embedding[:, 0]) ** 2)), rel=1e-5)


@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_total_of_compression_from_its_formula(kind):
    """Labels of both heads by their masks alone; the teacher's head reads the mean over time of the compact embedding, whose frames differ."""
    batch, outputs = _batch(), _outputs()
    batch = batch._replace(embedding=np.random.default_rng(2).normal(size=(ROWS, FRAMES, DIM)).astype(np.float32))
    method = _build("compressed", **{"compressed.weight": 0.7, "compressed.teacher_weight": 2.5, "compressed.transformation": kind})
    params = method.auxiliary.init(jax.random.key(0), outputs, batch)["params"]
    params["head"]["bias"] = jnp.arange(LABELS, dtype=jnp.float32)
    terms, _ = _terms(method, outputs, batch, params)
    layers = jax.tree.map(np.float64, params["transformation"])
    compact, size = np.float64(batch.embedding) @ layers["output"]["kernel"], layers["output"]["kernel"].shape[1]
    if kind == "attention":
        query, key = (batch.embedding @ layers[name]["kernel"] for name in ("query", "key"))
        compact = softmax(query @ key.swapaxes(1, 2) / np.sqrt(size), axis=-1) @ compact

    def entropy(logits):
        return np.mean((np.logaddexp(0, logits) - batch.labels * logits)[batch.label_mask])

    label = entropy(np.float64(outputs.logits))
    teacher = entropy(compact.mean(axis=1) @ np.float64(params["head"]["kernel"]) + np.arange(LABELS))
    distance = 1 - dcor.distance_correlation_sqr(np.float64(outputs.features).mean(axis=1), compact.mean(axis=1))
    expected = {"label_loss": label, "distance": distance, "teacher_loss": teacher, "student_loss": 0.3 * label + 0.7 * distance}
    expected["loss"] = expected["student_loss"] + 2.5 * teacher
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("distance", ["distance_correlation", "fitnet"])
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_gradient_table_of_compression(distance, stop_gradient):
    method = _build("compressed", **{"distance.name": distance, "compressed.stop_gradient": stop_gradient})
    batch, outputs = _batch(), _outputs()
    _, params = _terms(method, outputs, batch)

    def term(name):
        def value(params, features, logits):
            return _terms(method, outputs._replace(features=features, logits=logits), batch, params)[0][name]

        return jax.grad(value, argnums=(0, 1, 2))(params, outputs.features, outputs.logits)

    auxiliary, features, logits = term("label_loss")
    assert _norm(logits) > 0
    assert _norm((auxiliary, features)) == 0
    auxiliary, features, logits = term("distance")
    assert _norm(features) > 0
    assert _norm((auxiliary["head"], logits)) == 0
    assert (_norm(auxiliary["transformation"]) > 0) is not stop_gradient
    assert ("adapter" in auxiliary) is (distance == "fitnet")
    auxiliary, features, logits = term("teacher_loss")
    assert min(_norm(auxiliary["transformation"]), _norm(auxiliary["head"])) > 0
    assert _norm((features, logits, auxiliary.get("adapter", {}))) == 0


@pytest.mark.parametrize("name", ["east", "compressed"])
def test_unlabelled_rows_move_the_distance_and_nothing_else(name):
    method, outputs = _build(name), _outputs()
    batch = _batch(unlabelled=5)
    altered = batch.embedding.copy()
    altered[-5:] *= -2.0
    before, params = _terms(method, outputs, batch)
    after, _ = _terms(method, outputs, batch._replace(embedding=altered), params)
    assert float(before["distance"]) != float(after["distance"])
    assert float(before["label_loss"]) == float(after["label_loss"])
    if name == "compressed":
        assert float(before["teacher_loss"]) == float(after["teacher_loss"])


def test_compact_width_is_the_students_unless_set():
    batch, outputs = _batch(), _outputs()
    _, params = _terms(_build("compressed"), outputs, batch)
    assert params["transformation"]["output"]["kernel"].shape == (DIM, WIDTH)
    _, params = _terms(_build("compressed", **{"compressed.features": 5}), outputs, batch)
    assert params["transformation"]["output"]["kernel"].shape == (DIM, 5)


def test_unknown_method_shows_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown method 'compresed'. Did you mean 'compressed'\?"):
        methods.check("compresed")
