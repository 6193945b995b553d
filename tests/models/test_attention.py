"""Attention against Flax's, and against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.special import softmax

from jaxkd.models.attention import attention
from jaxkd.models.macs import equations

MASKS = {
    "keys": jnp.arange(12) < jnp.array([12, 5])[:, None, None],
    "blocks": jnp.array([[0] * 5 + [1] * 7, [0] * 2 + [1] * 3 + [2] * 7])[:, :, None] == jnp.array([[0] * 5 + [1] * 7, [0] * 2 + [1] * 3 + [2] * 7])[:, None],
}


@pytest.mark.parametrize("kind", MASKS)
def test_values_and_gradients_are_those_of_flax(kind):
    query, key, value, cotangent = (2 * jax.random.normal(jax.random.key(seed), (2, 12, 4, 8)) for seed in range(4))
    mask = MASKS[kind]

    def outputs_and_gradients(function):
        outputs, vjp = jax.vjp(function, query, key, value)
        return outputs, *vjp(cotangent)

    ours = jax.jit(lambda: outputs_and_gradients(lambda *x: attention(*x, mask)))()
    expected = jax.jit(lambda: outputs_and_gradients(lambda *x: nn.dot_product_attention(*x, mask=mask[:, None])))()
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


def test_extreme_scores_are_finite():
    query = jnp.full((1, 6, 1, 4), 1e4)
    ours, vjp = jax.vjp(lambda q: attention(q, q, q, jnp.arange(6)[None, None] < 3), query)
    np.testing.assert_allclose(ours, query, rtol=1e-6)
    assert np.isfinite(vjp(query)[0]).all()


def test_dropped_weights_are_divided_by_the_sum_of_all():
    query, key, value = (jax.random.normal(jax.random.key(seed), (1, 6, 1, 4)) for seed in range(3))
    kept = np.arange(36).reshape(1, 6, 6) % 3 > 0
    ours = attention(query, key, value, jnp.ones((1, 1, 6), bool), lambda weights: jnp.where(kept, weights, 0))
    weights = softmax(np.einsum("qd,kd->qk", query[0, :, 0], key[0, :, 0]) / 2, axis=-1)
    np.testing.assert_allclose(ours[0, :, 0], (weights * kept[0]) @ value[0, :, 0], rtol=1e-5, atol=1e-6)


def test_products_of_half_precision_are_in_it_and_the_softmax_between_them_in_float32():
    query, key, value = (jax.random.normal(jax.random.key(seed), (1, 64, 2, 16), jnp.bfloat16) for seed in range(3))
    mask = jnp.ones((1, 1, 64), bool)
    dtypes = {"dot_general": set(), "exp": set(), "reduce_max": set(), "reduce_sum": set()}
    for equation in equations(jax.make_jaxpr(attention)(query, key, value, mask).jaxpr):
        dtypes.get(equation.primitive.name, set()).update(str(variable.aval.dtype) for variable in equation.invars)
    assert dtypes == {"dot_general": {"bfloat16"}, "exp": {"float32"}, "reduce_max": {"float32"}, "reduce_sum": {"float32"}}
    ours = attention(query, key, value, mask)
    assert ours.dtype == jnp.bfloat16
    exact = [np.asarray(x, np.float64) for x in (query, key, value)]
    weights = softmax(np.einsum("bqhd,bkhd->bhqk", *exact[:2]) / 4, axis=-1)
    np.testing.assert_allclose(np.asarray(ours, np.float64), np.einsum("bhqk,bkhd->bqhd", weights, exact[2]), atol=2**-6)
