"""Distance correlation where each replica has its own rows of the matrices of pairs: the value and the gradient of the whole batch on one device."""

import functools
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from jaxkd.errors import ConfigError
from jaxkd.losses import EAST_EPS, distance_correlation_loss
from tests.dcor_oracle import dcor

N, P, Q = 24, 5, 7
ORACLES = {False: dcor.distance_correlation_sqr, True: dcor.u_distance_correlation_sqr}

both_statistics = pytest.mark.parametrize("bias_corrected", [False, True], ids=["plain", "corrected"])


def _batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two frames, far from the origin; two rows equal on both sides; masked rows that are not finite, a different number of them on each device."""
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((N, 2, width)).astype(np.float32) + 3 for width in (P, Q))
    y[..., :P] += x
    x[20], y[20] = x[2], y[2]
    where = ~np.isin(np.arange(N), [1, 4, 5, 23])
    x[~where], y[~where] = np.nan, np.inf
    return x, y, where


@functools.cache
def _compiled(replicas: int | None, bias_corrected: bool, eps: tuple[float, float] | None = None):
    """(value, gradients of both sides) of the batch: on one device, or the values of all replicas and the mean over them that the step takes."""
    options = {"bias_corrected": bias_corrected, "eps": eps}
    if replicas is None:
        return jax.jit(jax.value_and_grad(lambda x, y, where: distance_correlation_loss(x, y, where=where, **options), argnums=(0, 1)))

    def loss(x, y, where):
        return distance_correlation_loss(x, y, where=where, axis_name="devices", rows="own", **options)

    each = jax.vmap(jax.value_and_grad(loss, argnums=(0, 1)), axis_name="devices")

    def of_batch(*batch):
        values, gradients = each(*(side.reshape(replicas, N // replicas, *side.shape[1:]) for side in batch))
        return values, [gradient.reshape(N, *gradient.shape[2:]) / replicas for gradient in gradients]

    return jax.jit(of_batch)


def _assert_equal(split, whole) -> None:
    np.testing.assert_allclose(split[0], np.broadcast_to(whole[0], split[0].shape), rtol=1e-6, atol=1e-6)
    for gradient, expected in zip(split[1], whole[1], strict=True):
        assert np.linalg.norm(np.subtract(gradient, expected)) <= 1e-5 * np.linalg.norm(expected)


@both_statistics
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_own_rows_are_the_loss_of_the_batch(replicas, bias_corrected):
    x, y, where = _batch()
    split, whole = _compiled(replicas, bias_corrected)(x, y, where), _compiled(None, bias_corrected)(x, y, where)
    _assert_equal(split, whole)
    assert all(np.linalg.norm(gradient) > 1e-3 for gradient in split[1])
    oracle = ORACLES[bias_corrected]
    frames = [oracle(*(side[where, frame].astype(np.float64) for side in (x, y))) for frame in range(2)]
    np.testing.assert_allclose(split[0], np.full(replicas, 1 - np.mean(frames)), atol=1e-6)


@both_statistics
def test_guards_are_those_of_one_device(bias_corrected):
    """A constant side; one row too few; no row: the value of one device, and no gradient."""
    x, y, where = _batch(1)
    fewest = 4 if bias_corrected else 2
    few = where & (np.cumsum(where) < fewest)
    own = _compiled(4, bias_corrected)
    for sides, rows, expected in (((np.full_like(x, 0.1), y), where, 1), ((x, y), few, 0), ((x, y), np.zeros(N, bool), 0)):
        values, gradients = own(*sides, rows)
        np.testing.assert_array_equal(values, np.full(4, expected, np.float32))
        assert not np.any(gradients[0])
        assert not np.any(gradients[1])
    enough = where & (np.cumsum(where) <= fewest + 1)
    _assert_equal(own(x, y, enough), _compiled(None, bias_corrected)(x, y, enough))


def test_absolute_constants_reach_own_rows():
    x, y, where = _batch(2)
    near = 1e-3 * x, 1e-3 * y, where
    _assert_equal(_compiled(2, False, EAST_EPS)(*near), _compiled(None, False, EAST_EPS)(*near))


def _equations(jaxpr) -> Iterator:
    for equation in jaxpr.eqns:
        yield equation
        for parameter in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")):
            if hasattr(parameter, "eqns") or hasattr(parameter, "jaxpr"):
                yield from _equations(getattr(parameter, "jaxpr", parameter))


def _sizes(rows: str, n: int, replicas: int) -> tuple[list[int], list[int]]:
    """Entries of what crosses the axis, and of all arrays, in the loss and its gradient."""
    x, y = np.ones((n // replicas, P), np.float32), np.ones((n // replicas, Q), np.float32)
    loss = functools.partial(distance_correlation_loss, axis_name="devices", rows=rows)
    traced = jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1)), axis_env=[("devices", replicas)])(x, y)
    crossing, everything = [], []
    for equation in _equations(traced.jaxpr):
        sizes = [variable.aval.size for variable in equation.outvars]
        everything += sizes
        axes = (equation.params.get("axes") or (), equation.params.get("axis_name") or ())
        crossing += sizes if "devices" in jax.tree.leaves(axes) else []
    return sorted(size for size in crossing if size > 1), everything


def test_nothing_quadratic_crosses_the_axis_and_no_device_has_a_whole_matrix():
    """Both sides and the weights cross once, then norms and row means of both; the rest are scalars: three sums, there and back."""
    n, replicas = 64, 4
    crossing, everything = _sizes("own", n, replicas)
    assert crossing == [3, 3, *[n] * 5, P * n, Q * n]
    assert max(everything) == n * n // replicas
    assert max(_sizes("gathered", n, replicas)[1]) >= n * n


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rows": "mine"}, "unknown rows 'mine'.*gathered, own"), ({"rows": "own", "gather": "local"}, "rows is 'own'.*gather is 'local'")],
)
def test_bad_rows_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        distance_correlation_loss(np.eye(4), np.eye(4), **options)
