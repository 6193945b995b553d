"""The probe on the real embeddings: masks, degenerate labels, what it finds."""

import numpy as np
import pytest

from jaxkd.embeddings.store import mean_embeddings
from jaxkd.training.probe import INVERSE_PENALTIES, fit_probe


@pytest.fixture(scope="module")
def splits(small_inputs):
    dataset, store = small_inputs.dataset, small_inputs.store
    return {split: (mean_embeddings(store, ids), dataset.labels(ids), dataset.label_mask(ids)) for split, ids in dataset.splits.items()}


def test_finds_instruments_better_than_chance(splits):
    probe = fit_probe(splits["train"], splits["valid"])
    assert probe.inverse_penalty in INVERSE_PENALTIES
    for split in ("test", "unseen"):
        labels, scores = splits[split][1], probe.scores(splits[split][0])
        assert scores[labels == 1].mean() > 1.5 * scores[labels == 0].mean()


def test_masked_labels_do_not_count(splits):
    embedding, labels, _ = splits["valid"]
    mask = np.ones(labels.shape, bool)
    mask[::3] = False
    altered = np.where(mask, labels, 1 - labels)
    one, other = (fit_probe((embedding, values, mask), splits["test"]) for values in (labels, altered))
    np.testing.assert_array_equal(one.kernel, other.kernel)
    np.testing.assert_array_equal(one.bias, other.bias)


def test_a_label_without_a_positive_gets_its_prior(splits):
    embedding, labels, mask = splits["valid"]
    labels = labels.copy()
    labels[:, 2] = 0
    probe = fit_probe((embedding, labels, mask), splits["test"])
    assert not probe.kernel[:, 2].any()
    np.testing.assert_allclose(probe.scores(embedding)[:, 2], 0.5 / (len(labels) + 1), rtol=1e-5)


def test_a_dimension_that_hardly_varies_gets_no_large_kernel_where_a_least_std_is_asked_for(splits):
    std = splits["train"][0].std(axis=0)
    varied = std > 0.1 * np.sqrt(np.square(std).mean())

    def with_another(part):
        embedding, labels, mask = part
        return np.concatenate([embedding[:, varied], 1e-6 * labels[:, :1]], axis=1), labels, mask  # it tells the first label

    train, valid = (with_another(splits[split]) for split in ("train", "valid"))
    size = {share: np.abs(fit_probe(train, valid, least_std=share).folded()[0]).max(axis=1) for share in (0.0, 0.1)}
    assert size[0.0][-1] > 1e3 * size[0.0][:-1].max()
    assert size[0.1][-1] < size[0.1][:-1].max()
