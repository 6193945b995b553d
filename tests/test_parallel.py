"""Sharding does not change the maths: one step on one device equals the same step split over several, under jit and pmap, in one process and in two."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxkd import methods
from jaxkd.errors import ConfigError
from jaxkd.parallel import Devices, row_keys
from tests.jobs import free_port
from tests.parallel_gradients import HALF

HALVES = (f"{HALF}text:compressed", f"{HALF}frames:compressed+distance_correlation")
FEW = ("compressed", "text:crd")
"""For what is another wrapper or another number of what ALL is tested with. "sharded": jit, with parameters and optimiser state split over the devices."""
TWO = (*FEW, "text:lelp", "text:rkd", "text:subclass_distillation", "dropout:baseline", "image:kd")
"""In two processes the program is that of as many devices of one; what may differ is how each kind of batch comes together."""
DISTANCES = ("distance_correlation", "cosine_distance_correlation", "cosine_distance_difference", "fitnet")
ALL = (
    *("baseline", "compressed", "text:lelp", "text:crd", "dropout:baseline", "own:east"),
    *("augmented:compressed", "image:kd", "image:east", "text:east", "text:compressed"),
    *(f"frames:compressed+{distance}" for distance in ("distance_correlation", "l2", "cosine")),
    *(f"frames:east+{distance}" for distance in DISTANCES),
    *(f"text:{name}" for name in methods.METHODS if name not in ("east", "compressed", "lelp", "crd")),
    "text:subclass_teacher",
)
FLOOR = {"text:dist": 3e-6, "text:standardised_kd": 1e-6}
"""Absolute tolerance where it is not 1e-7: both degenerate with two classes, and what is left of some gradients is the rounding of a difference of equals."""
HALF_TOLERANCE = 8 * 2**-8
"""The same for what is computed in bfloat16, which rounds by up to 2^-8: a row is rounded alike wherever it lies, but each device its part of a sum over
rows, and the sum of 4 parts at each of 3 additions; that is 4 times, of parts that together may be twice the sum."""
ROOT = Path(__file__).parent.parent


def _run(folder: Path, mode: str, devices: int, processes: int, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What one step gives on `processes` with `devices` each."""
    out, port = folder / f"{mode}-{devices}-{processes}.npz", free_port()
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.parallel_gradients", mode, str(out), *names]
    jobs = [{"JAXKD_TEST_JOB": f"127.0.0.1:{port},{processes},{process}"} if processes > 1 else {} for process in range(processes)]
    started = [subprocess.Popen(command, cwd=ROOT, env=environment | job) for job in jobs]
    assert [process.wait(900) for process in started] == [0] * processes
    with np.load(out) as arrays:
        assert int(arrays["devices"]) == devices * processes
        return dict(arrays)


@pytest.fixture(scope="module")
def on_one_device(small_inputs, text_inputs, tmp_path_factory) -> dict[str, np.ndarray]:
    return _run(tmp_path_factory.mktemp("one"), "jit", 1, 1, (*ALL, *HALVES))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "devices", "processes", "names"),
    [
        ("jit", 2, 1, (*FEW, *HALVES)),
        ("jit", 8, 1, ALL),
        ("pmap", 4, 1, (*ALL, *HALVES)),
        ("jit", 2, 2, TWO),
        ("pmap", 2, 2, (*FEW, "own:east")),
        ("sharded", 2, 2, FEW),
    ],
)
def test_gradients_do_not_depend_on_devices_processes_or_wrapper(on_one_device, tmp_path, mode, devices, processes, names):
    several = _run(tmp_path, mode, devices, processes, names)
    assert several.keys() == {name for name in on_one_device if name == "devices" or name.partition("/")[0] in names}
    for name, value in several.items():
        if "/kept" in name:
            assert (value <= 1.05 / (devices * processes)) if mode == "sharded" else (value == 1), f"{name}: {value}"
        elif "/drawn" in name:
            np.testing.assert_array_equal(value, on_one_device[name], err_msg=name)
        elif name != "devices":
            expected = on_one_device[name]
            apart, tolerance = np.linalg.norm(value - expected), HALF_TOLERANCE if name.startswith(HALF) else 1e-5
            assert apart <= tolerance * np.linalg.norm(expected) + FLOOR.get(name.partition("/")[0], 1e-7), f"{name} is {apart:.1e} away"


@pytest.mark.slow
def test_halves_are_computed_in_bfloat16(on_one_device):
    for name in HALVES:
        apart = on_one_device[f"{name}/terms/gradient_norm"] / on_one_device[f"{name.removeprefix(HALF)}/terms/gradient_norm"] - 1
        assert 1e-5 < abs(apart) < HALF_TOLERANCE


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
