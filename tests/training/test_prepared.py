"""What is made of all embeddings of a store before training."""

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxkd.embeddings import blocks
from jaxkd.training.prepared import Classifier, Prepared
from tests.training.few_rows import few_rows

DIM = 64


@pytest.mark.parametrize("block_rows", [7, 4096])
def test_the_teachers_logits_are_those_of_all_embeddings_at_once(tmp_path, monkeypatch, block_rows):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", block_rows)
    prepared = few_rows(tmp_path, "multiclass")
    assert prepared.store is not None and prepared.classifier is not None
    prepared = prepared._replace(classifier=prepared.classifier._replace(bias=np.float32([1, -2, 3])))
    logits, ids = prepared.teacher_logits(), list(prepared.store.ids)
    assert logits is not None and logits.values.dtype == np.float32
    expected = prepared.store.gather(ids)[:, 0].astype(np.float64) @ prepared.classifier.kernel + [1, -2, 3]
    np.testing.assert_allclose(logits.gather(ids), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(logits.gather(ids[50:52]), logits.values[50:52])


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_log_odds_are_those_of_the_known_labels(tmp_path, task):
    prepared = few_rows(tmp_path, task)
    ids = prepared.dataset.splits["train"]
    labels, mask = prepared.dataset.labels(ids), prepared.dataset.label_mask(ids)
    assert 0 < mask.mean() <= 1
    expected = []
    for label in range(labels.shape[1]):
        known = labels[mask[:, label], label]
        if task == "multiclass":
            expected.append(np.log((1 + known.sum()) / (labels.shape[1] + mask.all(axis=1).sum())))
        else:
            share = (1 + known.sum()) / (2 + len(known))
            expected.append(np.log(share / (1 - share)))
    log_odds = prepared.log_odds()
    assert log_odds.dtype == np.float32
    np.testing.assert_allclose(log_odds, expected, rtol=1e-5)


def test_they_take_the_memory_of_logits_and_one_block(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 128)
    few, many = (
        SimpleNamespace(
            ids=[str(row) for row in range(count)],
            gather=lambda ids: np.ones((len(ids), 1, DIM), np.float32),
            lengths=lambda ids: np.ones(len(ids), np.int64),
            frames=1,
        )
        for count in (256, 4096)
    )
    classifier = Classifier(np.ones((DIM, 2), np.float32), np.zeros(2, np.float32), "ones")
    peaks = []
    for store in (few, many):
        data: Any = (None, None, store, classifier)
        tracemalloc.start()
        Prepared(*data).teacher_logits()
        peaks.append(tracemalloc.get_traced_memory()[1] - len(store.ids) * 200)  # the table by id
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.3 * len(many.ids) * DIM * 4
