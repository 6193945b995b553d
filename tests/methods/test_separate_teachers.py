"""Several teachers with a distance each: the mean of the single distances, and a transformation for each teacher."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from jaxkd import methods
from jaxkd.config import default_config
from jaxkd.errors import ConfigError
from jaxkd.methods.distance import adapt, distance
from jaxkd.methods.method import Context
from jaxkd.types import Batch, StudentOutputs

ROWS, FRAMES, CHANNELS, WIDTHS, LABELS = 8, 3, 4, (4, 6), 2
DIM = sum(WIDTHS)


def config_of(**fields):
    config = default_config()
    config.distance.update({"features_expand": 1, "embedding_expand": 1})
    config.update_from_flattened_dict(fields)
    return ml_collections.FrozenConfigDict(config)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.standard_normal((ROWS, FRAMES, CHANNELS)), jnp.float32)
    embedding = rng.standard_normal((ROWS, FRAMES, DIM)).astype(np.float32)
    labels = (rng.random((ROWS, LABELS)) < 0.5).astype(np.float32)
    outputs = StudentOutputs(jnp.asarray(rng.standard_normal((ROWS, LABELS)), jnp.float32), features, (features,))
    return outputs, Batch(features, labels, np.ones((ROWS, LABELS), bool), embedding, np.ones(ROWS, bool))


@pytest.mark.parametrize("name", ["distance_correlation", "cosine_distance_correlation", "cosine_distance_difference"])
def test_each_teacher_has_a_distance_of_its_own(batch, name):
    outputs, rows = batch
    config = config_of(**{"distance.name": name})
    single = [
        distance(config, adapt(config, outputs, part.shape[-1]), part, rows.where, None) for part in np.split(rows.embedding, np.cumsum(WIDTHS)[:-1], axis=-1)
    ]
    together = distance(config, adapt(config, outputs, DIM, WIDTHS), rows.embedding, rows.where, None, WIDTHS)
    assert float(together) == pytest.approx(float(np.mean(single)), rel=1e-6)
    assert abs(float(together) - float(distance(config, (outputs.features,), rows.embedding, rows.where, None))) > 1e-4


def test_fitnet_weighs_teachers_equally_whatever_their_width(batch):
    outputs, rows = batch
    config = config_of(**{"distance.name": "fitnet"})

    class Adapted(nn.Module):
        @nn.compact
        def __call__(self):
            return adapt(config, outputs, DIM, WIDTHS)

    params = Adapted().init(jax.random.key(0))["params"]
    error = (np.asarray(outputs.features @ params["adapter"]["kernel"]) - rows.embedding) ** 2
    expected = (error[..., : WIDTHS[0]].mean() + error[..., WIDTHS[0] :].mean()) / 2
    value = distance(config, Adapted().apply({"params": params}), rows.embedding, rows.where, None, WIDTHS)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)


def test_distances_of_equal_widths_look_at_each_teacher(batch):
    outputs, _ = batch
    config = config_of(**{"distance.name": "l2"})
    adapt(config, outputs, 2 * CHANNELS, (CHANNELS, CHANNELS))
    with pytest.raises(ConfigError, match="has 4 channels and the embedding 4 and 6 dimensions"):
        adapt(config, outputs, DIM, WIDTHS)


@pytest.mark.parametrize("name", ["distance_correlation", "l2"])
def test_compression_has_a_transformation_for_each_teacher(batch, name):
    outputs, rows = batch
    config = config_of(**{"distance.name": name})
    method = methods.build("compressed", config, Context("multilabel", LABELS, np.zeros(0, np.int32), widths=WIDTHS))
    assert method.teacher_side == ("transformation_0", "transformation_1", "head")
    params = method.auxiliary.init(jax.random.key(1), outputs, rows)["params"]
    kernels = [params[f"transformation_{place}"]["output"]["kernel"] for place in range(2)]
    assert [kernel.shape for kernel in kernels] == [(4, CHANNELS), (6, CHANNELS)]
    assert params["head"]["kernel"].shape == (2 * CHANNELS, LABELS)
    parts = np.split(rows.embedding, [WIDTHS[0]], axis=-1)
    single = [distance(config, (outputs.features,), part @ kernel, rows.where, None) for part, kernel in zip(parts, kernels, strict=True)]
    terms = method.losses(outputs, method.auxiliary.apply({"params": params}, outputs, rows), rows, None)
    assert float(terms["distance"]) == pytest.approx(float(np.mean(single)), rel=1e-5)


def test_the_raw_embedding_has_a_distance_to_each_teacher(batch):
    outputs, rows = batch
    config = config_of()
    context = Context("multilabel", LABELS, np.zeros(0, np.int32))
    losses = {}
    for widths in ((), WIDTHS):
        method = methods.build("east", config, context._replace(widths=widths))
        auxiliary = method.auxiliary.apply({}, outputs, rows)
        losses[widths] = float(method.losses(outputs, auxiliary, rows, None)["distance"])
    assert losses[WIDTHS] == pytest.approx(float(distance(config, (outputs.features,), rows.embedding, rows.where, None, WIDTHS)), rel=1e-6)
    assert losses[WIDTHS] != losses[()]
