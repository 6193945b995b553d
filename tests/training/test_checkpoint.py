"""Checkpoints: what is kept, and what a damaged one says."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd.errors import ArtefactError
from jaxkd.parallel import Devices
from jaxkd.training.checkpoint import Checkpoints
from jaxkd.training.state import TrainState


def _state(step: int) -> TrainState:
    return Devices.all().replicate(TrainState(jnp.int32(step), {"student": {"w": jnp.full(3, float(step))}, "auxiliary": {}}, {}, (), jnp.float32(1.0)))


def test_last_and_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, _state(0))
    for step, metric in ((1, 0.5), (2, 0.9), (3, 0.9), (4, 0.1)):
        checkpoints.save_best(step, _state(step), metric)
        checkpoints.save_last(step, _state(step), {"plateau": {"best": float("inf"), "step": step}})
    checkpoints.wait()
    checkpoints.close()
    again = Checkpoints(tmp_path, _state(0))
    state, host = again.restore_last()
    assert int(state.step) == again.latest_step() == 4
    assert host == {"plateau": {"best": float("inf"), "step": 4}}
    np.testing.assert_array_equal(again.restore_best().params["student"]["w"], [2.0, 2.0, 2.0])
    again.close()


def test_damaged_checkpoint_says_which(tmp_path):
    checkpoints = Checkpoints(tmp_path, _state(0))
    checkpoints.save_last(1, _state(1), {})
    checkpoints.wait()
    checkpoints.close()
    for file in (tmp_path / "last" / "1" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    again = Checkpoints(tmp_path, _state(0))
    with pytest.raises(ArtefactError, match=r"last/1 is damaged .* remove that folder"):
        again.restore_last()
    again.close()


def test_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, _state(0))
    with pytest.raises(ArtefactError, match="holds no checkpoint: train first"):
        checkpoints.restore_best()
    checkpoints.close()
