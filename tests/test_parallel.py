"""Sharding does not change the maths: one step on one device equals the same step split over several, under jit and pmap, in one process and in two."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxkd import methods
from jaxkd.errors import ConfigError
from jaxkd.parallel import Devices, row_keys
from tests.jobs import free_port
from tests.losses_as_methods import LOSSES
from tests.parallel_gradients import CORRECTED, HALF

BETWEEN_ROWS = (*methods.BETWEEN_ROWS, f"{CORRECTED}distance_correlation", f"{CORRECTED}cosine_distance_correlation")
ALL = (
    *("dropout:baseline", "own:east", "image:kd", "text:subclass_teacher"),
    *(f"text:{name}" for name in (*methods.METHODS, *LOSSES)),
    *(f"frames:compressed+{distance}" for distance in ("distance_correlation", "l2", "cosine")),
    *(f"frames:east+{distance}" for distance in (*BETWEEN_ROWS, "fitnet")),
    *("frames:kd", "frames:lelp", "frames:outputs_only"),
    *("digits:dist", "digits:standardised_kd", "digits:lelp"),
)
CONVOLUTIONS = ("baseline", "compressed", "augmented:compressed", "image:east")
"""Of students that take long to compile."""
OF_GLOBAL_BATCH = "text:of_global_batch"
"""A method of one's own that knows of no axis: under jit it is right all the same."""
HALVES = (f"{HALF}text:compressed", f"{HALF}frames:compressed+distance_correlation")

Cells = dict[str, dict[str, list[int]]]
"""What is computed -> wrapper -> devices of each process. "sharded": jit, with parameters and optimiser state split over the devices."""
Computed = dict[str, dict[str, np.ndarray]]
"""NAME/WRAPPER/DEVICES -> arrays by name; NAME/WRAPPER/drawn -> the parameters that a training starts from."""
DEVICES = 8
EVERY_LAYOUT = "JAXKD_TEST_EVERY_LAYOUT" in os.environ
"""Whether each of ALL and CONVOLUTIONS is computed by both wrappers on every number of devices, in one process and in two. Else in turn: in one process by
pmap, and every other by jit, where a loss has the same collectives, on one number above 1; and every fifth in two processes by one wrapper on one number, where
the program is that of as many devices of one process."""


def _of_one_process(place: int) -> dict[str, list[int]]:
    if EVERY_LAYOUT:
        return {"jit": [2, 4, 8], "pmap": [1, 2, 4, 8]}
    return {"pmap": [(4, 2, 8)[place % 3]]} | ({} if place % 2 else {"jit": [(8, 4, 2)[place % 3]]})


def _of_two_processes(place: int) -> dict[str, list[int]]:
    if EVERY_LAYOUT:
        return {"jit": [1, 2, 4], "pmap": [1, 2, 4]}
    return {("jit", "pmap")[place % 2]: [(2, 4, 1)[place % 3]]}


CELLS: dict[int, Cells] = {
    1: {
        **{name: _of_one_process(place) for place, name in enumerate(ALL)},
        **{name: _of_one_process(place) if EVERY_LAYOUT else {"jit": [8], "pmap": [4]} for place, name in enumerate(CONVOLUTIONS)},
        **{name: {"jit": [2], "pmap": [4]} for name in HALVES},
        OF_GLOBAL_BATCH: {"jit": [4]},
    },
    2: {
        **{name: _of_two_processes(place) for place, name in enumerate((*ALL, *CONVOLUTIONS) if EVERY_LAYOUT else ALL[::5])},
        "text:crd": _of_two_processes(ALL.index("text:crd")) | {"sharded": [2]},
        "compressed": (_of_two_processes(0) if EVERY_LAYOUT else {"jit": [2], "pmap": [2]}) | {"sharded": [2]},
    },
}
"""By the number of processes, which have DEVICES together; what is computed on fewer is computed on the first ones of each."""
FLOOR = {"text:dist": 3e-6, "text:standardised_kd": 1e-6}
"""Absolute tolerance where it is not 1e-7: both degenerate with two classes, and what is left of some gradients is the rounding of a difference of equals."""
HALF_TOLERANCE = 8 * 2**-8
"""The same for what is computed in bfloat16, which rounds by up to 2^-8: a row is rounded alike wherever it lies, but each device its part of a sum over
rows, and the sum of 4 parts at each of 3 additions; that is 4 times, of parts that together may be twice the sum."""
QUICKLY = "--xla_cpu_use_fusion_emitters=false"
"""Flag of XLA: kernels from its older emitters, which compile in half the time."""
ROOT = Path(__file__).parent.parent


