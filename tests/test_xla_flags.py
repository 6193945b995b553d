"""Flags of XLA: which convolutions they leave to a library that uses one core, from the compiled program of a process of its own."""

import os
import subprocess
import sys

import jaxlib.version
import pytest

from jaxkd.xla_flags import convolve_on_all_cores
from tests.small import user_environment

PROGRAM = """
import jax, jax.numpy as jnp
from jaxkd.models.convolution import convolve
from jaxkd.xla_flags import convolve_on_all_cores
{call}
gradients = jax.grad(lambda x, k: convolve(x, k, 1, 1).sum(), argnums=(0, 1))
print(jax.jit(gradients).lower(jnp.ones((2, 5, 5, 32)), jnp.ones((3, 3, 32, 32))).compile().as_text())
"""


@pytest.mark.skipif(jaxlib.version.__version__ != "0.10.2", reason="other versions of jaxlib need no flag")
def test_convolutions_are_not_those_of_the_library_that_uses_one_core():
    def compiled(call):
        command = [sys.executable, "-c", PROGRAM.format(call=call)]
        return subprocess.run(command, env=user_environment(), capture_output=True, text=True, check=True).stdout

    assert "__ynn_fusion" in compiled("")
    assert "__ynn_fusion" not in compiled("convolve_on_all_cores()")


def test_flags_of_the_user_stay(monkeypatch):
    own = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    monkeypatch.setenv("XLA_FLAGS", own)
    convolve_on_all_cores()
    assert os.environ["XLA_FLAGS"] == own


def test_flags_are_added_to_others_once_and_for_the_one_version_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    monkeypatch.setattr(jaxlib.version, "__version__", "0.12.0")
    convolve_on_all_cores()
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false"
    monkeypatch.setattr(jaxlib.version, "__version__", "0.10.2")
    convolve_on_all_cores()
    once = os.environ["XLA_FLAGS"]
    convolve_on_all_cores()
    assert (
        os.environ["XLA_FLAGS"] == once == "--xla_cpu_enable_fast_math=false --xla_cpu_experimental_ynn_fusion_type=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
    )
