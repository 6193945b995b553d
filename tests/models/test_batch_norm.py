"""BatchNorm: flax's own as oracle of what normalises, the unbiased variance of numpy, the whole batch on every split."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxkd.models.batch_norm import BatchNorm


@pytest.fixture
def rows():
    return 3 + 2 * jax.random.normal(jax.random.key(0), (4, 3, 2, 5))


def _variables(rows):
    variables = BatchNorm().init(jax.random.key(1), rows, train=True)
    return jax.tree.map(lambda x: x + jax.random.uniform(jax.random.key(2), x.shape), variables)


def test_outputs_and_gradients_are_those_of_flax(rows):
    variables = _variables(rows)

    def gradients(module, **options):
        def loss(params, x):
            return (module.apply({**variables, "params": params}, x, mutable=["batch_stats"], **options)[0] ** 3).sum()

        return jax.grad(loss, argnums=(0, 1))(variables["params"], rows)

    theirs = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    for ours, expected in zip(jax.tree.leaves(gradients(BatchNorm(), train=True)), jax.tree.leaves(gradients(theirs)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())
    expected = nn.BatchNorm(use_running_average=True, epsilon=1e-5).apply(variables, rows)
    np.testing.assert_allclose(BatchNorm().apply(variables, rows, train=False), expected, rtol=1e-5, atol=1e-5)


def test_running_variance_is_unbiased(rows):
    before = _variables(rows)
    _, after = BatchNorm().apply(before, rows, train=True, mutable=["batch_stats"])
    flat = np.asarray(rows).reshape(-1, 5)
    for name, batch in (("mean", flat.mean(axis=0)), ("var", flat.var(axis=0, ddof=1))):
        np.testing.assert_allclose(after["batch_stats"][name], 0.9 * before["batch_stats"][name] + 0.1 * batch, rtol=1e-5)


def test_statistics_are_those_of_the_whole_batch_on_every_split(rows):
    before = _variables(rows)
    whole, after = BatchNorm().apply(before, rows, train=True, mutable=["batch_stats"])
    split = BatchNorm("data")
    halves, stats = jax.vmap(lambda x: split.apply(before, x, train=True, mutable=["batch_stats"]), axis_name="data")(rows.reshape(2, 2, 3, 2, 5))
    np.testing.assert_allclose(halves.reshape(rows.shape), whole, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda both, expected: np.testing.assert_allclose(both, np.stack([expected] * 2), rtol=1e-5), stats, after)


def test_a_constant_channel_stays_finite():
    rows = jax.numpy.full((4, 2, 2, 3), 7.0)
    outputs, after = BatchNorm().apply(BatchNorm().init(jax.random.key(0), rows, train=True), rows, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(outputs, 0, atol=0.01)
    np.testing.assert_allclose(after["batch_stats"]["var"], 0.9, rtol=1e-5)
