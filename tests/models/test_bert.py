"""BERT and ALBERT against transformers (stored values on small random weights, published parameter counts), and the classifier's contract."""

import dataclasses
import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

from jaxkd.errors import ConfigError, DataError
from jaxkd.models import bert
from jaxkd.models.bert import BertConfig, BertEncoder, SentenceClassifier, mean_over_tokens
from jaxkd.models.dropout import Dropout
from jaxkd.models.macs import count_macs
from jaxkd.teachers.huggingface import convert, parse_config

ORACLES = np.load(Path(__file__).parent.parent / "oracles" / "bert_transformers.npz")
PARAMETERS = json.loads(str(ORACLES["parameters"]))
SMALL = BertConfig(50, 16, 2, 4, 24, max_position_embeddings=12)


def stored_tensors(model):
    prefix = f"{model}/weights/"
    return {name.removeprefix(prefix): ORACLES[name].astype(np.float32) for name in ORACLES.files if name.startswith(prefix)}


@pytest.fixture(scope="module", params=["bert", "albert"])
def stored(request):
    config = parse_config(json.loads(str(ORACLES[f"{request.param}/config"])))
    return request.param, config, stored_tensors(request.param)


def init(network, tokens):
    return network.init(jax.random.key(0), tokens, train=False)


def tokens_of(lengths, width, vocabulary=50, seed=0):
    tokens = np.random.default_rng(seed).integers(1, vocabulary, (len(lengths), width)).astype(np.int32)
    return np.where(np.arange(width) < np.array(lengths)[:, None], tokens, 0)


def test_hidden_states_agree_with_transformers(stored):
    model, config, tensors = stored
    tokens = ORACLES[f"{model}/tokens"]
    hidden, _ = BertEncoder(config).apply({"params": convert(tensors, config)}, tokens, train=False)
    assert len(hidden) == config.num_hidden_layers + 1
    for number, states in enumerate(hidden):
        np.testing.assert_allclose(states, ORACLES[f"{model}/hidden_{number}"], rtol=1e-5, atol=1e-5, err_msg=str(number))


def test_hidden_states_of_packed_rows_agree_with_transformers(stored):
    """The four rows of the oracle, of 16, 9, 5 and 2 tokens, in three: each has the states of its own row, whatever stands beside it. A fourth is empty."""
    model, config, tensors = stored
    rows = [row[row > 0] for row in ORACLES[f"{model}/tokens"]]
    layout = [(0,), (3, 1), (2,)]
    tokens, lengths = np.full((4, 16), 7, np.int32), np.zeros((4, 4), np.int32)
    for number, texts in enumerate(layout):
        joined = np.concatenate([rows[text] for text in texts])
        tokens[number, : len(joined)] = joined
        lengths[number, : len(texts)] = [len(rows[text]) for text in texts]
    hidden, _ = BertEncoder(config).apply({"params": convert(tensors, config)}, tokens, lengths, train=False)
    for number, states in enumerate(hidden):
        expected = ORACLES[f"{model}/hidden_{number}"]
        assert np.isfinite(states).all()
        for row, texts in zip(states, layout, strict=False):
            together = np.concatenate([expected[text, : len(rows[text])] for text in texts])
            np.testing.assert_allclose(row[: len(together)], together, rtol=1e-5, atol=1e-5, err_msg=str(number))


def test_classifier_agrees_with_transformers(stored):
    model, config, tensors = stored
    network = SentenceClassifier(config, 3, pooling="pooler")
    tokens = ORACLES[f"{model}/tokens"]
    params = {"encoder": convert(tensors, config), "head": {"kernel": tensors["classifier.weight"].T, "bias": tensors["classifier.bias"]}}
    np.testing.assert_allclose(network.apply({"params": params}, tokens, train=False).logits, ORACLES[f"{model}/logits"], rtol=1e-5, atol=1e-5)


