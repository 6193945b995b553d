"""Sharding does not change the maths: one step on one device equals the same step split over several, under jit and pmap."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxkd.errors import ConfigError
from jaxkd.parallel import Devices, row_keys

FEW_CLASS_METHODS = ("text:lelp", "text:crd", "text:rkd", "text:subclass_teacher")
METHODS = ("baseline", "east+cosine_distance_correlation", "compressed", "compressed+fitnet", *FEW_CLASS_METHODS, "dropout:baseline", "own:east")
ROOT = Path(__file__).parent.parent


def _run(tmp_path: Path, mode: str, devices: int, methods: tuple[str, ...] = METHODS) -> dict[str, np.ndarray]:
    out = tmp_path / f"{mode}{devices}.npz"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-m", "tests.parallel_gradients", mode, str(out), *methods], cwd=ROOT, env=environment, check=True)
    with np.load(out) as arrays:
        assert int(arrays["devices"]) == devices
        return dict(arrays)


@pytest.mark.slow
def test_gradients_do_not_depend_on_devices_or_wrapper(small_inputs, text_inputs, tmp_path):
    one = _run(tmp_path, "jit", 1)
    for mode, devices, methods in (("jit", 4, METHODS), ("pmap", 4, METHODS), ("pmap", 2, FEW_CLASS_METHODS)):
        several = _run(tmp_path, mode, devices, methods)
        assert several.keys() == {name for name in one if name.startswith((*methods, "devices"))}
        for name, value in several.items():
            if name != "devices":
                expected = one[name]
                apart = np.linalg.norm(value - expected)
                assert apart <= 1e-5 * np.linalg.norm(expected) + 1e-7, f"{mode} on {devices} devices: {name} is {apart:.1e} away"


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
