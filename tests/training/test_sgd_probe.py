"""The probe by stochastic gradient descent: its step against optax, where it ends against scikit-learn's optimum, masks, scale, stop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from jaxkd.training import sgd_probe
from jaxkd.training.sgd_probe import cross_entropy, fit_sgd_probe, gradients


def draw(task, *, rows=240, seed=0):
    """Vectors of five dimensions and noisy labels of three classes that they tell of, a tenth of them unknown."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 5)).astype(np.float32)
    logits = vectors @ np.random.default_rng(9).normal(size=(5, 3)) + 0.5
    if task == "multilabel":
        labels = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
        return vectors, labels.astype(np.float32), rng.random(labels.shape) < 0.9
    classes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return vectors, np.eye(3, dtype=np.float32)[classes], np.repeat(rng.random((rows, 1)) < 0.9, 3, axis=1)


@pytest.mark.parametrize(("scale", "clipped"), [(0.1, False), (100.0, True)])
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_a_step_is_the_clipped_gradient_of_the_masked_cross_entropy(task, scale, clipped):
    vectors, labels, mask = draw(task, rows=16)
    rows = scale * vectors, labels, mask
    kernel, bias = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32), np.float32([0.1, -0.2, 0.3])

    def loss(params):
        logits = rows[0] @ params[0] + params[1]
        if task == "multilabel":
            return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, labels) * mask) / mask.sum()
        return jnp.sum(optax.softmax_cross_entropy(logits, labels) * mask[:, 0]) / mask[:, 0].sum()

    value, found = jax.value_and_grad(loss)((kernel, bias))
    expected, _ = optax.clip_by_global_norm(1.0).update(found, optax.EmptyState())
    for ours, theirs in zip(gradients(kernel, bias, rows, task), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert (sum(float(jnp.sum(part**2)) for part in found) > 1) == clipped
    assert cross_entropy(rows[0] @ kernel + bias, labels, mask, task) == pytest.approx(float(value), rel=1e-4)


def test_ends_near_the_unpenalised_optimum():
    vectors, labels, mask = draw("multilabel")
    probe = fit_sgd_probe((vectors, labels, mask), (vectors, labels, mask))
    for label, known in enumerate(mask.T):
        optimum = LogisticRegression(C=np.inf).fit(vectors[known], labels[known, label])
        ours, best = (
            average_precision_score(labels[known, label], scores) for scores in (probe.scores(vectors)[known, label], optimum.decision_function(vectors[known]))
        )
        assert ours == pytest.approx(best, abs=0.02)
        direction = probe.kernel[:, label]
        assert direction @ optimum.coef_[0] > 0.97 * np.linalg.norm(direction) * np.linalg.norm(optimum.coef_[0])
    assert probe.inverse_penalty is None


def test_classes_that_exclude_each_other():
    train, valid = draw("multiclass"), draw("multiclass", seed=1)
    probe = fit_sgd_probe(train, valid, task="multiclass")
    scores = probe.scores(valid[0])
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    known = valid[2][:, 0]
    rate = (scores.argmax(axis=1) == valid[1].argmax(axis=1))[known].mean()
    fitted = LogisticRegression(C=np.inf).fit(train[0][train[2][:, 0]], train[1].argmax(axis=1)[train[2][:, 0]])
    assert rate > fitted.score(valid[0][known], valid[1].argmax(axis=1)[known]) - 0.03


def test_unknown_labels_do_not_count_and_the_normalisation_is_part_of_the_probe():
    vectors, labels, mask = draw("multilabel")
    train, valid = (vectors, labels, mask), draw("multilabel", seed=1)
    first = fit_sgd_probe(train, valid)
    other = fit_sgd_probe((vectors, np.where(mask, labels, 1 - labels), mask), valid)
    np.testing.assert_array_equal(first.kernel, other.kernel)
    shifted = fit_sgd_probe((8 * vectors + 2, labels, mask), (8 * valid[0] + 2, *valid[1:]), mean=np.full(5, 2.0, np.float32), std=8.0)
    np.testing.assert_allclose(shifted.scores(8 * valid[0] + 2), first.scores(valid[0]), atol=1e-4)


def test_stops_after_the_passes_without_a_lower_loss_or_at_the_last_step(monkeypatch):
    """With a rate of zero nothing gets better after the first pass: three more passes of 15 batches follow."""
    counted = []
    monkeypatch.setattr(sgd_probe, "gradients", lambda *arguments: counted.append(1) or gradients(*arguments))
    train, valid = draw("multilabel"), draw("multilabel", seed=1)
    fit_sgd_probe(train, valid, learning_rate=0.0)
    known = train[2].any(axis=1).sum()
    assert len(counted) == 4 * -(-known // 16)
    counted.clear()
    monkeypatch.setattr(sgd_probe, "MAX_STEPS", 7)
    fit_sgd_probe(train, valid)
    assert len(counted) == 7
