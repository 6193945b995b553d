"""Checkpoints: what is kept, and that a damaged one is refused with advice that works."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxkd.errors import ArtefactError, Interrupted
from jaxkd.parallel import Devices
from jaxkd.training import interrupt
from jaxkd.training.checkpoint import Checkpoints
from jaxkd.training.state import TrainState
from tests.jobs import ROOT, free_port
from tests.small import user_environment
from tests.training import checkpoint_job

DAMAGES: dict[str, Callable[[Path, bytes], object]] = {
    "flipped": lambda file, data: file.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]),
    "deleted": lambda file, data: file.unlink(),
}


def _state(step: int) -> TrainState:
    params = {"student": {"w": jnp.full(3, float(step)), "noise": jax.random.normal(jax.random.key(step), (10_000,))}, "auxiliary": {}}
    return Devices.all().replicate(TrainState(jnp.int32(step), params, {}, None, (), jnp.float32(1.0)))


def _saved(path: Path, *offers: tuple[int, float]) -> None:
    checkpoints = Checkpoints(path, _state(0))
    for step, metric in offers:
        checkpoints.save_best(step, _state(step), metric)
        checkpoints.save_last(step, _state(step), {"plateau": {"best": float("inf"), "step": step}})
    checkpoints.wait()
    checkpoints.close()


def _restored(path: Path) -> tuple[TrainState, dict, TrainState]:
    checkpoints = Checkpoints(path, _state(0))
    try:
        return *checkpoints.restore_last(), checkpoints.restore_best()
    finally:
        checkpoints.close()


def _assert_equal(one: TrainState, other: TrainState) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_last_and_best(tmp_path):
    _saved(tmp_path, (1, 0.5), (2, 0.9), (3, 0.9), (4, 0.1))
    state, host, best = _restored(tmp_path)
    _assert_equal(state, _state(4))
    assert host == {"plateau": {"best": float("inf"), "step": 4}}
    _assert_equal(best, _state(2))
    assert sorted(folder.name for folder in (tmp_path / "last").iterdir()) == ["3", "4"]
    assert len(list((tmp_path / "best").iterdir())) == 1


LIES_AS_BEFORE = """
import sys
from pathlib import Path
import jax, numpy as np
from jax.sharding import PartitionSpec
from jaxkd.parallel import DATA_AXIS, Devices
from jaxkd.training.checkpoint import Checkpoints
from jaxkd.training.state import TrainState

devices = Devices.all("jit", "sharded")
params = devices.place_parameters({"split": np.arange(24.0).reshape(3, 8), "whole": np.arange(3.0)})
state = devices.replicate(TrainState(np.int32(1), (), {}, None, (), np.float32(1.0)))._replace(params=params)
assert params["split"].sharding.spec == PartitionSpec(None, DATA_AXIS) and params["whole"].sharding.spec == PartitionSpec()
checkpoints = Checkpoints(Path(sys.argv[1]), state)
checkpoints.save_best(1, state, 0.5)
checkpoints.save_last(1, state, {})
checkpoints.wait()
for restored in (checkpoints.restore_last()[0], checkpoints.restore_best()):
    for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert one.sharding == other.sharding and len(one.addressable_shards) == 4
        np.testing.assert_array_equal(one, other)
