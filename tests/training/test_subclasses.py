"""Pseudo-class targets of every method, on texts with a trained teacher: what they are, and that they are found again or refused."""

import copy
import shutil

import numpy as np
import pytest

from jaxkd import methods
from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.lelp.artefact import load_subspaces
from jaxkd.training.subclasses import subclass_notes, subclass_targets
from tests.small import text_config


def _config(method="lelp"):
    config = text_config(method=method)
    config.lelp.subclasses = 10
    return config


@pytest.fixture(scope="module")
def targets(text_inputs, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    made = {method: subclass_targets(_config(method), text_inputs, cache) for method in methods.PSEUDO_CLASS}
    return made, cache


@pytest.mark.parametrize("method", methods.PSEUDO_CLASS)
def test_targets_are_probabilities_of_each_class_for_every_example(targets, text_inputs, method):
    table = targets[0][method]
    ids = [example for split in text_inputs.dataset.splits.values() for example in split]
    probs = table.gather(ids)
    assert probs.shape == (len(ids), 2, 10)
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=1e-5)


def test_methods_without_subclasses_have_no_targets(text_inputs, tmp_path):
    assert subclass_targets(text_config(method="kd"), text_inputs, tmp_path) is None


def test_oracle_knows_the_hidden_group(targets, text_inputs):
    dataset = text_inputs.dataset
    ids = dataset.splits["test"]
    probs, fine, classes = targets[0]["oracle"].gather(ids), dataset.fine_labels(ids), dataset.labels(ids).argmax(axis=1)
    own = probs[np.arange(len(ids)), classes]
    assert (own.max(axis=1) == 1).all()
    for group in np.unique(fine):
        assert len(np.unique(own[fine == group].argmax(axis=1))) == 1


def test_permuted_has_the_targets_of_lelp_in_another_order_within_each_class(targets, text_inputs):
    dataset = text_inputs.dataset
    for split, moved in (("train", True), ("test", False)):
        ids = dataset.splits[split]
        classes = dataset.labels(ids).argmax(axis=1)
        plain, permuted = (targets[0][method].gather(ids) for method in ("lelp", "permuted"))
        assert np.array_equal(plain, permuted) is not moved
        for c in range(2):
            ours, theirs = (np.sort(probs[classes == c].reshape(np.sum(classes == c), -1), axis=0) for probs in (plain, permuted))
            np.testing.assert_array_equal(ours, theirs)


def test_directions_are_in_the_null_space_of_the_teachers_classifier(targets, text_inputs):
    folders = {method: next((targets[1] / "subclasses").glob(f"{method}-*")) for method in ("lelp", "random_directions")}
    for folder in folders.values():
        subspaces, identity = load_subspaces(folder / "subspaces")
        read = np.einsum("dc,kds->kcs", text_inputs.classifier.kernel, subspaces.directions)
        assert np.abs(read).max() < 1e-4 * np.abs(text_inputs.classifier.kernel).max()
        assert identity["embeddings"] == text_inputs.store.identity


def test_found_again_and_refused_if_altered(targets, text_inputs):
    made, cache = targets
    again = subclass_targets(_config(), text_inputs, cache)
    np.testing.assert_array_equal(again.values, made["lelp"].values)
    folder = next((cache / "subclasses").glob("lelp-*"))
    for file, message in (
        (folder / "probs.npy", "was altered after it was written: remove it"),
        (folder / "subspaces" / "subspaces.npz", "does not have the checksum in subspaces.json: it is damaged. Remove the folder"),
        (folder / "subspaces" / "subspaces.json", "subspaces.json"),
    ):
        data = file.read_bytes()
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        with pytest.raises(ArtefactError, match=message):
            subclass_targets(_config(), text_inputs, cache)
        file.write_bytes(data)


def test_moments_that_a_killed_run_left_are_removed(targets, text_inputs):
    _, cache = targets
    left = next((cache / "subclasses").glob("lelp-*")).with_suffix(".part")
    left.mkdir()
    (left / "process-1-of-2").write_bytes(b"moments")
    subclass_targets(_config(), text_inputs, cache)
    assert not left.exists()


def test_subspaces_that_were_removed_are_fitted_anew_as_the_message_says(targets, text_inputs):
    made, cache = targets
    folder = next((cache / "subclasses").glob("lelp-*")) / "subspaces"
    arrays = (folder / "subspaces.npz").read_bytes()
    shutil.rmtree(folder)
    np.testing.assert_array_equal(subclass_targets(_config(), text_inputs, cache).values, made["lelp"].values)
    assert (folder / "subspaces.npz").read_bytes() == arrays


def test_classes_with_too_few_rows_are_told_when_they_are_fitted_and_when_they_are_found(text_inputs, tmp_path):
    """Of n rows there are n - 1 directions."""
    train, config = text_inputs.dataset.splits["train"], _config()
    even = text_inputs.dataset.labels(train)[:, 0] > 0.5
    few = [*np.array(train)[even][:6], *np.array(train)[~even]]
    dataset = copy.copy(text_inputs.dataset)
    dataset.splits = dataset.splits | {"train": few}
    for _ in range(2):
        prepared = text_inputs._replace(dataset=dataset)
        prepared = prepared._replace(targets=subclass_targets(config, prepared, tmp_path))
        notes = subclass_notes(config, prepared, tmp_path)
        assert notes == {"too few rows or too little variance for all subclasses": f"{dataset.classes[0]}: 5 of 10"}


def test_more_subclasses_than_the_null_space_has(text_inputs, tmp_path):
    config = text_config()
    config.lelp.subclasses = text_inputs.store.dim
    with pytest.raises(ConfigError, match="directions are asked for"):
        subclass_targets(config, text_inputs, tmp_path)
