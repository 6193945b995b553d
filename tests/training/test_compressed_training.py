"""How the two sides of embedding compression are trained: together, one after the other, with one optimiser or two."""

import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from jaxkd import methods, pipeline
from jaxkd.compression import Projection
from jaxkd.config import count_steps, default_config
from jaxkd.data.loader import TrainBatch
from jaxkd.errors import ConfigError
from jaxkd.methods.method import Context
from jaxkd.parallel import Devices
from jaxkd.training.checkpoint import Checkpoints
from jaxkd.training.loop import train
from jaxkd.training.optimiser import make_optimiser
from jaxkd.training.state import initial_state
from jaxkd.training.step import Experiment, Normalisation, eval_step, train_step
from jaxkd.types import Batch, StudentOutputs
from tests.dcor_oracle import dcor
from tests.small import text_config

ROWS, INPUTS, WIDTH, DIM, LABELS, STEPS = 8, 5, 4, 6, 3, 6
PLAIN = Normalisation(np.float32(0), np.float32(1))


class _Student(nn.Module):
    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        features = nn.BatchNorm(use_running_average=not train)(nn.Dense(WIDTH, use_bias=False)(inputs))
        return StudentOutputs(nn.Dense(LABELS)(features), features[:, None], (features[:, None],))


def _batch(step: int) -> Batch:
    rng = np.random.default_rng(step)
    labels = (rng.random((ROWS, LABELS)) < 0.5).astype(np.float32)
    embedding = rng.standard_normal((ROWS, 1, DIM)).astype(np.float32)
    return Batch(rng.standard_normal((ROWS, INPUTS)).astype(np.float32), labels, rng.random((ROWS, LABELS)) < 0.7, embedding, np.ones(ROWS, bool))


def _of_inputs(batch: Batch) -> Batch:
    """The rows with labels that all follow from their inputs."""
    return batch._replace(labels=(batch.inputs[:, :LABELS] > 0).astype(np.float32), label_mask=np.ones((ROWS, LABELS), bool))


def _experiment(projection=None, **overrides):
    """The config, the parts of its steps, and the initial state."""
    config = default_config()
    config.training.update({"steps": STEPS, "warmup_steps": 1, "learning_rate": 0.05, "clip_norm": 1e6})
    config.update_from_flattened_dict(overrides)
    pipeline.check(config)
    method = methods.build("compressed", ml_collections.FrozenConfigDict(config), Context("multilabel", LABELS, np.zeros(0, np.int32), 1, projection))
    experiment = Experiment(_Student(), method, make_optimiser(config.training, method), lambda keys, rows: rows, PLAIN, "and", 0)
    state = initial_state(jax.random.key(0), experiment.student, method, experiment.optimiser, _batch(0), Devices.all())
    return config, experiment, state


def _setting(projection=None, **overrides):
    """The compiled step, and the initial state."""
    _, experiment, state = _experiment(projection, **overrides)
    return jax.jit(functools.partial(train_step, experiment)), state


def _run(step, state, first: int, last: int):
    states = [state]
    for number in range(first, last):
        states.append(step(states[-1], TrainBatch(_batch(number), None, None))[0])
    return states


def _differ(one, other) -> list[bool]:
    return [bool(np.any(np.asarray(a) != np.asarray(b))) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)]


def test_head_starts_at_the_frequencies_of_the_labels_if_asked():
    log_odds = np.float32([-2, 0.5, 1])
    for start, expected in (("zero", np.zeros(LABELS)), ("log_odds", log_odds)):
        config = default_config()
        config.compressed.head_bias = start
        method = methods.build("compressed", ml_collections.FrozenConfigDict(config), Context("multilabel", LABELS, np.zeros(0, np.int32), log_odds=log_odds))
        state = initial_state(jax.random.key(0), _Student(), method, make_optimiser(config.training, method), _batch(0), Devices.all())
        np.testing.assert_array_equal(state.params["auxiliary"]["head"]["bias"], expected)


STAGED = {"compressed.training": "staged", "compressed.staged_steps": 3.0}


@pytest.fixture(scope="module")
def staged():
    step, state = _setting(**STAGED)
    return step, _run(step, state, 0, STEPS)


def test_one_side_is_trained_after_the_other(staged):
    states = staged[1]
    student = [(state.params["student"], state.batch_stats) for state in states]
    teacher = [state.params["auxiliary"] for state in states]
    assert not any(_differ(student[0], student[3]))
    assert all(_differ(teacher[1], teacher[3]))
    assert not any(_differ(teacher[3], teacher[6]))
    assert all(_differ(student[4], student[6]))