checkpoints.close()
"""


@pytest.mark.slow
def test_each_array_lies_as_before(tmp_path):
    environment = user_environment(JAX_NUM_CPU_DEVICES="4", JAX_PLATFORMS="cpu")
    subprocess.run([sys.executable, "-c", LIES_AS_BEFORE, str(tmp_path)], cwd=ROOT, env=environment, check=True)


@pytest.mark.slow
def test_processes_of_a_job_restore_the_same_or_refuse_together(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    commands = [[sys.executable, checkpoint_job.__file__, str(tmp_path), address, str(process)] for process in range(2)]
    processes = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait(300) for process in processes] == [0, 0]
    zero, one = (json.loads((tmp_path / f"{process}.json").read_text()) for process in range(2))
    assert zero == one and zero["bits"] == [0, 1]
    assert zero["late"] == 2 and zero["exchanged"] == ["012", "0123456789abc"]
    newest = "/last/2"
    assert zero["never"].startswith(f"process 1 of the job: checkpoint {tmp_path / 'never-1'}{newest} is not seen here, but by another process")
    assert zero["damaged"].startswith(f"process 1 of the job: checkpoint {tmp_path / 'damaged-1'}{newest} is damaged")
    assert zero["altered"].startswith(
        f"process 1 of the job: checkpoint {tmp_path / 'altered-1'}{newest} is damaged (its values are not those that were saved)"
    )
    assert zero["best damaged"].startswith(f"process 1 of the job: checkpoint {tmp_path / 'best damaged-1'}/best/2 is damaged")


def test_a_signal_while_it_is_read_is_no_damage(tmp_path, monkeypatch):
    """A library may take what is raised in its callbacks for an error of a file."""
    monkeypatch.setattr(interrupt, "_raised", [])
    _saved(tmp_path, (1, 0.5))
    checkpoints, before = Checkpoints(tmp_path, _state(0)), signal.signal(signal.SIGTERM, interrupt.interrupt)
    try:
        for delay in np.random.default_rng(0).uniform(0.002, 0.05, 40):
            interrupt._raised.clear()
            with pytest.raises(Interrupted, match="SIGTERM: finished stages are kept"):
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGTERM)).start()
                while True:
                    checkpoints.restore_last()
    finally:
        signal.signal(signal.SIGTERM, before)
        checkpoints.close()


FILLS_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from jaxkd.errors import ResourceError
from jaxkd.training.checkpoint import Checkpoints
from tests.training.checkpoint_job import state_at

checkpoints = Checkpoints(Path(sys.argv[1]), state_at(0))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoints.save_last(1, state_at(1), {})
    checkpoints.wait()
except ResourceError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_named(tmp_path):
    environment = user_environment(PYTHONPATH=str(ROOT), JAX_PLATFORMS="cpu")
    said = subprocess.run([sys.executable, "-c", FILLS_THE_DISK, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert f"a checkpoint could not be written to {tmp_path / 'last'}" in said.stdout, said.stderr
    assert "free space there, or mend its permissions; the same command goes on from the last saved step" in said.stdout


def test_one_checkpoint_at_a_time_is_written(tmp_path, monkeypatch):
    """In a job, the processes would meet for two of them at one barrier of Orbax, which refuses that."""
    managers, others_writing, save = [], [], ocp.CheckpointManager.save

    def watched(manager: ocp.CheckpointManager, *arguments, **options) -> bool:
        managers.append(manager)
        others_writing.append(any(other.is_saving_in_progress() for other in managers if other is not manager))
        return save(manager, *arguments, **options)

    monkeypatch.setattr(ocp.CheckpointManager, "save", watched)
    _saved(tmp_path, (1, 0.1), (2, 0.2), (3, 0.3))
    assert others_writing == [False] * 6


@pytest.mark.parametrize("folder", ["last", "best"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_any_damaged_file_is_refused_or_harmless(tmp_path, folder, damage):
    _saved(tmp_path, (1, 0.5))
    files = [file for file in (tmp_path / folder).rglob("*") if file.is_file()]
    refused = []
    for file in files:
        data = file.read_bytes()
        DAMAGES[damage](file, data)
        try:
            state, host, best = _restored(tmp_path)
        except ArtefactError as error:
            advice = rf"remove the folder {tmp_path / 'last' / '1'}; the run goes on" if folder == "last" else rf"remove the folder {tmp_path} and train again"
            assert advice in str(error)
            refused.append(file)
        else:
            _assert_equal(state, _state(1))
            _assert_equal(best, _state(1))
            assert host == {"plateau": {"best": float("inf"), "step": 1}}
        file.write_bytes(data)
    values, remembered = max(files, key=lambda file: file.stat().st_size), tmp_path / folder / "1" / "host" / "metadata"
    assert {values, remembered} <= set(refused)
    _assert_equal(_restored(tmp_path)[0], _state(1))


def test_advice_for_the_last_leads_to_the_one_before(tmp_path):
    _saved(tmp_path, (1, 0.5), (2, 0.9))
    for file in (tmp_path / "last" / "2" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ArtefactError, match=r"last/2 is damaged .* remove the folder .*last/2; the run goes on from the one before it"):
        _restored(tmp_path)
    shutil.rmtree(tmp_path / "last" / "2")
    _assert_equal(_restored(tmp_path)[0], _state(1))
    _saved(tmp_path, (2, 0.9), (3, 0.1))
    state, _, best = _restored(tmp_path)
    _assert_equal(state, _state(3))
    _assert_equal(best, _state(2))


def test_advice_for_the_best_leads_to_a_new_start(tmp_path):
    path = tmp_path / "checkpoints"
    _saved(path, (1, 0.9), (2, 0.5))
    shutil.rmtree(next((path / "best").iterdir()))
    with pytest.raises(ArtefactError, match=rf"does not hold the best checkpoint of this run \(metric 0.9\): remove the folder {path} and train again"):
        _restored(path)
    shutil.rmtree(path)
    checkpoints = Checkpoints(path, _state(0))
    assert checkpoints.latest_step() is None
    checkpoints.close()
    _saved(path, (1, 0.9))
    _assert_equal(_restored(path)[2], _state(1))


def test_best_is_on_disk_before_last_is_written(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, _state(0))
    order = []
    monkeypatch.setattr(checkpoints._best, "wait_until_finished", _noted(order, "best waited", checkpoints._best.wait_until_finished))
    monkeypatch.setattr(checkpoints._last, "save", _noted(order, "last saved", checkpoints._last.save))
    checkpoints.save_best(1, _state(1), 0.5)
    order.clear()
    checkpoints.save_last(1, _state(1), {})
    assert order == ["best waited", "last saved"]
    assert (tmp_path / "best" / "1").is_dir()
    checkpoints.close()


def _noted(order: list[str], name: str, function: Callable) -> Callable:
    def noted(*args: object, **kwargs: object) -> object:
        result = function(*args, **kwargs)
        order.append(name)
        return result

    return noted


def test_an_earlier_step_may_better_the_best(tmp_path):
    _saved(tmp_path, (1, 0.3), (2, 0.5), (3, 0.6))
    for step in (2, 3):
        shutil.rmtree(tmp_path / "last" / str(step))
    _saved(tmp_path, (2, 0.7), (3, 0.6))
    state, _, best = _restored(tmp_path)
    _assert_equal(state, _state(3))
    _assert_equal(best, _state(2))


def test_a_donated_state_is_saved_as_it_was(tmp_path):
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path, _state(0))
    state = _state(1)
    checkpoints.save_best(1, state, 0.5)
    checkpoints.save_last(1, state, {})
    for _ in range(20):
        state = step(state)
    checkpoints.wait()
    _assert_equal(checkpoints.restore_last()[0], _state(1))
    _assert_equal(checkpoints.restore_best(), _state(1))
    checkpoints.close()


def test_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, _state(0))
    with pytest.raises(ArtefactError, match="holds no checkpoint: train first"):
        checkpoints.restore_best()
    checkpoints.close()


def test_waiting_for_a_save_is_no_warning_but_all_else_is(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("orbax.checkpoint.checkpoint_manager._WAIT_FOR_PREV_SAVE_WARNING_THRESHOLD_SECS", -1.0)
    heard = logging.StreamHandler()
    logging.getLogger("absl").addHandler(heard)
    try:
        _saved(tmp_path, (1, 0.1), (2, 0.2))
        logging.getLogger("absl").warning("disk full")
    finally:
        logging.getLogger("absl").removeHandler(heard)
    err = capfd.readouterr().err
    assert "disk full" in err
    assert "Waiting for previous save" not in err
