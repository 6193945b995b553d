"""Training batches: permutations without a dropped remainder, as a pure function of the step, labelled and unlabelled rows apart."""

import collections
import time

import jax
import numpy as np
import pytest
import scipy.stats

from jaxkd.data.loader import TrainLoader, eval_batches, stream_indices
from jaxkd.errors import ConfigError
from jaxkd.types import TeacherSide


def _loader(dataset, **overrides):
    return TrainLoader(dataset, dataset, TeacherSide(), **{"batch_size": 5, "unlabelled_ratio": 3, "mixup_alpha": 0.3, "seed": 1} | overrides)


def test_each_epoch_of_a_stream_is_a_permutation_whatever_the_batch():
    whole = stream_indices(7, 0, 21, seed=3, stream="labelled")
    for epoch in range(3):
        assert sorted(whole[epoch * 7 : epoch * 7 + 7]) == list(range(7))
    assert not np.array_equal(whole[:7], whole[7:14])
    pieces = [stream_indices(7, start, 3, seed=3, stream="labelled") for start in range(0, 21, 3)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert not np.array_equal(whole, stream_indices(7, 0, 21, seed=4, stream="labelled"))


def test_rows_are_labelled_then_unlabelled_one_to_three(tiny_dataset):
    loader = _loader(tiny_dataset)
    assert loader.rows == 20
    batch = loader.batch(4)
    known = batch.rows.label_mask.any(axis=1)
    assert known.tolist() == [True] * 5 + [False] * 15
    assert batch.partners.label_mask.any(axis=1).tolist() == known.tolist()
    assert batch.rows.inputs.dtype == np.int16
    assert (batch.mixup_weight >= 0.5).all()
    assert (batch.mixup_weight <= 1).all()


def test_mixup_draws_its_weight_from_the_folded_beta_and_its_partner_evenly(tiny_dataset):
    """Of 4,000 rows: `max(w, 1 - w)` with w ~ Beta(0.3, 0.3) has the distribution function 2 F(x) - 1."""
    loader, weights, partners = _loader(tiny_dataset), [], collections.Counter()
    for step in range(200):
        batch = loader.batch(step)
        weights.append(batch.mixup_weight)
        partners.update(row.tobytes() for row in batch.partners.inputs)
    assert scipy.stats.kstest(np.concatenate(weights), lambda x: 2 * scipy.stats.beta(0.3, 0.3).cdf(x) - 1).pvalue > 0.01
    own = [row.tobytes() for row in tiny_dataset.gather(tiny_dataset.splits["train"])]
    known = tiny_dataset.label_mask(tiny_dataset.splits["train"]).any(axis=1)
    for stream in (known, ~known):
        counts = [partners[row] for row, one in zip(own, stream, strict=True) if one]
        assert len(counts) == 24 and scipy.stats.chisquare(counts).pvalue > 0.01


def test_every_labelled_clip_is_seen_equally_often(tiny_dataset):
    loader = _loader(tiny_dataset)
    seen = collections.Counter(name for step in range(24) for name in loader.ids(step)[:5])
    assert len(seen) == 24
    assert set(seen.values()) == {5}


def test_baseline_gets_the_same_labelled_examples(tiny_dataset):
    with_unlabelled, without = _loader(tiny_dataset), _loader(tiny_dataset, unlabelled_ratio=0)
    for step in range(6):
        assert with_unlabelled.ids(step)[:5] == without.ids(step)


def test_batches_from_any_step_equal_those_of_an_uninterrupted_run(tiny_dataset):
    loader = _loader(tiny_dataset)
    late = list(loader.batches(2, 5))
    assert len(late) == 3
    for batch, step in zip(late, range(2, 5), strict=True):
        again = _loader(tiny_dataset).batch(step)
        np.testing.assert_array_equal(batch.rows.inputs, again.rows.inputs)
        np.testing.assert_array_equal(batch.partners.inputs, again.partners.inputs)
        np.testing.assert_array_equal(batch.mixup_weight, again.mixup_weight)


@pytest.mark.parametrize("ahead", [1, 3])
def test_batches_are_placed_ahead_in_order_and_no_further(tiny_dataset, ahead):
    loader, placed = _loader(tiny_dataset), []

    def place(batch):
        placed.append(batch)
        return len(placed) - 1

    for step, number in enumerate(loader.batches(0, 8, ahead=ahead, place=place)):
        assert number == step
        deadline = time.monotonic() + 30
        while len(placed) < min(8, step + 1 + ahead) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(placed) == min(8, step + 1 + ahead)
    for step, batch in enumerate(placed):
        np.testing.assert_array_equal(batch.rows.inputs, _loader(tiny_dataset).batch(step).rows.inputs)


def test_batches_that_nobody_waits_for_are_given_up(tiny_dataset):
    begun = []
    batches = _loader(tiny_dataset).batches(0, 100, ahead=50, place=lambda batch: (begun.append(batch), time.sleep(0.05)))
    next(batches)
    batches.close()
    assert len(begun) <= 4


def test_evaluation_covers_every_example_once_and_pads(tiny_dataset):
    ids = tiny_dataset.splits["valid"]
    batches = list(eval_batches(tiny_dataset, tiny_dataset, TeacherSide(), ids, 6))
    assert {len(batch.where) for _, batch in batches} == {6}
    assert [examples for examples, _ in batches] == [int(batch.where.sum()) for _, batch in batches] == [6, 6, 4]
    rows = np.concatenate([batch.inputs[batch.where] for _, batch in batches])
    np.testing.assert_array_equal(rows, tiny_dataset.gather(ids))


def test_the_rows_of_all_processes_are_the_batch(tiny_dataset):
    whole, ids = _loader(tiny_dataset), tiny_dataset.splits["valid"][:7]
    halves = [slice(0, 10), slice(10, 20)]
    parts = [_loader(tiny_dataset, own_rows=lambda rows, half=half: half) for half in halves]
    assert whole.ids(3) == parts[0].ids(3) == parts[1].ids(3)
    together = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(part.batch(3) for part in parts))
    jax.tree.map(np.testing.assert_array_equal, together, whole.batch(3))
    ((_, padded),) = eval_batches(tiny_dataset, tiny_dataset, TeacherSide(), ids, 20)
    of_each = [next(eval_batches(tiny_dataset, tiny_dataset, TeacherSide(), ids, 20, half)) for half in halves]
    assert [examples for examples, _ in of_each] == [7, 7]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda *leaves: np.concatenate(leaves), *(batch for _, batch in of_each)), padded)


def test_batch_larger_than_the_data_is_refused(tiny_dataset):
    with pytest.raises(ConfigError, match="draws 25 labelled rows, but the training split has 24"):
        _loader(tiny_dataset, batch_size=25)
    with pytest.raises(ConfigError, match="draws 30 unlabelled rows, but the training split has 24"):
        _loader(tiny_dataset, unlabelled_ratio=6)
