"""Distance correlation in tiles: value and gradient of whole matrices, in memory that is linear in the rows."""

import functools

import jax
import numpy as np
import pytest

from jaxkd.losses import EAST_EPS, correlation, distance_correlation_loss
from tests.dcor_oracle import dcor

N, P, Q, BLOCK = 44, 5, 7, 16
ORACLES = {False: dcor.distance_correlation_sqr, True: dcor.u_distance_correlation_sqr}
FORMS = pytest.mark.parametrize(("bias_corrected", "eps"), [(False, None), (True, None), (False, EAST_EPS)], ids=["plain", "corrected", "absolute constants"])


def _batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Far from the origin, rows that are equal on both sides and stand in different tiles, rows that do not count in each tile; no whole number of tiles."""
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((N, width)).astype(np.float32) + 3 for width in (P, Q))
    y[:, :P] += x
    x[40], y[40] = x[2], y[2]
    where = ~np.isin(np.arange(N), [0, 4, 17, 33, 43])
    x[~where], y[~where] = 0, 0
    return x, y, where.astype(np.float32)


@functools.cache
def _compiled(bias_corrected: bool, eps: tuple[float, float] | None, tiled: bool):
    settings = {"most_pairs": 0, "block": BLOCK} if tiled else {}
    loss = functools.partial(correlation.correlation, bias_corrected=bias_corrected, eps=eps, **settings)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


@FORMS
def test_tiles_are_whole_matrices(bias_corrected, eps):
    x, y, weights = _batch()
    value, gradients = _compiled(bias_corrected, eps, True)(x, y, weights)
    whole, expected = _compiled(bias_corrected, eps, False)(x, y, weights)
    np.testing.assert_allclose(value, whole, rtol=1e-6)
    for gradient, other in zip(gradients, expected, strict=True):
        assert np.linalg.norm(gradient - other) <= 2e-6 * np.linalg.norm(other)
        assert not np.any(gradient[weights == 0])
    np.testing.assert_allclose(gradients[0][40], gradients[0][2], rtol=1e-4, atol=1e-7)
    rows = weights > 0
    if eps is None:
        assert abs(value - ORACLES[bias_corrected](x[rows].astype(np.float64), y[rows].astype(np.float64))) < 1e-6


@pytest.mark.parametrize("bias_corrected", [False, True], ids=["plain", "corrected"])
@pytest.mark.parametrize("change", [lambda x: x - 3, lambda x: x + 97, lambda x: 1 + 1e-3 * x], ids=["standardised", "shifted", "nearly collapsed"])
def test_float32_is_accurate_in_tiles(change, bias_corrected):
    """Against whole matrices of the same rounded rows in float64."""
    x, y, _ = _batch(3)
    weights = np.ones(N, np.float32)
    x, y = change(x).astype(np.float32), change(y).astype(np.float32)
    value, gradients = _compiled(bias_corrected, None, True)(x, y, weights)
    with jax.enable_x64(True):
        exact, expected = _compiled(bias_corrected, None, False)(*(side.astype(np.float64) for side in (x, y, weights)))
    assert abs(value - float(exact)) < 1e-6
    for gradient, other in zip(gradients, expected, strict=True):
        assert np.linalg.norm(np.asarray(gradient) - np.asarray(other)) < 1e-5 * np.linalg.norm(other)


@FORMS
def test_collapsed_rows_have_value_and_gradient_zero_in_tiles(bias_corrected, eps):
    """Equal rows are nothing but rounding after their mean is taken off."""
    _, y, weights = _batch(1)
    x = np.where(weights[:, None] > 0, np.float32(0.1), 0).repeat(P, axis=1)
    value, gradients = _compiled(bias_corrected, eps, True)(x, y, weights)
    assert abs(value) <= (0 if eps is None else 1e-7)
    assert not np.any(gradients[0])


@pytest.mark.parametrize("bias_corrected", [False, True], ids=["plain", "corrected"])
def test_tiles_of_own_rows_are_whole_matrices(bias_corrected):
    """Four replicas with 11 rows each, in tiles of 6 with one row of padding."""
    x, y, weights = _batch(2)

    def loss(x, y, weights):
        return correlation.correlation(x, y, weights, bias_corrected=bias_corrected, eps=None, axis_name="devices", most_pairs=0, block=6)

    parts = [side.reshape(4, N // 4, *side.shape[1:]) for side in (x, y, weights)]
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1)), axis_name="devices"))(*parts)
    whole, expected = _compiled(bias_corrected, None, False)(x, y, weights)
    np.testing.assert_allclose(values, np.full(4, whole), rtol=1e-6)
    for gradient, other in zip(gradients, expected, strict=True):
        assert np.linalg.norm(gradient.reshape(other.shape) / 4 - other) <= 5e-6 * np.linalg.norm(other)


def _sides(rows: int) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct((rows, width), np.float32) for width in (512, 768)]


def test_tiles_and_mirrored_products_are_for_one_device(monkeypatch):
    """Tiles for more than 4,096 rows. Under jit several devices would compute each tile all of them, and mirrored parts would cross."""

    def program(rows):
        loss = functools.partial(correlation.correlation, weights=np.ones(rows, np.float32), bias_corrected=False, eps=None)
        return str(jax.make_jaxpr(loss)(*_sides(rows)))

    assert "scan" not in program(4096) and program(4096).count("dot_general") > 2
    assert "scan" in program(4097)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert "scan" not in program(4097) and program(4097).count("dot_general") == 2


def test_distances_of_a_constant_embedding_are_made_once_for_all_stages():
    """Of three students' features against one embedding: its Gram matrix is one product of the program."""

    def products(stages):
        def loss(features, embedding):
            return sum(distance_correlation_loss(side, embedding) for side in features)

        features = [np.random.default_rng(stage).standard_normal((64, 8), np.float32) for stage in range(stages)]
        program = jax.jit(jax.value_and_grad(loss)).lower(features, _sides(64)[1]).compile()
        return program.as_text().count(" dot(")

    assert products(3) == 3 * products(1) - 2


def test_8192_rows_take_less_than_100_mb_and_a_constant_side_costs_no_product_of_its_gradient():
    """One matrix of pairs would take 268 MB. Compiled, not run."""
    products = {}
    for argnums in (0, (0, 1)):
        program = jax.jit(jax.value_and_grad(distance_correlation_loss, argnums=argnums)).lower(*_sides(8192)).compile()
        assert program.memory_analysis().temp_size_in_bytes < 100e6
        assert "8192,8192" not in program.as_text()
        products[argnums] = program.as_text().count(" dot(")
    # Of each side: norms; in tiles on and off the diagonal distances, twice; with a gradient one more on the diagonal and two more off it.
    assert products == {0: 2 * (1 + 2 * 2) + 3, (0, 1): 2 * (1 + 2 * 2 + 3)}
