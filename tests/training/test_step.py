"""The training step: mixup, randomness, a non-finite loss, learning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from jaxkd.data.transforms import mixup
from jaxkd.errors import NonFiniteLossError
from jaxkd.training.experiment import assemble, fit_normalisation, fixed_projection
from jaxkd.training.loop import _checked_mean
from jaxkd.training.step import train_step
from jaxkd.types import Batch
from tests.small import small_config, text_config


@pytest.fixture(scope="module")
def assembly(small_inputs):
    return assemble(small_config(), small_inputs)


def _rows(labels, mask, value):
    return Batch(np.full((1, 2), value), np.array([labels], np.float32), np.array([mask]), np.full((1, 1, 3), 10.0 * value, np.float32), np.array([True]))


def test_mixup_is_linear_and_mirrored_on_the_embedding():
    one, other = _rows([1, 0, 1], [True, True, False], 1.0), _rows([0, 0, 1], [True, False, False], 3.0)
    mixed = mixup(one, other, np.array([0.75], np.float32), mask="and")
    np.testing.assert_allclose(mixed.inputs, 1.5)
    np.testing.assert_allclose(mixed.embedding, 15.0)
    np.testing.assert_allclose(mixed.labels, [[0.75, 0.0, 1.0]])
    assert mixed.label_mask.tolist() == [[True, False, False]]
    assert mixup(one, other, np.array([0.75], np.float32), mask="or").label_mask.tolist() == [[True, True, False]]


def test_a_step_is_a_pure_function_of_state_and_batch(assembly):
    batch = assembly.devices.shard(assembly.loader.batch(0))
    copies = [jax.tree.map(jnp.copy, assembly.state) for _ in range(2)]
    (first, _), (second, _) = (assembly.train(copy, batch) for copy in copies)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(first.step) == 1


def test_a_step_takes_the_memory_of_the_state_before(assembly):
    before = jax.tree.map(jnp.copy, assembly.state)
    after, _ = assembly.train(before, assembly.devices.shard(assembly.loader.batch(0)))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((before.params, before.optimiser_state)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def test_a_step_that_takes_the_memory_gives_what_one_does_that_copies(text_inputs):
    assembly = assemble(text_config(), text_inputs)
    batch = assembly.devices.shard(assembly.loader.batch(0))
    copied = jax.jit(functools.partial(train_step, assembly.experiment, axis_name=None))(assembly.state, batch)
    taken = assembly.train(jax.tree.map(jnp.copy, assembly.state), batch)
    jax.tree.map(np.testing.assert_array_equal, taken, copied)


def test_normalisation_has_zero_mean_and_unit_spread(small_inputs):
    dataset, store = small_inputs.dataset, small_inputs.store
    ids = dataset.splits["train"]
    normalised = np.asarray(fit_normalisation(store, ids, ["zscore"])(store.gather(ids)))
    np.testing.assert_allclose(normalised.mean(axis=(0, 1)), 0, atol=1e-3)
    spread = normalised.std(axis=(0, 1))
    np.testing.assert_allclose(spread[spread > 0], 1, atol=1e-3)
    plain = store.gather(ids).astype(np.float32)
    np.testing.assert_array_equal(fit_normalisation(store, ids, ["none"])(plain), plain)
    np.testing.assert_array_equal(fit_normalisation(store, ids, ["vggish"])(plain), (plain - 128) / 256)
    np.testing.assert_array_equal(fit_normalisation(store, ids, ["openl3"])(plain), plain - np.float32(2.24))


def test_fixed_projections_are_fitted_on_the_normalised_training_split_or_drawn_by_the_seed(small_inputs):
    config, store, ids = small_config(), small_inputs.store, small_inputs.dataset.splits["train"]
    assert fixed_projection(config, store, ids) is None
    config.compressed.transformation = "pca"
    mean, matrix = fixed_projection(config, store, ids)(5)
    rows = np.asarray(fit_normalisation(store, ids, ["zscore"])(store.gather(ids)), np.float64).reshape(-1, store.dim)
    expected = PCA(5, svd_solver="full").fit(rows)
    np.testing.assert_allclose(np.abs(expected.components_ @ matrix), np.eye(5), atol=1e-5)
    np.testing.assert_allclose(mean, expected.mean_, atol=1e-6)
    config.compressed.transformation = "random"
    first = fixed_projection(config, store, ids)(5)
    config.seed = 1
    assert np.any(first.matrix != fixed_projection(config, store, ids)(5).matrix)
    config.method = "east"
    assert fixed_projection(config, store, ids) is None


def test_learns_a_batch(assembly):
    batch = assembly.devices.shard(assembly.loader.batch(0))
    state, losses = jax.tree.map(jnp.copy, assembly.state), []
    for _ in range(12):
        state, terms = assembly.train(state, batch)
        losses.append({name: float(value) for name, value in terms.items()})
    for name in ("label_loss", "distance", "teacher_loss"):
        assert losses[-1][name] < losses[0][name], name


def test_non_finite_loss_names_step_terms_and_ids(assembly):
    terms = [{"loss": jnp.float32(0.5), "distance": jnp.float32(0.1)}, {"loss": jnp.float32(jnp.nan), "distance": jnp.float32(0.25)}]
    with pytest.raises(NonFiniteLossError) as caught:
        _checked_mean(terms, 8, assembly.loader)
    for part in ("not finite at step 8: ", "loss = nan", "distance = 0.25"):
        assert part in str(caught.value)
    assert ", ".join(assembly.loader.ids(7)) in str(caught.value)


def test_damaged_parameters_stop_the_run(small_inputs, assembly, tmp_path):
    """A NaN in the parameters reaches the loss, and the loop ends with the batch's ids instead of going on."""
    from jaxkd.training.checkpoint import Checkpoints
    from jaxkd.training.loop import train

    broken = assembly.state._replace(params=jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), assembly.state.params))
    checkpoints = Checkpoints(tmp_path / "checkpoints", assembly.state)
    with pytest.raises(NonFiniteLossError, match="not finite at step 1: "):
        train(assembly.train, lambda state: {}, broken, assembly.loader, checkpoints, assembly.devices, small_config().training, tmp_path)
    assert checkpoints.latest_step() is None
    checkpoints.close()