def test_second_stage_is_a_student_trained_from_scratch_on_the_frozen_transformation(staged):
    """With its own warm-up and schedule, on the batches of the second stage."""
    states = staged[1]
    matrix = np.asarray(states[3].params["auxiliary"]["transformation"]["output"]["kernel"])
    step, fresh = _setting(lambda width: Projection(np.zeros(DIM), matrix), **{"compressed.transformation": "random", "training.steps": 3})
    fresh = fresh._replace(params={**fresh.params, "student": states[0].params["student"]})
    alone = _run(step, fresh, 3, STEPS)[-1]
    for one, other in zip(jax.tree.leaves(alone.params["student"]), jax.tree.leaves(states[-1].params["student"]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stop", [2, 4])
def test_staged_run_goes_on_from_a_checkpoint_as_if_never_stopped(staged, stop, tmp_path):
    step, states = staged
    checkpoints = Checkpoints(tmp_path, states[0])
    checkpoints.save_last(stop, states[stop], {})
    checkpoints.wait()
    resumed = _run(step, checkpoints.restore_last()[0], stop, STEPS)[-1]
    checkpoints.close()
    assert not any(_differ(resumed, states[-1]))


def test_a_student_that_is_not_trained_yet_is_never_the_best(tmp_path):
    """The metric falls from the first step on, so that the earliest state on offer wins."""
    step, state = _setting(**STAGED)
    settings = default_config().training
    settings.update({"steps": STEPS, "eval_every_steps": 1})
    loader = SimpleNamespace(batches=lambda start, stop, **_: (TrainBatch(_batch(number), None, None) for number in range(start, stop)))
    devices = SimpleNamespace(shard=lambda batch: batch, replicate=jnp.asarray)
    checkpoints = Checkpoints(tmp_path / "checkpoints", state)
    train(step, lambda state: {"loss": 1.0, "map": -float(state.step)}, state, loader, checkpoints, devices, settings, tmp_path, select_after=3)
    assert int(checkpoints.restore_best().step) == 4
    checkpoints.close()


def _trained(**overrides):
    step, state = _setting(**overrides)
    return _run(step, state, 0, 3)[-1].params


@pytest.mark.parametrize(
    ("overrides", "matters"),
    [
        ({}, False),
        ({"compressed.shared_optimiser": True}, False),
        ({"compressed.shared_optimiser": True, "training.clip_norm": 0.01}, True),
        ({"compressed.stop_gradient": False}, True),
        ({"training.optimiser": "adam", "training.weight_decay": 0.1}, True),
    ],
    ids=["apart", "one optimiser that does not clip", "norms meet", "gradients meet", "coupled decay meets the gradient"],
)
def test_teacher_weight_matters_only_where_gradients_or_norms_meet(overrides, matters):
    """Ten times the weight: parameters after three steps."""
    light, heavy = (_trained(**overrides, **{"compressed.teacher_weight": weight}) for weight in (0.5, 5.0))
    for side in ("student", "auxiliary"):
        moved = max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(light[side]), jax.tree.leaves(heavy[side]), strict=True))
        assert moved > 1e-3 if matters else moved < 1e-5


def test_the_schedule_watches_the_student_whatever_the_teacher_side_weighs(tmp_path):
    """The labels follow from the inputs, not from the embeddings, to which the teacher's side over-fits: the total of another weight is lowest elsewhere."""
    ends = []
    for weight in (0.1, 10.0):
        plateau = {"schedule": "plateau", "plateau_patience": 1, "early_stop_patience": 4, "eval_every_steps": 1, "steps": 20}
        overrides = {f"training.{name}": value for name, value in plateau.items()}
        config, experiment, state = _experiment(**overrides, **{"compressed.weight": 0.0, "compressed.teacher_weight": weight})
        evaluate, losses = jax.jit(functools.partial(eval_step, experiment)), []

        def validate(state, evaluate=evaluate, losses=losses):
            losses.append({name: float(value) for name, value in evaluate(state, _of_inputs(_batch(1)))[1].items()})
            return {"map": 0.0, **losses[-1]}

        loader = SimpleNamespace(batches=lambda start, stop, **_: (TrainBatch(_of_inputs(_batch(0)), None, None) for _ in range(start, stop)))
        devices = SimpleNamespace(shard=lambda batch: batch, replicate=jnp.asarray)
        step = jax.jit(functools.partial(train_step, experiment))
        checkpoints = Checkpoints(tmp_path / f"{weight}", state)
        train(step, validate, state, loader, checkpoints, devices, config.training, tmp_path, watched=experiment.method.watched)
        ends.append((*checkpoints.restore_last(), losses))
        checkpoints.close()
    (light, light_host, light_losses), (heavy, heavy_host, heavy_losses) = ends
    assert len({int(np.argmin([terms["loss"] for terms in losses])) for losses in (light_losses, heavy_losses)}) == 2
    assert light_host["plateau"] == pytest.approx(heavy_host["plateau"], rel=1e-5)
    assert light_host["plateau"]["scale"] < 1 and int(light.step) == int(heavy.step) < config.training.steps
    for one, other in zip(jax.tree.leaves(light.params["student"]), jax.tree.leaves(heavy.params["student"]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_transformation_that_is_not_trained_stays_what_it_was_while_its_head_learns():
    matrix = np.random.default_rng(0).standard_normal((DIM, WIDTH)).astype(np.float32)
    step, state = _setting(lambda width: Projection(np.zeros(DIM), matrix[:, :width]), **{"compressed.transformation": "pca"})
    assert set(state.params["auxiliary"]) == {"head"}
    assert all(_differ(state.params["auxiliary"], _run(step, state, 0, 2)[-1].params["auxiliary"]))


def test_steps_as_a_number_or_a_fraction():
    assert [count_steps(value, 1000) for value in (1.0, 300.0, 0.25, 0.5)] == [1, 300, 250, 500]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"training": "twice"}, "one of joint, staged"),
        ({"training": "staged", "transformation": "random"}, "training='staged' trains the transformation, but 'random' is not trained"),
        ({"transformation": "pca", "stop_gradient": False}, "stop_gradient=False trains the transformation, but 'pca' is not trained"),
        ({"training": "staged", "stop_gradient": False}, "the distance cannot train a transformation that is frozen: set it to True"),
        ({"training": "staged", "shared_optimiser": True}, "trained one after the other: set it to False"),
        ({"training": "staged", "teacher_weight": 0.0}, "the first stage has no other loss"),
        ({"training": "staged", "staged_steps": 980.0}, "980 of 1000 steps and the student 20.*training.warmup_steps, 50"),
        ({"staged_steps": 0.0}, "staged_steps is 0.0, but must be above 0"),
        ({"transformation": "linaer"}, "one of linear, linear_norm, mlp, attention, random, pca, identity"),
    ],
)
def test_combinations_that_mean_nothing_are_refused_before_anything_starts(overrides, message):
    config = default_config()
    config.update_from_flattened_dict({f"compressed.{name}": value for name, value in overrides.items()})
    with pytest.raises(ConfigError, match=message):
        pipeline.check(config)


