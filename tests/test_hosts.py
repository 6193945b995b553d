"""What the errors of a job's processes are taken for."""

import jax
import pytest

from jaxkd.errors import ConfigError
from jaxkd.hosts import is_of_a_lost_process

RESET = "Gloo AllGather failed: [external/gloo/gloo/transport/tcp/pair.cc:538] Read error [10.77.0.2]:1422: Connection reset by peer"


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (ValueError(f"UNKNOWN: {RESET}"), True),
        (jax.errors.JaxRuntimeError(f"INTERNAL: Error dispatching computation: {RESET}"), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes."), False),
        (ValueError("all input arrays must have the same shape"), False),
        (ConfigError("training.steps is 0: at least 1 is needed."), False),
    ],
)
def test_what_a_collective_raises_without_the_other_process_is_known_from_faults_of_its_own(error, lost):
    assert is_of_a_lost_process(error) == lost
    wrapped = OSError("a library's own")
    wrapped.__cause__ = error
    assert is_of_a_lost_process(wrapped) == lost
