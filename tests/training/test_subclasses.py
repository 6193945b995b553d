"""Pseudo-class targets of every method, on digits with a trained teacher: what they are, and that they are found again or refused."""

import numpy as np
import pytest

from jaxkd import methods
from jaxkd.data.views import base_ids
from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.lelp.artefact import load_subspaces
from jaxkd.training.subclasses import subclass_targets
from tests.small import digits_config


@pytest.fixture(scope="module")
def targets(digits_inputs, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    made = {method: subclass_targets(digits_config(method=method), digits_inputs, cache) for method in methods.PSEUDO_CLASS}
    return made, cache


@pytest.mark.parametrize("method", methods.PSEUDO_CLASS)
def test_targets_are_probabilities_of_each_class_for_every_example(targets, digits_inputs, method):
    table = targets[0][method]
    ids = [example for split in digits_inputs.dataset.splits.values() for example in split]
    probs = table.gather(ids)
    assert probs.shape == (len(ids), 2, digits_config().lelp.subclasses)
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=1e-5)


def test_methods_without_subclasses_have_no_targets(digits_inputs, tmp_path):
    assert subclass_targets(digits_config(method="kd"), digits_inputs, tmp_path) is None


def test_oracle_knows_the_digit(targets, digits_inputs):
    dataset = digits_inputs.dataset
    ids = dataset.splits["test"]
    probs, fine, classes = targets[0]["oracle"].gather(ids), dataset.fine_labels(ids), dataset.labels(ids).argmax(axis=1)
    own = probs[np.arange(len(ids)), classes]
    assert (own.max(axis=1) == 1).all()
    for digit in np.unique(fine):
        assert len(np.unique(own[fine == digit].argmax(axis=1))) == 1


def test_permuted_has_the_targets_of_lelp_in_another_order(targets, digits_inputs):
    train = base_ids(digits_inputs.dataset.splits["train"])
    plain, permuted = (targets[0][method].gather(train) for method in ("lelp", "permuted"))
    assert not np.array_equal(plain, permuted)
    np.testing.assert_array_equal(np.sort(plain.reshape(len(train), -1), axis=0), np.sort(permuted.reshape(len(train), -1), axis=0))


def test_directions_are_in_the_null_space_of_the_teachers_classifier(targets, digits_inputs):
    folders = {method: next((targets[1] / "subclasses").glob(f"{method}-*")) for method in ("lelp", "random_directions")}
    for folder in folders.values():
        subspaces, identity = load_subspaces(folder / "subspaces")
        read = np.einsum("dc,kds->kcs", digits_inputs.classifier.kernel, subspaces.directions)
        assert np.abs(read).max() < 1e-4 * np.abs(digits_inputs.classifier.kernel).max()
        assert identity["embeddings"] == digits_inputs.store.identity


def test_found_again_and_refused_if_altered(targets, digits_inputs):
    made, cache = targets
    again = subclass_targets(digits_config(), digits_inputs, cache)
    np.testing.assert_array_equal(again.values, made["lelp"].values)
    file = next((cache / "subclasses").glob("lelp-*")) / "probs.npy"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ArtefactError, match="was altered after it was written: remove it"):
        subclass_targets(digits_config(), digits_inputs, cache)
    file.write_bytes(data)


def test_more_subclasses_than_the_null_space_has(digits_inputs, tmp_path):
    config = digits_config()
    config.lelp.subclasses = digits_inputs.store.dim
    with pytest.raises(ConfigError, match="directions are asked for"):
        subclass_targets(config, digits_inputs, tmp_path)


def test_fewer_subclasses_than_the_oracle_needs(digits_inputs, tmp_path):
    config = digits_config(method="oracle")
    config.lelp.subclasses = 3
    with pytest.raises(ConfigError, match="a class has 5 fine labels"):
        subclass_targets(config, digits_inputs, tmp_path)