def test_attention_over_a_single_vector_is_refused():
    config = text_config(method="compressed")
    config.compressed.transformation = "attention"
    with pytest.raises(ConfigError, match="'attention', which weighs frames, but of text there is one vector"):
        pipeline.check(config)


@pytest.mark.parametrize(
    "fields",
    [
        {"compressed.transformation": "identity"},
        {"compressed.training": "staged", "compressed.shared_optimiser": True},
        {"compressed.training": "staged", "training.schedule": "plateau"},
    ],
)
def test_fields_of_compressed_are_checked_where_it_is_trained(fields, tmp_path):
    config = default_config()
    config.update_from_flattened_dict({"method": "east", **fields})
    config.compare.methods = ("baseline", "compressed")
    pipeline.check(config)
    with pytest.raises(ConfigError, match=r"compressed\.(transformation|training)='(identity|staged)'"):
        pipeline.compare(config, tmp_path, tmp_path)


def test_staged_training_and_a_plateau_are_refused():
    config = default_config()
    config.update_from_flattened_dict({"compressed.training": "staged", "training.schedule": "plateau"})
    with pytest.raises(ConfigError, match=r"watches one loss, but compressed\.training='staged' has two in turn"):
        pipeline.check(config)


def test_validation_logs_what_the_features_share_with_either_embedding():
    """dcor on the rows that count and their means over time; the embedding has two frames, the features have one."""
    _, experiment, state = _experiment()
    batch = _batch(1)
    batch = batch._replace(embedding=np.concatenate([batch.embedding, _batch(2).embedding], axis=1), where=np.arange(ROWS) < ROWS - 2)
    terms = jax.jit(functools.partial(eval_step, experiment))(state, batch)[1]
    variables = {"params": state.params["student"], "batch_stats": state.batch_stats}
    outputs = experiment.student.apply(variables, batch.inputs, train=False)
    compact = experiment.method.compact(experiment.method.auxiliary.apply({"params": state.params["auxiliary"]}, outputs, batch))
    for name, target in (("raw", batch.embedding), ("compact", compact)):
        sides = (np.asarray(side, np.float64).mean(axis=1)[batch.where] for side in (outputs.features, target))
        assert float(terms[f"distance_correlation_{name}"]) == pytest.approx(dcor.u_distance_correlation_sqr(*sides), abs=1e-5)


def test_validation_terms_are_of_the_global_batch():
    """Two replicas of a mapped axis, the second with rows that do not count, against the whole batch at once."""
    _, experiment, state = _experiment()
    batch = _batch(1)._replace(where=np.arange(ROWS) < ROWS - 2)
    logits, whole = eval_step(experiment, state, batch)
    halves = jax.tree.map(lambda x: x.reshape(2, ROWS // 2, *x.shape[1:]), batch)
    evaluate = functools.partial(eval_step, experiment, axis_name="data")
    mapped_logits, mapped = jax.jit(jax.vmap(evaluate, in_axes=(None, 0), axis_name="data"))(state, halves)
    for replica in range(2):
        np.testing.assert_allclose(mapped_logits[replica], logits, atol=1e-5)
        for name in ("distance_correlation_raw", "distance_correlation_compact"):
            assert float(mapped[name][replica]) == pytest.approx(float(whole[name]), abs=1e-5)
