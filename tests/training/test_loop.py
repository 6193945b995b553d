"""The loop: what it reads back from the devices, and when."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from jaxkd.config import default_config
from jaxkd.parallel import Devices
from jaxkd.training.loop import train


class Steps:
    """A step function that counts its calls, and notes after which of them a value of a step was looked at or waited for."""

    def __init__(self):
        self.done, self.looked = 0, []

    def __call__(self, state, batch):
        self.done += 1
        return state._replace(step=OnDevice(self)), {"loss": OnDevice(self), "gradient_norm": OnDevice(self)}

    def look(self):
        if self.done not in self.looked:
            self.looked.append(self.done)


class OnDevice:
    """A scalar in place of one on a device."""

    def __init__(self, steps):
        self._steps = steps

    def __array__(self, dtype=None, copy=None):
        self._steps.look()
        return np.asarray(1.0, np.float32)

    def __float__(self):
        return float(self.__array__())

    def __int__(self):
        return int(self.__array__())

    __index__ = __int__

    def __bool__(self):
        return bool(self.__array__())

    def item(self):
        return float(self.__array__())

    def block_until_ready(self):
        self._steps.look()
        return self


class State(NamedTuple):
    step: Any
    learning_rate_scale: Any


@pytest.mark.parametrize("look", [float, int, bool, np.asarray, np.isfinite, lambda value: value.item(), lambda value: value.block_until_ready()])
def test_a_look_is_seen(look):
    steps = Steps()
    look(steps(State(0, 1.0), None)[1]["loss"])
    assert steps.looked == [1]


def test_nothing_is_read_back_between_logs(tmp_path):
    settings = default_config().training
    settings.update({"steps": 11, "log_every_steps": 4, "eval_every_steps": 6, "schedule": "plateau"})
    loader = SimpleNamespace(batches=lambda start, stop, **how: (None for _ in range(start, stop)), ids=lambda step: [])
    checkpoints = SimpleNamespace(latest_step=lambda: None, save_best=lambda *given: None, save_last=lambda *given: None, wait=lambda: None)
    steps = Steps()
    train(steps, lambda state: {"loss": 1.0, "map": 0.5}, State(0, 1.0), loader, checkpoints, Devices.all(), settings, tmp_path)
    assert steps.done == 11
    assert steps.looked == [4, 6, 8, 11]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 6
