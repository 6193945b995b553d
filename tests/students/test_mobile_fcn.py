"""Mobile FCN: sizes as published (arXiv 2306.17424), starting values of torch, dropout over replicas, inputs it refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import pipeline, students
from jaxkd.errors import ConfigError
from jaxkd.metrics import multilabel_metrics
from jaxkd.models.macs import count_macs
from jaxkd.results.artefact import load_predictor
from jaxkd.training.inputs import audio_inputs
from jaxkd.training.student import train_student
from tests.small import small_config


@pytest.fixture(scope="module")
def variables():
    return jax.jit(lambda: students.build("mobile_fcn", num_outputs=50).init(jax.random.key(0), jnp.zeros((1, 96, 96)), train=False))()


@pytest.mark.parametrize(("bands", "macs"), [(96, 1.44e9), (128, 1.91e9)])
def test_sizes_are_the_published_ones(variables, bands, macs):
    student, inputs = students.build("mobile_fcn", num_outputs=50), jax.ShapeDtypeStruct((2, 1457, bands), jnp.float32)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 314_098
    outputs = jax.eval_shape(lambda v, x: student.apply(v, x, train=False), variables, inputs)
    assert [tap.shape for tap in outputs.taps] == [(2, 30, 128), (2, 15, 256), (2, 15, 256)]
    assert (outputs.features.shape, outputs.logits.shape) == ((2, 15, 256), (2, 50))
    assert count_macs(lambda v, x: student.apply(v, x, train=False).logits, variables, inputs) / 2 == pytest.approx(macs, rel=0.005)


def test_weights_start_as_torch_starts_them(variables):
    """Uniform within 1 / sqrt(fan in), torch's documented default; a depthwise kernel has a fan in of 9."""
    params = variables["params"]
    kernels = {
        9 * 64: params["layer2"]["conv"]["kernel"],
        9: params["layer3"]["depthwise"],
        128: params["layer3"]["conv"]["kernel"],
        256: params["head"]["kernel"],
    }
    for fan_in, kernel in kernels.items():
        assert np.abs(kernel).max() == pytest.approx(fan_in**-0.5, rel=0.02)
        assert np.std(kernel) == pytest.approx((3 * fan_in) ** -0.5, rel=0.05)
    assert 0.8 / 16 < np.abs(params["head"]["bias"]).max() <= 1 / 16


def test_taps_are_those_before_the_dropout_and_masks_those_of_the_whole_batch(variables):
    inputs = jax.random.normal(jax.random.key(1), (4, 200, 96))
    whole, split = (students.build("mobile_fcn", num_outputs=50, axis_name=axis) for axis in (None, "data"))

    def train(student, rows, seed=2):
        return student.apply(variables, rows, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(seed)})[0]

    outputs, other = (jax.jit(lambda rows, seed: train(whole, rows, seed))(inputs, seed) for seed in (2, 3))
    np.testing.assert_array_equal(outputs.taps[0], other.taps[0])
    assert not np.allclose(outputs.taps[1], other.taps[1])
    assert not np.allclose(outputs.logits, other.logits)
    assert all((np.asarray(tap) > 0).mean() > 0.3 for tap in outputs.taps)
    halves = jax.jit(jax.vmap(lambda rows: train(split, rows), axis_name="data"))(inputs.reshape(2, 2, 200, 96))
    np.testing.assert_allclose(halves.logits.reshape(4, 50), outputs.logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("shape", "message"), [((1, 200, 64), "takes 96 or 128 mel bands, not 64"), ((1, 95, 96), "needs at least 96 frames, not 95")])
def test_inputs_that_the_poolings_do_not_fit_are_refused(variables, shape, message):
    with pytest.raises(ConfigError, match=message):
        students.build("mobile_fcn", num_outputs=50).apply(variables, jnp.zeros(shape), train=False)


@pytest.mark.slow
def test_learns_from_rendered_clips_and_is_kept_without_its_teacher(small_inputs, tmp_path):
    """Twelve steps with the front end of MagnaTagATune and a distance at each stage; what is kept has the scores that validation saw."""
    config = small_config(method="east")
    config.student.name = "mobile_fcn"
    config.frontend.update({"bands": 96, "window": 800, "hop": 320})
    config.distance.stage_weights = (1.0, 1.0, 1.0)
    config.training.update({"steps": 12, "unlabelled_ratio": 0, "mixup_alpha": 0.0, "learning_rate": 3e-3, "warmup_steps": 1})
    config.training.update({"eval_every_steps": 6, "log_every_steps": 1})
    pipeline.check(config)
    dataset = small_inputs.dataset
    train_student(config, tmp_path, small_inputs._replace(inputs=audio_inputs(config, dataset)))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["values"]["label_loss"] for line in lines if line["split"] == "train"]
    assert len(losses) == 12 and np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    with np.load(tmp_path / "student" / "parameters.npz") as kept:
        assert sum(kept[name].size for name in kept.files if name.startswith("params/")) == 314_098 - (256 + 1) * (50 - 16)
    ids = dataset.splits["valid"]
    scores = load_predictor(tmp_path / "student")(dataset.gather(ids))
    best = max(line["values"]["map"] for line in lines if line["split"] == "valid")
    found = multilabel_metrics(dataset.labels(ids), scores, dataset.label_mask(ids), threshold=config.evaluation.f1_threshold)
    assert found["map"] == pytest.approx(best, abs=1e-3)
