"""Students that compute in bfloat16: every product does, what is kept stays float32, and the gradient is that of float32 but for rounding."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxkd import students

SHAPES = {"log_mel": (4, 101, 128), "tokens": (4, 12), "features": (4, 24), "image": (4, 16, 16, 3)}
PRODUCTS = ("dot_general", "conv_general_dilated")
DEEPER = ("cp_resnet", "cp_resnet_textbook", "cp_resnet_small", "resnet20", "resnet56", "resnet110", "resnet92_v2", "mobilenet")
"""The same layers as another student, more often."""
TRAINED = ("cp_resnet_tiny", "bag_of_words_tiny", "text_transformer", "mlp")


def build(name, dtype):
    options = {"vocabulary": 50} if name in students._TAKES["tokens"] else {}
    options |= {"positions": 12} if name == "text_transformer" else {}
    student = students.build(name, num_outputs=5, compute_dtype=dtype, **options)
    module = student.module if dtype == "bfloat16" else student
    return student.clone(dropout=0.0) if hasattr(module, "dropout") else student


def inputs_of(name):
    kind, rng = students.inputs_of(name, "audio"), np.random.default_rng(0)
    shape = (4, 391, 96) if name == "mobile_fcn" else SHAPES[kind]
    return jnp.asarray(rng.integers(0, 50, shape, np.int32) if kind == "tokens" else rng.standard_normal(shape, np.float32))


def loss_of(student):
    def loss(params, statistics, inputs):
        outputs, after = student.apply({"params": params, "batch_stats": statistics}, inputs, train=True, mutable=["batch_stats"])
        weight = jnp.cos(jnp.arange(outputs.logits.size)).reshape(outputs.logits.shape)
        return jnp.sum(weight * nn.log_softmax(outputs.logits)) + jnp.mean(jnp.square(outputs.features)), (outputs, after.get("batch_stats", {}))

    return loss


def products(jaxpr):
    """The dtypes that go into each product, those of inner functions too."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in PRODUCTS:
            found.append({str(variable.aval.dtype) for variable in equation.invars})
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr)):
            if isinstance(part, ClosedJaxpr):
                part = part.jaxpr
            found += products(part) if isinstance(part, Jaxpr) else []
    return found


@pytest.mark.parametrize("name", [name for name in students.STUDENTS if name not in DEEPER])
def test_every_product_is_of_bfloat16_and_what_is_kept_is_float32(name):
    student, inputs = build(name, "bfloat16"), inputs_of(name)
    variables = jax.eval_shape(lambda: student.init(jax.random.key(0), inputs, train=False))
    gradient = jax.grad(loss_of(student), has_aux=True)
    arguments = variables["params"], variables.get("batch_stats", {}), inputs
    found = products(jax.make_jaxpr(gradient)(*arguments).jaxpr)
    assert found
    assert all(dtypes == {"bfloat16"} for dtypes in found)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((variables, jax.eval_shape(gradient, *arguments))))


def apart(one, other):
    one, other = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_results_and_gradient_are_those_of_float32_but_for_rounding(name):
    """The gradient is at most twice as far away as that of float32 at rounded parameters and inputs, where activations cross kinks too (and 0.05)."""
    inputs = inputs_of(name)
    exact, low = build(name, "float32"), build(name, "bfloat16")
    variables = jax.jit(lambda: exact.init(jax.random.key(0), inputs, train=False))()
    params, statistics = variables["params"], variables.get("batch_stats", {})
    params = jax.tree.map(lambda x: x + 0.05 * np.random.default_rng(x.size).standard_normal(x.shape, np.float32), params)
    gradient, ours = (jax.jit(jax.grad(loss_of(student), has_aux=True)) for student in (exact, low))
    expected, (outputs, after) = gradient(params, statistics, inputs)
    rounded, _ = gradient(*jax.tree.map(lambda x: _rounded(x) if x.dtype == jnp.float32 else x, (params, statistics, inputs)))
    found, (own_outputs, own_after) = ours(params, statistics, inputs)
    assert 1e-5 < apart(own_outputs, outputs) < 0.02
    assert apart(found, expected) < 2 * apart(rounded, expected) + 0.05
    if statistics:
        assert apart(own_after, after) < 0.01


def _rounded(x):
    return x.astype(jnp.bfloat16).astype(jnp.float32)
