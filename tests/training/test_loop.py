"""The loop: what it reads back from the devices, and when."""

import json
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from jaxkd import hosts
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


def run(workdir):
    """Eleven steps; also the states that were offered as the best."""
    settings, steps, offered = default_config().training, Steps(), []
    settings.update({"steps": 11, "log_every_steps": 4, "eval_every_steps": 6, "schedule": "plateau"})
    loader = SimpleNamespace(batches=lambda start, stop, **how: (None for _ in range(start, stop)), ids=lambda step: [])
    checkpoints = SimpleNamespace(
        latest_step=lambda: None, save_best=lambda step, state, value: offered.append((step, value)), save_last=lambda *given: None, wait=lambda: None
    )
    train(steps, lambda state: {"loss": 1.0, "map": 0.5}, State(0, 1.0), loader, checkpoints, Devices.all(), settings, workdir)
    return steps, offered


def test_every_process_decides_by_the_metrics_of_process_0(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "gathered", lambda values: np.stack([values - 0.25, values]))
    assert run(tmp_path)[1] == [(6, 0.25), (11, 0.25)]
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["values"] for line in logged if line["split"] == "valid"] == [{"loss": 0.75, "map": 0.25}] * 2


def test_nothing_is_read_back_between_logs(tmp_path):
    steps, offered = run(tmp_path)
    assert steps.done == 11
    assert offered == [(6, 0.5), (11, 0.5)]
    assert steps.looked == [4, 6, 8, 11]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 6


def test_compiling_is_said_once(tmp_path, capsys):
    run(tmp_path)
    assert capsys.readouterr().err.count("compiling the training step\n") == 1
