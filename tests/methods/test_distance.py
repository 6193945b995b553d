"""The distance that a config names: each against its oracle, on the last stage and on several, with each way to align time."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from scipy.special import expit, rel_entr, softmax
from sklearn.metrics import mean_squared_error
from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances

from jaxkd import methods
from jaxkd.config import default_config
from jaxkd.errors import ConfigError
from jaxkd.methods.distance import adapt, distance
from jaxkd.methods.method import Context
from jaxkd.types import Batch, StudentOutputs
from tests.dcor_oracle import dcor

ROWS, DIM = 9, 6
Z = np.array([[0, 0], [1, 0], [0, 2], [3, 1]], np.float32)
E = np.array([[1, 0, 2], [3, 1, 0], [2, 2, 2], [0, 1, 5]], np.float32)


def _config(**overrides):
    config = default_config()
    config.update_from_flattened_dict({f"distance.{name}": value for name, value in overrides.items()})
    return ml_collections.FrozenConfigDict(config)


def _random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _student(*taps: np.ndarray) -> StudentOutputs:
    arrays = tuple(map(jnp.asarray, taps))
    return StudentOutputs(jnp.zeros((len(taps[0]), 1)), arrays[-1], arrays)


def _apart(config, outputs: StudentOutputs, embedding: np.ndarray, where=None) -> float:
    return float(distance(config, adapt(config, outputs, embedding.shape[-1]), embedding, where, None))


def _gram(x, y):
    a, b = (dcor.double_centered(side @ side.T) for side in (x, y))
    return 1 - np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))


def _corrected(x, y):
    return 1 - dcor.u_distance_correlation_sqr(x, y)


ORACLES = {
    "distance_correlation": ({}, lambda x, y: 1 - dcor.distance_correlation_sqr(x, y)),
    "distance_correlation, corrected": ({"bias_corrected": True}, _corrected),
    "cosine_distance_correlation": ({}, _gram),
    "cosine_distance_difference": ({}, lambda x, y: np.mean(np.abs(cosine_similarity(x) - cosine_similarity(y)))),
    "cosine_distance_difference, squared": ({"difference": "squared"}, lambda x, y: mean_squared_error(cosine_similarity(x), cosine_similarity(y))),
    "l2": ({}, mean_squared_error),
    "cosine": ({}, lambda x, y: np.mean(paired_cosine_distances(x, y))),
}


@pytest.mark.parametrize("name", ORACLES)
def test_each_name_is_its_statistic_of_the_rows_that_count(name):
    options, oracle = ORACLES[name]
    z, e, where = _random(0, ROWS, 4, DIM), _random(1, ROWS, 2, DIM), np.arange(ROWS) != 3
    expected = oracle(z.mean(axis=1)[where].astype(np.float64), e.mean(axis=1)[where].astype(np.float64))
    assert _apart(_config(name=name.partition(",")[0], **options), _student(z), e, where) == pytest.approx(float(expected), rel=1e-5)


def test_groups_of_rows_reach_the_statistic():
    z, e = _random(2, 8, 1, 3), _random(3, 8, 1, DIM)
    expected = np.mean([1 - dcor.distance_correlation_sqr(z[rows, 0], e[rows, 0]) for rows in (slice(0, 4), slice(4, 8))])
    assert _apart(_config(group_size=4), _student(z), e) == pytest.approx(float(expected), rel=1e-5)


def test_gather_and_rows_reach_the_statistic():
    """On two devices: local is the mean of the halves, and with own rows, as always under jit, no device makes the matrix of all pairs."""
    z, e = _random(30, 8, 1, 3), _random(31, 8, 1, DIM)
    halves = z.reshape(2, 4, 1, 3), e.reshape(2, 4, 1, DIM)

    def on_devices(mode="pmap", **overrides):
        config = ml_collections.ConfigDict(_config(**overrides))
        config.parallel.mode = mode
        return lambda features, embedding: distance(config, (features,), embedding, None, "data")

    expected = np.mean([1 - dcor.distance_correlation_sqr(z[rows, 0], e[rows, 0]) for rows in (slice(0, 4), slice(4, 8))])
    np.testing.assert_allclose(jax.vmap(on_devices(gather="local"), axis_name="data")(*halves), np.full(2, expected), rtol=1e-5)
    own, gathered, under_jit = (
        str(jax.make_jaxpr(on_devices(**options), axis_env=[("data", 2)])(z[:4], e[:4])) for options in ({"rows": "own"}, {}, {"mode": "jit"})
    )
    assert "8,8]" in gathered
    assert "8,8]" not in own + under_jit


def test_vectors_of_the_specification():
    assert _apart(_config(), _student(Z[:, None]), E[:, None]) == pytest.approx(1 - 0.8079843294, abs=1e-6)
    assert _apart(_config(name="cosine_distance_difference"), _student(Z[:, None] + 1), E[:, None]) == pytest.approx(0.2130985232, abs=1e-6)


def test_absolute_constants_of_east_come_from_the_config():
    """On points 1e-2 apart the constant under the root is no longer small."""
    a, b = (dcor.double_centered(dcor.distances.pairwise_distances(1e-2 * x.astype(np.float64))) for x in (Z, E))
    expected = 1 - np.mean(a * b) / np.sqrt(np.mean(a * a) * np.mean(b * b) + 1e-9)
    small = _student(1e-2 * Z[:, None])
    assert _apart(_config(absolute_eps=True), small, 1e-2 * E[:, None]) == pytest.approx(expected, abs=1e-4)
    assert _apart(_config(), small, 1e-2 * E[:, None]) == pytest.approx(1 - 0.8079843294, abs=1e-5)
    assert abs(expected - (1 - 0.8079843294)) > 1e-2


def test_stages_are_weighted_and_each_is_aligned_in_its_own_way():
    """ "All" with the frames of MagnaTagATune: 30, 15 and 15 of the student against 31 of the teacher, the last two repeated twice."""
    taps, e = [_random(seed, 5, frames, 3) for seed, frames in ((4, 30), (5, 15), (6, 15))], _random(7, 5, 31, DIM)

    def of_frames(z):
        return np.mean([1 - dcor.distance_correlation_sqr(z[:, t], e[:, t]) for t in range(30)])

    each = [of_frames(taps[0]), of_frames(taps[1].repeat(2, axis=1)), of_frames(taps[2].repeat(2, axis=1))]
    expands = {"features_expand": 1, "embedding_expand": 1, "stage_features_expand": (1, 2, 2)}
    for weights in ((1.0, 1.0, 1.0), (2.0, 0.0, 6.0)):
        config = _config(stage_weights=weights, **expands)
        assert _apart(config, _student(*taps), e) == pytest.approx(float(np.average(each, weights=weights)), rel=1e-5)


def test_a_student_of_one_stage_and_final_weights_are_the_default():
    z, e = _random(8, ROWS, 3, 4), _random(9, ROWS, 3, DIM)
    outputs = _student(_random(10, ROWS, 3, 5), z)
    assert _apart(_config(stage_weights=(0.0, 3.0)), outputs, e) == _apart(_config(), outputs, e) == _apart(_config(), _student(z), e)


@pytest.mark.parametrize(("alignment", "frames"), [("pool", 2), ("interpolate", 6)])
def test_alignment_by_name(alignment, frames):
    z, e = _random(11, ROWS, 6, 4), _random(12, ROWS, 2, DIM)
    if alignment == "pool":
        one, other = z.reshape(ROWS, 2, 3, 4).mean(axis=2), e
    else:
        centres, grid = (np.arange(6) + 0.5) / 3 - 0.5, np.arange(2)
        one, other = z, np.apply_along_axis(lambda frame: np.interp(centres, grid, frame), 1, e)
    expected = np.mean([1 - dcor.distance_correlation_sqr(one[:, t].astype(np.float64), other[:, t].astype(np.float64)) for t in range(frames)])
    assert _apart(_config(alignment=alignment), _student(z), e) == pytest.approx(float(expected), rel=1e-5)


def test_fitnet_has_one_adapter_a_stage():
    outputs, e = _student(_random(13, ROWS, 1, 3), _random(14, ROWS, 1, 4)), _random(15, ROWS, 1, DIM)
    config = _config(name="fitnet", stage_weights=(1.0, 1.0))

    class Adapted(nn.Module):
        @nn.compact
        def __call__(self):
            return adapt(config, outputs, DIM)

    params = Adapted().init(jax.random.key(0))["params"]
    assert {name: layer["kernel"].shape for name, layer in params.items()} == {"adapter_0": (3, DIM), "adapter_1": (4, DIM)}
    adapted = [tap[:, 0] @ params[f"adapter_{k}"]["kernel"] for k, tap in enumerate(outputs.taps)]
    expected = np.mean([np.mean((np.asarray(z) - e[:, 0]) ** 2) for z in adapted])
    assert float(distance(config, Adapted().apply({"params": params}), e, None, None)) == pytest.approx(float(expected), rel=1e-5)


def _distilled(task: str, *, name: str = "east_kd", scale: float = 1.0, **overrides):
    config = default_config()
    config.update_from_flattened_dict({"east.weight": 0.6, **overrides})
    labels = (_random(20, ROWS, 3) > 0).astype(np.float32) if task == "multilabel" else np.eye(3, dtype=np.float32)[np.arange(ROWS) % 3]
    mask = np.ones((ROWS, 3), bool)
    mask[:2], mask[3, 1] = False, task != "multilabel"
    batch = Batch(np.zeros((ROWS, 1)), labels, mask, _random(21, ROWS, 1, DIM), np.ones(ROWS, bool), teacher_logits=_random(22, ROWS, 3))
    outputs = _student(_random(23, ROWS, 4, 5))._replace(logits=jnp.asarray(scale * _random(24, ROWS, 3)))
    method = methods.build(name, ml_collections.FrozenConfigDict(config), Context(task, 3, np.zeros(0, np.int32)))
    terms = method.losses(outputs, method.auxiliary and method.auxiliary.apply({}, outputs, batch), batch, None)
    return {name: float(value) for name, value in terms.items()}, outputs, batch


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_east_kd_shares_the_weight_between_distance_and_distillation(task):
    """Temperature 2 and 0.3 by default; a label that is unknown beside known ones is left out, an unlabelled row is not."""
    terms, outputs, batch = _distilled(task)
    student, teacher = np.float64(outputs.logits) / 2, np.float64(batch.teacher_logits) / 2
    if task == "multilabel":
        p, q = expit(student), expit(teacher)
        counts = np.ones((ROWS, 3), bool)
        counts[3, 1] = False
        kd = 4 * np.mean((rel_entr(q, p) + rel_entr(1 - q, 1 - p))[counts])
    else:
        kd = 4 * np.mean(np.sum(rel_entr(softmax(teacher, axis=1), softmax(student, axis=1)), axis=1))
    distance = 1 - dcor.distance_correlation_sqr(np.asarray(outputs.features, np.float64).mean(axis=1), np.float64(batch.embedding[:, 0]))
    assert terms["distillation"] == pytest.approx(kd, rel=1e-5)
    assert terms["distance"] == pytest.approx(float(distance), rel=1e-5)
    assert terms["loss"] == pytest.approx(0.4 * terms["label_loss"] + 0.6 * (0.7 * terms["distance"] + 0.3 * terms["distillation"]), rel=1e-5)


def test_east_kd_counts_every_entry_if_it_is_not_masked():
    everything, outputs, batch = _distilled("multilabel", **{"distillation.masked": False, "east_kd.temperature": 1.0, "east_kd.kd_weight": 0.5})
    p, q = expit(np.float64(outputs.logits)), expit(np.float64(batch.teacher_logits))
    assert everything["distillation"] == pytest.approx(np.mean(rel_entr(q, p) + rel_entr(1 - q, 1 - p)), rel=1e-5)
    assert everything["loss"] == pytest.approx(0.4 * everything["label_loss"] + 0.3 * everything["distance"] + 0.3 * everything["distillation"], rel=1e-5)


@pytest.mark.parametrize("name", ["east_kd", "kd"])
def test_constants_of_the_authors_reach_the_distillation(name):
    """On logits so large that they count."""
    options = {"name": name, "scale": 40, "distillation.masked": False, "distillation.temperature": 2.0}
    terms, outputs, batch = _distilled("multilabel", **options, **{"distance.absolute_eps": True})
    student, teacher = np.float64(outputs.logits) / 2, np.float64(batch.teacher_logits) / 2
    log_ratio = np.log((expit(-teacher) + 1e-9) / (expit(-student) + 1e-9))
    assert terms["distillation"] == pytest.approx(4 * np.mean(expit(teacher) * (teacher - student) + log_ratio), rel=1e-4)
    assert _distilled("multilabel", **options)[0]["distillation"] != pytest.approx(terms["distillation"], rel=1e-3)


@pytest.mark.parametrize("name", ["l2", "cosine"])
def test_equal_widths_are_asked_for_by_stage(name):
    outputs, e = _student(_random(16, ROWS, 1, 3), _random(17, ROWS, 1, DIM)), _random(18, ROWS, 1, DIM)
    assert np.isfinite(_apart(_config(name=name), outputs, e))
    with pytest.raises(ConfigError, match=f"{name}.*stage 0 of the student has 3 channels and the embedding {DIM} dimensions.*compressed"):
        adapt(_config(name=name, stage_weights=(1.0, 1.0)), outputs, DIM)


def test_as_many_weights_as_stages():
    with pytest.raises(ConfigError, match=r"stage_weights has 3 weights, but the student has 1 stage\(s\)"):
        adapt(_config(stage_weights=(1.0, 1.0, 1.0)), _student(_random(19, ROWS, 1, 3)), DIM)