def _computed(folder: Path, cells: Cells, *, processes: int, devices: int) -> Computed:
    """What a job of `processes` with `devices` each computes."""
    out, port = folder / "computed.npz", free_port()
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {QUICKLY}"}
    command = [sys.executable, "-m", "tests.parallel_gradients", str(out), json.dumps(cells)]
    jobs = [{"JAXKD_TEST_JOB": f"127.0.0.1:{port},{processes},{process}"} if processes > 1 else {} for process in range(processes)]
    started = [subprocess.Popen(command, cwd=ROOT, env=environment | job) for job in jobs]
    assert [process.wait(3600) for process in started] == [0] * processes
    by_cell: Computed = {}
    with np.load(out) as arrays:
        for key, value in arrays.items():
            cell, _, what = key.rpartition("/")
            by_cell.setdefault(cell, {})[what] = value
    return by_cell


@pytest.fixture(scope="module")
def on_one_device(small_inputs, text_inputs, tmp_path_factory) -> Computed:
    cells = {name: {"jit": [1]} for name in (*ALL, *CONVOLUTIONS, *HALVES, OF_GLOBAL_BATCH)}
    return _computed(tmp_path_factory.mktemp("one"), cells, processes=1, devices=1)


@pytest.fixture(scope="module")
def computed(small_inputs, text_inputs, tmp_path_factory) -> Callable[[int], Computed]:
    """What so many processes compute."""

    @functools.cache
    def by(processes: int) -> Computed:
        return _computed(tmp_path_factory.mktemp("several"), CELLS[processes], processes=processes, devices=DEVICES // processes)

    return by


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "name", "wrapper", "each"),
    [
        pytest.param(processes, name, wrapper, each, id=f"{name}-{wrapper}-{processes}x{each}")
        for processes, cells in CELLS.items()
        for name, numbers in cells.items()
        for wrapper, of_each in numbers.items()
        for each in of_each
    ],
)
def test_gradients_do_not_depend_on_devices_processes_or_wrapper(computed, on_one_device, processes, name, wrapper, each):
    several, one = computed(processes)[f"{name}/{wrapper}/{each}"], on_one_device[f"{name}/jit/1"]
    devices = processes * each
    assert several["devices"] == devices
    assert (several["kept"] <= 1.05 / devices) if wrapper == "sharded" else (several["kept"] == 1)
    assert several.keys() == one.keys()
    tolerance = HALF_TOLERANCE if name.startswith(HALF) else 1e-5
    for what in several.keys() - {"devices", "kept"}:
        apart = np.linalg.norm(several[what] - one[what])
        assert apart <= tolerance * np.linalg.norm(one[what]) + FLOOR.get(name, 1e-7), f"{what} is {apart:.1e} away"


@pytest.mark.slow
@pytest.mark.parametrize("processes", CELLS)
def test_drawn_parameters_do_not_depend_on_devices_or_processes(computed, on_one_device, processes):
    drawn = [cell for cell in computed(processes) if cell.endswith("/drawn")]
    assert {cell.split("/")[0] for cell in drawn} == CELLS[processes].keys()
    for cell in drawn:
        name, wrapper, _ = cell.split("/")
        several, one = computed(processes)[cell], on_one_device[f"{name}/jit/drawn"]
        assert (several["kept"] <= 1.05 / DEVICES) if wrapper == "sharded" else (several["kept"] == 1)
        assert several.keys() == one.keys()
        for what in several.keys() - {"kept"}:
            np.testing.assert_array_equal(several[what], one[what], err_msg=f"{cell} {what}")


@pytest.mark.slow
def test_halves_are_computed_in_bfloat16(on_one_device):
    for name in HALVES:
        half, whole = (on_one_device[f"{each}/jit/1"]["terms['gradient_norm']"] for each in (name, name.removeprefix(HALF)))
        assert 1e-5 < abs(half / whole - 1) < HALF_TOLERANCE


def test_indivisible_batch_names_sizes_that_fit():
    class Three:
        mesh = type("Mesh", (), {"size": 3})

    with pytest.raises(ConfigError, match=r"config.training.batch_size is 32: a batch of 32 rows does not split over 3 devices; 30 and 33 would"):
        Devices.require_divisible(Three(), 32, "training.batch_size")
    with pytest.raises(ConfigError, match=r"a batch of 8 rows does not split over 3 devices; 3 would"):
        Devices.require_divisible(Three(), 2, "training.batch_size", rows_each=4)
    Devices.require_divisible(Three(), 2, "training.batch_size", rows_each=6)


def test_row_keys_are_those_of_the_global_batch():
    key = jax.random.key(3)
    whole = jax.random.key_data(row_keys(key, 6, None))
    halves = jax.vmap(lambda _: jax.random.key_data(row_keys(key, 3, "data")), axis_name="data")(np.zeros(2))
    np.testing.assert_array_equal(halves.reshape(6, -1), whole)
    assert len(np.unique(whole, axis=0)) == 6