def test_gelu_is_that_of_scipy():
    x = np.linspace(-12, 12, 4001)
    values, vjp = jax.vjp(bert.gelu, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(values, x * ndtr(x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(vjp(jnp.ones(4001))[0], ndtr(x) + x * norm.pdf(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_sizes(name):
    stored_config, count = PARAMETERS[name]
    network = BertEncoder(parse_config(stored_config), pooler=True)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.ones((1, 4), jnp.int32), train=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_albert_sizes_are_those_of_the_paper():
    """Table 1 of arXiv 1909.11942, in millions."""
    paper = {"bert-base": 108, "bert-large": 334, "albert-base": 12, "albert-large": 18, "albert-xlarge": 60, "albert-xxlarge": 235}
    for name, millions in paper.items():
        assert PARAMETERS[name][1] == pytest.approx(millions * 1e6, rel=0.06), name


def test_operations_by_hand():
    tokens = jax.ShapeDtypeStruct((1, 10), jnp.int32)
    shapes = jax.eval_shape(lambda: BertEncoder(SMALL).init(jax.random.key(0), jnp.ones((1, 10), jnp.int32), train=False))
    layer = 10 * (4 * 16 * 16 + 2 * 16 * 24) + 2 * 10 * 10 * 16
    assert count_macs(lambda v, x: BertEncoder(SMALL).apply(v, x, train=False)[0], shapes, tokens) == 2 * layer


@pytest.mark.parametrize("pooling", bert.POOLINGS)
def test_outputs_of_the_classifier(pooling):
    network = SentenceClassifier(SMALL, 3, pooling=pooling)
    tokens = tokens_of([9, 4, 1], 9)
    params = init(network, tokens)["params"]
    for train in (False, True):
        outputs = network.apply({"params": params}, tokens, train=train, rngs={"dropout": jax.random.key(1)})
        assert outputs.logits.shape == (3, 3)
        assert [tap.shape for tap in outputs.taps] == [(3, 1, 16)] * 2
        np.testing.assert_array_equal(outputs.taps[-1], outputs.features)
        expected = np.asarray(outputs.features[:, 0], np.float64) @ params["head"]["kernel"] + params["head"]["bias"]
        np.testing.assert_allclose(outputs.logits, expected, rtol=1e-5, atol=1e-7)
    assert ("pooler" in params["encoder"]) == (pooling == "pooler")


@pytest.mark.slow
@pytest.mark.parametrize("pooling", bert.POOLINGS)
def test_padding_and_neighbours_change_nothing(pooling):
    network = SentenceClassifier(SMALL, 3, pooling=pooling)
    tokens = tokens_of([5, 9, 3, 0], 9)
    variables = init(network, tokens)
    together = network.apply(variables, tokens, train=False)
    alone = network.apply(variables, tokens[:1, :5], train=False)
    np.testing.assert_allclose(together.features[:1], alone.features, rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda v: network.apply(v, tokens, train=False).logits.sum())(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((together, gradient)))


def test_mean_over_tokens():
    hidden = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    tokens = np.array([[7, 8, 0, 0], [7, 8, 9, 9], [0, 0, 0, 0]], np.int32)
    expected = [hidden[0, :2].mean(axis=0), hidden[1].mean(axis=0), np.zeros(5)]
    np.testing.assert_allclose(mean_over_tokens(hidden, tokens), expected, rtol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_no_two_dropouts_have_the_same_mask(shared):
    config = dataclasses.replace(SMALL, shared_layers=shared, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    network = SentenceClassifier(config, 3)
    tokens = tokens_of([9, 9, 9], 9)
    masks = []

    def record(call, args, kwargs, context):
        outputs = call(*args, **kwargs)
        if isinstance(context.module, Dropout) and outputs.ndim > 2:
            masks.append(np.packbits(np.asarray(outputs).ravel()[:432] == 0).tobytes())
        return outputs

    variables = init(network, tokens)
    with nn.intercept_methods(record):
        network.apply(variables, tokens, train=True, rngs={"dropout": jax.random.key(1)})
    assert len(set(masks)) == len(masks) == 1 + 3 * config.num_hidden_layers


def test_dropout_repeats_with_the_key():
    network = SentenceClassifier(SMALL, 3)
    tokens = tokens_of([9, 4, 1], 9)
    variables = init(network, tokens)
    first, again, other = (network.apply(variables, tokens, train=True, rngs={"dropout": jax.random.key(seed)}).logits for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("network", "width", "error", "message"),
    [
        (BertEncoder(SMALL), 13, DataError, "13 tokens are longer than the encoder's 12 positions"),
        (BertEncoder(BertConfig(50, 16, 2, 5, 24)), 4, ConfigError, "num_attention_heads is 5, but must divide hidden_size 16"),
        (BertEncoder(BertConfig(50, 16, 2, 4, 24, hidden_act="swish")), 4, ConfigError, "hidden_act is 'swish', but must be one of gelu, gelu_new, relu"),
        (SentenceClassifier(SMALL, 3, pooling="max"), 4, ConfigError, "pooling is 'max', but must be one of mean, cls, pooler"),
    ],
)
def test_bad_input(network, width, error, message):
    with pytest.raises(error, match=message):
        network.init(jax.random.key(0), tokens_of([2], width), train=False)
