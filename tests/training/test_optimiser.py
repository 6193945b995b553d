"""Optimiser and schedules against formulas of their sources and against closed forms."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxkd.config import default_config
from jaxkd.methods.method import Method
from jaxkd.training.optimiser import Plateau, learning_rate, make_optimiser


def _settings(**overrides):
    settings = default_config().training
    settings.update({"warmup_steps": 0, "schedule": "constant", "learning_rate": 0.01, "weight_decay": 0.1, "clip_norm": 1.0} | overrides)
    return settings


def _method():
    return Method(lambda *_: {}, needs=("embedding",), teacher_side=("transformation",))


def _params():
    return {"student": {"w": jnp.array([1.0, -2.0])}, "auxiliary": {"transformation": {"w": jnp.array([3.0])}, "adapter": {"w": jnp.array([0.5])}}}


def test_first_step_of_coupled_and_decoupled_decay():
    """After one step Adam's direction is g / (|g| + 1e-8): coupled decay changes g before, decoupled adds to the step."""
    params = _params()
    gradients = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), params)
    for optimiser, expected in (
        ("adam", lambda w: -0.01 * np.sign(1e-3 + 0.1 * w)),
        ("adamw", lambda w: -0.01 * (1.0 + 0.1 * w)),
    ):
        transformation = make_optimiser(_settings(optimiser=optimiser), _method())
        updates, _ = transformation.update(gradients, transformation.init(params), params)
        for update, value in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
            np.testing.assert_allclose(update, expected(np.asarray(value)), rtol=1e-4)


def test_each_side_is_clipped_by_its_own_norm():
    """A huge gradient on the teacher's side changes nothing on the student's side; the adapter belongs to the student."""
    params = _params()
    transformation = make_optimiser(_settings(weight_decay=0.0), _method())

    def two_updates(teacher_gradient):
        gradients = jax.tree.map(lambda x: jnp.full_like(x, 0.1), params)
        gradients["auxiliary"]["transformation"]["w"] = jnp.array([teacher_gradient])
        state = transformation.init(params)
        _, state = transformation.update(jax.tree.map(lambda x: jnp.full_like(x, 0.3), params), state, params)
        return transformation.update(gradients, state, params)[0]

    small, huge = two_updates(0.1), two_updates(1e6)
    np.testing.assert_array_equal(small["student"]["w"], huge["student"]["w"])
    np.testing.assert_array_equal(small["auxiliary"]["adapter"]["w"], huge["auxiliary"]["adapter"]["w"])
    assert small["auxiliary"]["transformation"]["w"] != huge["auxiliary"]["transformation"]["w"]


def test_schedules():
    cosine = learning_rate(_settings(schedule="cosine", warmup_steps=10), 110)
    assert float(cosine(0)) == 0.0
    assert float(cosine(10)) == pytest.approx(0.01)
    assert float(cosine(60)) == pytest.approx(0.005)
    assert float(cosine(110)) == pytest.approx(0.0, abs=1e-9)
    plateau = learning_rate(_settings(schedule="plateau", warmup_steps=4), 100)
    assert [round(float(plateau(step)), 6) for step in (0, 2, 4, 99)] == [0.0, 0.005, 0.01, 0.01]


def test_plateau_reduces_after_patience_plus_one_and_stops_at_patience():
    """The documented rule of torch's ReduceLROnPlateau (patience 2: the third bad evaluation reduces; a gain below 1e-4 is none) and of Lightning's
    EarlyStopping (any gain is one)."""
    settings = _settings(schedule="plateau", plateau_patience=2, plateau_factor=0.2, early_stop_patience=4)
    plateau, scales, stops = Plateau(), [], []
    for loss in (1.0, 0.9, 0.91, 0.90, 0.899_999, 0.95, 0.92, 0.93, 0.94, 0.8):
        plateau = plateau.update(loss, settings)
        scales.append(plateau.scale)
        stops.append(plateau.stops(settings))
    assert scales == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.2, 0.2, 0.2, 0.04, 0.04, 0.04])
    assert stops == [False] * 8 + [True, False]


def test_coupled_decay_clipping_and_plateau_are_those_of_torch():
    """48 steps of torch's Adam with an evaluation every second one (stored values): parameters and learning rates after each."""
    with np.load(Path(__file__).parent.parent / "oracles" / "students_torch.npz") as oracles:
        gradients, losses, parameters, rates = (oracles[f"adam/{name}"] for name in ("gradients", "losses", "parameters", "rates"))
    settings = _settings(optimiser="adam", schedule="plateau", plateau_patience=2, plateau_factor=0.2)
    transformation = make_optimiser(settings, Method(lambda *_: {}))
    params = {"student": {"w": jnp.linspace(-2, 3, 6)}, "auxiliary": {}}
    state, plateau, update = transformation.init(params), Plateau(), jax.jit(transformation.update)
    for step, gradient in enumerate(gradients.astype(np.float32), start=1):
        updates, state = update({"student": {"w": gradient}, "auxiliary": {}}, state, params)
        params = optax.apply_updates(params, optax.tree.scale(plateau.scale, updates))
        if step % 2 == 0:
            plateau = plateau.update(float(losses[step // 2 - 1]), settings)
            np.testing.assert_allclose(params["student"]["w"], parameters[step // 2 - 1], rtol=1e-4, atol=1e-5)
            assert settings.learning_rate * plateau.scale == pytest.approx(rates[step // 2 - 1])
    assert len(set(rates)) > 3
