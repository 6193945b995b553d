"""The probes on splits that training never heard: folds by group, no row scored by a probe that saw its group, and the case with a training split."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from jaxkd import config as configs
from jaxkd.data.dataset import Split, write_dataset
from jaxkd.data.other import in_our_classes
from jaxkd.files import sha256_json
from jaxkd.metrics import multilabel_metrics
from jaxkd.results.examples import Examples
from jaxkd.results.probes import FOLDS, fit_on, fits, probe_scores, probed_examples
from jaxkd.training.probe import fit_probe

ROWS, GROUPS = 60, 12


class Store(NamedTuple):
    """Vectors as the embeddings of a teacher with one frame."""

    vectors: dict[str, np.ndarray]
    widths: tuple[int, ...] = (5,)

    def gather(self, ids):
        return np.stack([self.vectors[name] for name in ids])[:, None]

    def lengths(self, ids):
        return np.ones(len(ids), np.int64)


class Vectors(NamedTuple):
    """What the probes read of prepared data."""

    dataset: Any
    vectors: dict[str, np.ndarray]

    def embedding(self):
        return Store(self.vectors)


def make(path, *, rows=ROWS, groups=GROUPS, seed=0) -> Vectors:
    """Prepared data of two classes, whose vectors in `vectors` tell the classes; rows are excerpts of `groups` scores."""
    rng = np.random.default_rng(seed)
    splits, records, vectors = {}, {}, {}
    for split, count in {"train": 40, "valid": 20, "test": 20, "unseen": rows}.items():
        ids = [f"{split}/{row}" for row in range(count)]
        labels = (rng.random((count, 2)) < 0.4).astype(np.float32)
        splits[split] = Split(ids, np.ones((count, 4), np.int16), labels, rng.random((count, 2)) < 0.9)
        records[split] = {name: {"score": f"s{row % groups}"} for row, name in enumerate(ids)}
        found = np.concatenate([2 * labels, np.zeros((count, 3))], axis=1) + rng.normal(size=(count, 5))
        vectors |= dict(zip(ids, found.astype(np.float32), strict=True))
    fields = {"name": "small", "fingerprint": sha256_json(seed), "modality": "audio", "task": "multilabel", "notes": {}, "licence": "", "sample_rate": 16000}
    return Vectors(write_dataset(path, classes=("a", "b"), splits=splits, records=records, **fields), vectors)


def represent(data, ids):
    return np.stack([data.vectors[name] for name in ids])


@pytest.fixture
def data(tmp_path):
    return make(tmp_path / "data")


def test_no_row_is_scored_by_a_probe_that_saw_its_score(data):
    """Other labels for one score change the scores of other clips and none of its own."""
    unseen = Examples(data, "unseen")
    before = probe_scores(unseen, represent)
    own = np.array([group == "s3" for group in data.dataset.groups(unseen.ids)])
    assert own.sum() == ROWS / GROUPS
    labels = unseen.labels.copy()
    labels[own] = 1 - labels[own]
    data.dataset._arrays["unseen.labels"] = labels
    after = probe_scores(unseen, represent)
    np.testing.assert_array_equal(after[own], before[own])
    assert (after[~own] != before[~own]).any()


def test_finds_what_the_vectors_tell_and_nothing_where_they_tell_nothing(data):
    unseen = Examples(data, "unseen")
    informed = multilabel_metrics(unseen.labels, probe_scores(unseen, represent), unseen.label_mask)["roc_auc"]
    noise = np.random.default_rng(1).normal(size=(ROWS, 40)).astype(np.float32)
    blind = multilabel_metrics(unseen.labels, probe_scores(unseen, lambda data, ids: noise), unseen.label_mask)["roc_auc"]
    assert informed > 0.85
    assert blind < 0.7


def test_with_a_training_split_the_probe_is_fitted_there(data):
    test, dataset = Examples(data, "test"), data.dataset
    train, valid = ((represent(data, ids), dataset.labels(ids), dataset.label_mask(ids)) for ids in (dataset.splits["train"], dataset.splits["valid"]))
    expected = fit_probe(train, valid)
    np.testing.assert_array_equal(probe_scores(test, represent), expected.scores(represent(data, test.ids)))
    assert fit_on(data, represent).inverse_penalty == expected.inverse_penalty


def test_gradient_descent_takes_the_embedding_as_the_methods_do_and_features_as_they_are(data):
    config = configs.default_config()
    assert fits(config, data) == (fit_probe, fit_probe)
    config.evaluation.probe_solver = "sgd"
    on_embedding, on_features = (fit_on(data, represent, fit) for fit in fits(config, data))
    train = represent(data, data.dataset.splits["train"])
    np.testing.assert_allclose(on_embedding.mean, train.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(on_embedding.std, train.std(axis=0), rtol=1e-5)
    assert not on_features.mean.any() and (on_features.std == 1).all()
    unseen = Examples(data, "unseen")
    for fit in fits(config, data):
        assert multilabel_metrics(unseen.labels, probe_scores(unseen, represent, fit), unseen.label_mask)["roc_auc"] > 0.8


def test_another_data_set_is_probed_for_all_its_own_classes(tmp_path):
    """Also for the class "b", which stands for none of ours; labels of the training split are those that the probe is fitted on."""
    theirs = make(tmp_path / "other")
    mapped = theirs._replace(dataset=in_our_classes(theirs.dataset, ("ours", "else", "more"), [("a", "ours")]))
    probed, missing = probed_examples({"unseen_other": Examples(mapped, "test")})
    own = probed["unseen_other_probe"]
    assert not missing and own.data.dataset.classes == ("a", "b") and own.labels.shape == (20, 2)
    np.testing.assert_array_equal(own.labels, theirs.dataset.labels(own.ids))
    np.testing.assert_array_equal(probe_scores(own, represent), fit_on(theirs, represent).scores(represent(theirs, own.ids)))


def test_splits_that_are_too_small_are_named_and_left_out(tmp_path, data):
    examples = {split: Examples(data, split) for split in ("valid", "test", "unseen")}
    probed, missing = probed_examples(examples)
    assert {name: (of.split, of.data is data) for name, of in probed.items()} == {"unseen_probe": ("unseen", True)}
    assert not missing
    few = make(tmp_path / "few", groups=FOLDS - 1)
    probed, missing = probed_examples({"unseen": Examples(few, "unseen")})
    assert not probed and "unseen is too small for 5 folds" in missing["unseen_probe"]
    data.dataset.task = "multiclass"
    assert probed_examples({"unseen": Examples(data, "unseen")}) == ({}, {})
