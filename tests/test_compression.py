import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxkd.compression import TRANSFORMATIONS, TeacherTransformation, singular_values
from jaxkd.errors import ConfigError
from jaxkd.losses import distance_correlation_loss

DIGITS = (load_digits().data[:32] / 16).reshape(16, 2, 64).astype(np.float32)


def transformed(kind: str, features: int = 8):
    module = TeacherTransformation(features=features, kind=kind)
    variables = module.init(jax.random.key(0), DIGITS)
    return module, variables


def test_linear_is_one_matrix_applied_to_each_frame():
    module, variables = transformed("linear")
    (kernel,) = jax.tree.leaves(variables)
    assert kernel.shape == (64, 8)
    np.testing.assert_allclose(module.apply(variables, DIGITS), DIGITS @ np.asarray(kernel), rtol=1e-5, atol=1e-6)


def test_mlp_is_zero_at_zero_but_not_linear():
    module, variables = transformed("mlp")
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {"hidden": {"kernel": (64, 8), "bias": (8,)}, "output": {"kernel": (8, 8)}}
    np.testing.assert_array_equal(module.apply(variables, np.zeros((1, 64), np.float32)), np.zeros((1, 8)))
    assert not np.allclose(module.apply(variables, -DIGITS), -module.apply(variables, DIGITS))


def test_identity_has_no_parameters_and_keeps_the_embedding():
    module, variables = transformed("identity", features=64)
    assert jax.tree.leaves(variables) == []
    np.testing.assert_array_equal(module.apply(variables, DIGITS), DIGITS)


def test_start_is_that_of_a_torch_linear_layer():
    kernel = TeacherTransformation(features=512).init(jax.random.key(1), np.zeros((1, 768), np.float32))["params"]["output"]["kernel"]
    bound = 1 / np.sqrt(768)
    assert 0.999 * bound < np.max(np.abs(kernel)) <= bound
    assert np.std(kernel) == pytest.approx(bound / np.sqrt(3), rel=0.01)


@pytest.mark.parametrize("kind", TRANSFORMATIONS)
def test_float16_embeddings_are_computed_in_float32(kind):
    module, variables = transformed(kind, features=64)
    half = DIGITS.astype(np.float16)
    output = module.apply(variables, half)
    assert output.dtype == jnp.float32
    np.testing.assert_array_equal(output, module.apply(variables, half.astype(np.float32)))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_distance_trains_it_unless_its_gradient_is_stopped(kind):
    module, variables = transformed(kind)
    features = np.random.default_rng(0).standard_normal((16, 2, 5)).astype(np.float32)

    @jax.jit
    def gradient_sizes(variables):
        def free(parameters):
            return distance_correlation_loss(features, module.apply(parameters, DIGITS))

        def stopped(parameters):
            return distance_correlation_loss(features, jax.lax.stop_gradient(module.apply(parameters, DIGITS)))

        return [jnp.sum(jnp.square(jax.grad(loss)(variables)["params"]["output"]["kernel"])) for loss in (free, stopped)]

    free, stopped = gradient_sizes(variables)
    assert free > 0
    assert stopped == 0


def test_singular_values_are_those_of_numpy():
    _, variables = transformed("mlp")
    values = singular_values(variables)
    for name, layer in variables["params"].items():
        np.testing.assert_allclose(values[name], np.linalg.svd(layer["kernel"], compute_uv=False), rtol=1e-5)
    assert singular_values(transformed("identity", features=64)[1]) == {}


def test_unknown_kind_and_impossible_width_are_refused():
    with pytest.raises(ConfigError, match=r"'linaer'. Did you mean 'linear'"):
        transformed("linaer")
    with pytest.raises(ConfigError, match=r"embedding, 64, but 8 is asked for"):
        transformed("identity")
