"""Dropout: its rate, independence of everything around it, and the whole batch's mask on every split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest, chi2, chi2_contingency, kstest

from jaxkd import students
from jaxkd.models.dropout import Dropout


def dropped(rate, shape, seed, axis_name=None):
    return Dropout(rate, axis_name).apply({}, jnp.ones(shape), True, rngs={"dropout": jax.random.key(seed)})


def test_dropout_keeps_its_rate_and_the_mean():
    values = np.asarray(dropped(0.1, (400, 500), 3))
    assert set(np.unique(values)) == {0.0, np.float32(1 / 0.9)}
    np.testing.assert_array_equal(Dropout(0.1).apply({}, jnp.ones((4, 5)), False), 1)
    for axis in (None, 0, 1):
        zeros, size = (values == 0).sum(axis=axis), values.size if axis is None else values.shape[axis]
        assert binomtest(int(np.sum(zeros)), values.size, 0.1).pvalue > 1e-3
        spread = np.sum((np.atleast_1d(zeros) - 0.1 * size) ** 2) / (size * 0.09)
        assert chi2.sf(spread, np.size(zeros)) > 1e-3 and chi2.cdf(spread, np.size(zeros)) > 1e-3


def test_dropout_is_independent_of_neighbours_layers_and_seeds():
    """Joint frequencies of two masks, by the chi-square test of independence; a mask against its own shifts and against those of other seeds."""
    mask = np.asarray(dropped(0.5, (256, 512), 0) == 0)
    others = [mask[:, shift:] for shift in (1, 2, 32, 48, 384)] + [mask[rows:] for rows in (1, 16, 128)]
    others += [np.asarray(dropped(0.5, (256, 512), seed) == 0) for seed in range(1, 20)]
    pvalues = []
    for other in others:
        here = mask[: other.shape[0], : other.shape[1]]
        table = [[np.sum((here == a) & (other == b)) for a in (0, 1)] for b in (0, 1)]
        pvalues.append(chi2_contingency(table).pvalue)
    assert min(pvalues) > 1e-4
    assert kstest(pvalues, "uniform").pvalue > 1e-3


def test_dropout_of_a_split_batch_is_that_of_the_whole():
    whole = dropped(0.5, (8, 3, 5), 1)
    halves = jax.vmap(lambda _: dropped(0.5, (4, 3, 5), 1, "data"), axis_name="data")(jnp.arange(2))
    np.testing.assert_array_equal(halves.reshape(whole.shape), whole)


@pytest.mark.parametrize(("name", "options"), [("mlp", {"dropout": 0.5}), ("bag_of_embeddings", {"dropout": 0.5, "vocabulary": 32, "width": 8})])
def test_students_drop_what_the_whole_batch_drops(name, options):
    rows = jax.random.randint(jax.random.key(0), (6, 5), 1, 32)
    inputs = rows.astype(jnp.float32) if name == "mlp" else rows
    whole, split = (students.build(name, num_outputs=3, axis_name=axis, **options) for axis in (None, "data"))
    variables = whole.init(jax.random.key(1), inputs, train=False)

    def logits(student, rows):
        return student.apply(variables, rows, train=True, rngs={"dropout": jax.random.key(2)}).logits

    expected = logits(whole, inputs)
    halves = jax.vmap(lambda rows: logits(split, rows), axis_name="data")(inputs.reshape(2, 3, 5))
    np.testing.assert_allclose(halves.reshape(6, 3), expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(expected, whole.apply(variables, inputs, train=False).logits)
