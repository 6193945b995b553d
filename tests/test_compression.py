import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from jaxkd.compression import (
    FIXED,
    TRANSFORMATIONS,
    Projection,
    TeacherTransformation,
    label_share,
    principal_components,
    random_projection,
    singular_values,
)
from jaxkd.errors import ConfigError
from jaxkd.losses import distance_correlation_loss
from tests.dcor_oracle import dcor

DIGITS = (load_digits().data[:32] / 16).reshape(16, 2, 64).astype(np.float32)


def transformed(kind: str, features: int = 8):
    projection = random_projection(features, dim=64, seed=0) if kind in FIXED else None
    module = TeacherTransformation(features=features, kind=kind, projection=projection)
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


def test_linear_norm_leaves_the_direction_alone():
    """Every vector has the length sqrt(features), whatever the size of the matrix: no distance falls by shrinking it."""
    module, variables = transformed("linear_norm")
    compact = module.apply(variables, DIGITS)
    kernel = np.asarray(variables["params"]["output"]["kernel"])
    linear = DIGITS @ kernel
    np.testing.assert_allclose(compact, linear * np.sqrt(8) / np.linalg.norm(linear, axis=-1, keepdims=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(module.apply({"params": {"output": {"kernel": 1e-3 * kernel}}}, DIGITS), compact, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(module.apply(variables, np.zeros((1, 64), np.float32)), np.zeros((1, 8)))


def test_attention_weighs_the_frames_of_an_example():
    module, variables = transformed("attention")
    kernels = {name: np.asarray(layer["kernel"], np.float64) for name, layer in variables["params"].items()}
    assert {name: kernel.shape for name, kernel in kernels.items()} == dict.fromkeys(("query", "key", "output"), (64, 8))
    query, key, value = (DIGITS @ kernels[name] for name in ("query", "key", "output"))
    expected = softmax(np.einsum("btc,bsc->bts", query, key) / np.sqrt(8), axis=-1) @ value
    np.testing.assert_allclose(module.apply(variables, DIGITS), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match="has a single frame: use kind='linear'"):
        module.apply(variables, DIGITS[:, :1])


def test_random_projection_is_drawn_like_a_linear_start_and_has_nothing_to_train():
    projection = random_projection(512, dim=768, seed=3)
    bound = 1 / np.sqrt(768)
    assert 0.999 * bound < np.max(np.abs(projection.matrix)) <= bound
    assert np.std(projection.matrix) == pytest.approx(bound / np.sqrt(3), rel=0.01)
    np.testing.assert_array_equal(projection.matrix, random_projection(512, dim=768, seed=3).matrix)
    assert np.abs(projection.matrix - random_projection(512, dim=768, seed=4).matrix).max() > bound
    module, variables = transformed("random")
    assert jax.tree.leaves(variables) == []
    np.testing.assert_allclose(module.apply(variables, DIGITS), DIGITS @ random_projection(8, dim=64, seed=0).matrix, rtol=1e-5, atol=1e-6)


def test_principal_components_are_those_of_scikit_learn_however_the_rows_are_cut():
    rows = load_digits().data.astype(np.float32)
    fitted = principal_components(lambda: iter(np.split(rows, [5, 700, 1500])))
    expected = PCA(svd_solver="full").fit(rows.astype(np.float64))
    assert len(fitted.variances) == np.linalg.matrix_rank(rows - rows.mean(axis=0)) == 61
    np.testing.assert_allclose(fitted.variances, expected.explained_variance_[:61] * (len(rows) - 1) / len(rows), rtol=1e-9)
    projection = fitted.projection(8)
    module = TeacherTransformation(features=8, kind="pca", projection=projection)
    compact = module.apply({}, rows)
    np.testing.assert_allclose(np.abs(compact), np.abs(expected.transform(rows)[:, :8]), rtol=1e-3, atol=2e-3)
    assert np.all(projection.matrix[np.abs(projection.matrix).argmax(axis=0), np.arange(8)] > 0)
    with pytest.raises(ConfigError, match="have no more than 61 principal components, but 62 are asked for"):
        fitted.projection(62)


def test_label_share_is_the_explained_part_of_the_distance_variance():
    rng = np.random.default_rng(0)
    spherical = rng.standard_normal((60, 6)).astype(np.float32)
    compact = spherical * np.array([3, 2, 1, 1, 1, 1], np.float32)
    kernel = (np.eye(6)[:, :2] @ rng.standard_normal((2, 2))).astype(np.float32)
    share, chance = label_share(compact, kernel, key=jax.random.key(0))
    assert share == pytest.approx(dcor.u_distance_correlation_sqr(compact[:, :2].astype(np.float64), compact.astype(np.float64)) ** 2, rel=1e-5)
    assert share > chance + 0.3
    share, chance = label_share(spherical, kernel, key=jax.random.key(0))
    assert share == pytest.approx(float(chance), abs=0.15)
    np.testing.assert_allclose(label_share(spherical[:, :2], kernel[:2], key=jax.random.key(0)), 1, rtol=1e-5)


def test_a_negative_statistic_explains_nothing():
    compact = (np.random.default_rng(0).standard_normal((60, 6)) * [9, 9, 9, 9, 0.01, 0.01]).astype(np.float32)
    assert dcor.u_distance_correlation_sqr(compact[:, 5:].astype(np.float64), compact.astype(np.float64)) < -0.01
    assert label_share(compact, np.eye(6, dtype=np.float32)[:, 5:], key=jax.random.key(0))[0] == 0


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
    for projection, given in ((None, "none"), (Projection(np.zeros(64), np.zeros((64, 5))), r"\(64, 5\)")):
        with pytest.raises(ConfigError, match=rf"matrix of shape \(64, 8\), but was given {given}"):
            TeacherTransformation(features=8, kind="pca", projection=projection).apply({}, DIGITS)
