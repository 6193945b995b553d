"""gather="local": the mean over devices of the loss within the rows of each."""

import functools

import jax
import numpy as np
import pytest

from jaxkd import losses
from jaxkd.errors import ConfigError
from tests.losses.cases import CASES, B

LOCAL = ("distance_correlation", "cosine_distance_correlation", "cosine_distance_difference", "rkd", "pkt", "similarity_preserving", "cka", "dist")
DEVICES = 3


def _parts(devices: int, *sides: np.ndarray) -> list[np.ndarray]:
    return [side.reshape(devices, len(side) // devices, *side.shape[1:]) for side in sides]


@pytest.mark.parametrize("name", [*LOCAL, "subclass_auxiliary"])
def test_local_is_the_mean_over_devices_of_the_loss_of_each(name):
    """Weighted by the rows that count; the gradient, averaged over devices as the step does, is that of this mean."""
    case, where = CASES[name], np.arange(B) >= 2

    def both(x, y, rows):
        local = functools.partial(case.loss, where=rows, axis_name="devices", gather="local")
        return jax.value_and_grad(local)(x, y), jax.value_and_grad(functools.partial(case.loss, where=rows))(x, y)

    (values, gradients), (each, of_each) = jax.jit(jax.vmap(both, axis_name="devices"))(*_parts(DEVICES, case.student, case.teacher, where))
    counts = np.array([2, 4, 4])
    np.testing.assert_allclose(values, np.full(DEVICES, np.average(each, weights=counts)), rtol=1e-5, atol=1e-7)
    share = (counts / counts.sum()).reshape(-1, *[1] * (case.student.ndim))
    assert np.linalg.norm(gradients / DEVICES - share * of_each) <= 1e-5 * np.linalg.norm(share * of_each)
    assert np.ptp(each) > 1e-3 * np.max(np.abs(each))


def test_local_groups_that_fit_the_devices_are_the_global_groups():
    x, y = CASES["distance_correlation"].student, CASES["distance_correlation"].teacher

    def value(gather, group_size):
        loss = functools.partial(losses.distance_correlation_loss, group_size=group_size, axis_name="devices", gather=gather)
        return jax.vmap(loss, axis_name="devices")(*_parts(2, x, y))

    np.testing.assert_allclose(value("local", 3), value("global", 3), rtol=1e-5, atol=1e-7)
    of_halves = losses.distance_correlation_loss(x, y, group_size=6)
    np.testing.assert_allclose(value("local", None), np.full(2, of_halves), rtol=1e-5, atol=1e-7)
    assert abs(of_halves - losses.distance_correlation_loss(x, y)) > 1e-3


def test_an_unknown_gather_is_refused():
    with pytest.raises(ConfigError, match=r"unknown gather 'locl'\. Did you mean 'local'"):
        losses.cka(np.eye(4), np.eye(4), gather="locl")
