"""Networks on tokens and on feature vectors, against scikit-learn, SciPy, Flax and numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate
from scipy.special import erf, softmax
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.neural_network import MLPClassifier

from jaxkd.errors import ConfigError
from jaxkd.models.bag_of_embeddings import BagOfEmbeddings
from jaxkd.models.bag_of_words import BagOfWords, sublinear_frequencies
from jaxkd.models.mlp import MLP
from jaxkd.models.text_cnn import TextCNN
from jaxkd.models.text_transformer import TextTransformer

DESCRIPTIONS = [getattr(datasets, f"load_{name}")().DESCR for name in ("iris", "wine", "breast_cancer")]
VECTORISER = CountVectorizer(token_pattern=r"(?u)\w+")
LINES = [line for text in DESCRIPTIONS for line in text.splitlines() if VECTORISER.build_analyzer()(line)]
LABELS = np.array([label for label, text in enumerate(DESCRIPTIONS) for line in text.splitlines() if VECTORISER.build_analyzer()(line)])
COUNTS = VECTORISER.fit_transform(LINES)
VOCABULARY = 1 + COUNTS.shape[1]


def token_rows(lines, length):
    rows = [[1 + VECTORISER.vocabulary_[word] for word in VECTORISER.build_analyzer()(line)] for line in lines]
    return np.array([row + [0] * (length - len(row)) for row in rows], np.int32)


TOKENS = token_rows(LINES[:20], 24)

NETWORKS = {
    "words": BagOfWords(3, VOCABULARY, 8),
    "bag": BagOfEmbeddings(3, VOCABULARY, 8),
    "deep_bag": BagOfEmbeddings(3, VOCABULARY, 8, hidden=(6, 5)),
    "cnn": TextCNN(3, VOCABULARY, 8, filters=5),
    "transformer": TextTransformer(3, VOCABULARY, 8, layers=2, heads=2, mlp_width=16, positions=64),
}
TAPS = {"words": [8], "bag": [8], "deep_bag": [8, 6, 5], "cnn": [15], "transformer": [8, 8]}
PARAMETERS = {
    "words": VOCABULARY * 8 + 8 + 9 * 3,
    "bag": VOCABULARY * 8 + 8 + 9 * 3,
    "deep_bag": VOCABULARY * 8 + 8 + 9 * 6 + 7 * 5 + 6 * 3,
    "cnn": VOCABULARY * 8 + (3 + 4 + 5) * 8 * 5 + 3 * 5 + 16 * 3,
    "transformer": VOCABULARY * 8 + 64 * 8 + 2 * (3 * 9 * 8 + 8 * 8 + 9 * 16 + 17 * 8 + 4 * 8) + 2 * 8 + 9 * 3,
}


EVERY_NETWORK = pytest.mark.parametrize("name", NETWORKS)


@functools.cache
def variables_of(name):
    """Moved away from the start, where biases are 0 and scales 1, so that none is left unseen."""
    initial = jax.jit(lambda: NETWORKS[name].init(jax.random.key(0), TOKENS, train=False))()
    generator = np.random.default_rng(7)
    return jax.tree.map(lambda leaf: np.asarray(leaf) + generator.normal(0, 0.3, leaf.shape).astype(np.float32), initial)


@functools.cache
def compiled(name):
    return jax.jit(lambda variables, tokens: NETWORKS[name].apply(variables, tokens, train=False))


def outputs_of(name, tokens=TOKENS):
    return compiled(name)(variables_of(name), tokens)


@EVERY_NETWORK
def test_sizes_and_shapes(name):
    assert sum(leaf.size for leaf in jax.tree.leaves(variables_of(name))) == PARAMETERS[name]
    outputs = outputs_of(name)
    assert outputs.logits.shape == (20, 3)
    assert [tap.shape for tap in outputs.taps] == [(20, 1, width) for width in TAPS[name]]
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype(jnp.float32)}


@EVERY_NETWORK
def test_features_are_the_exact_input_of_the_head(name):
    outputs, head = outputs_of(name), variables_of(name)["params"]["head"]
    np.testing.assert_array_equal(outputs.features, outputs.taps[-1])
    np.testing.assert_allclose(outputs.logits, np.asarray(outputs.features[:, 0]) @ head["kernel"] + head["bias"], rtol=1e-5, atol=1e-5)


@EVERY_NETWORK
def test_padding_changes_nothing(name):
    """Outputs and gradients, of a batch whose longest row is without padding."""

    def value(variables, tokens):
        outputs = NETWORKS[name].apply(variables, tokens, train=False)
        return jnp.sum(jnp.sin(outputs.logits)) + sum(jnp.sum(tap**2) for tap in outputs.taps), outputs

    differentiate = jax.jit(jax.value_and_grad(value, has_aux=True))
    tokens = TOKENS[:, : (TOKENS > 0).sum(axis=1).max()]
    (_, short), short_gradient = differentiate(variables_of(name), tokens)
    (_, long), long_gradient = differentiate(variables_of(name), np.pad(tokens, ((0, 0), (0, 30))))
    for ours, theirs in zip(jax.tree.leaves((short, short_gradient)), jax.tree.leaves((long, long_gradient)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 + 1e-5 * np.abs(theirs).max())


@EVERY_NETWORK
def test_rows_do_not_depend_on_each_other(name):
    apart = np.concatenate([outputs_of(name, row[None]).logits for row in TOKENS])
    np.testing.assert_allclose(outputs_of(name).logits, apart, rtol=1e-4, atol=1e-5)


@EVERY_NETWORK
def test_gradients_are_finite_also_of_a_row_of_padding(name):
    tokens = np.concatenate([TOKENS[:3], np.zeros((2, 24), np.int32)])
    differentiate = jax.jit(jax.value_and_grad(lambda variables: jnp.sum(NETWORKS[name].apply(variables, tokens, train=False).logits ** 2)))
    value, gradient = differentiate(variables_of(name))
    assert np.isfinite(value)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all()
        assert np.any(leaf), f"no gradient at {jax.tree_util.keystr(path)}"


@EVERY_NETWORK
def test_an_id_outside_of_the_vocabulary_shows(name):
    assert np.isnan(outputs_of(name, np.full((1, 24), VOCABULARY, np.int32)).logits).all()


@EVERY_NETWORK
def test_dropout_is_of_training_alone(name):
    module, variables = NETWORKS[name].clone(dropout=0.5), variables_of(name)
    train = jax.jit(lambda variables, key: module.apply(variables, TOKENS, train=True, rngs={"dropout": key}))
    np.testing.assert_array_equal(module.apply(variables, TOKENS, train=False).logits, NETWORKS[name].apply(variables, TOKENS, train=True).logits)
    first, again, other = (train(variables, jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.logits, again.logits)
    assert not np.allclose(first.logits, other.logits)
    head = variables["params"]["head"]
    np.testing.assert_allclose(first.logits, np.asarray(first.features[:, 0]) @ head["kernel"] + head["bias"], rtol=1e-5, atol=1e-5)


def test_word_counts_are_scikit_learns_sublinear_frequencies():
    expected = TfidfTransformer(use_idf=False, sublinear_tf=True).fit_transform(COUNTS).toarray()
    ours = sublinear_frequencies(token_rows([*LINES, ""], 64), VOCABULARY)
    np.testing.assert_allclose(ours[:-1, 1:], expected, rtol=1e-6)
    assert not np.any(ours[:, 0])
    assert not np.any(ours[-1])


@pytest.fixture(scope="module")
def scikit_learn_mlps():
    """Networks of one and two hidden layers that scikit-learn trained on word frequencies (rows sum to 1), and the frequencies."""
    frequencies = TfidfTransformer(norm="l1", use_idf=False).fit_transform(COUNTS).toarray()
    trained = {}
    for hidden in ((32,), (16, 8)):
        classifier = MLPClassifier(hidden, max_iter=30, learning_rate_init=0.03, random_state=0)
        with pytest.warns(ConvergenceWarning):
            trained[hidden] = classifier.fit(frequencies, LABELS)
    return frequencies, trained


@pytest.mark.parametrize("hidden", [(32,), (16, 8)])
def test_bag_is_scikit_learns_network_on_word_frequencies(scikit_learn_mlps, hidden):
    frequencies, trained = scikit_learn_mlps
    classifier = trained[hidden]
    layers = [{"kernel": kernel, "bias": bias} for kernel, bias in zip(classifier.coefs_, classifier.intercepts_, strict=True)]
    padding = np.full((1, hidden[0]), 9.0)
    parameters = {
        "embedding": {"embedding": np.concatenate([padding, classifier.coefs_[0]])},
        "bias": classifier.intercepts_[0],
        **{f"hidden{number}": layer for number, layer in enumerate(layers[1:-1], start=1)},
        "head": layers[-1],
    }
    tokens = token_rows(LINES, 64)
    outputs = BagOfEmbeddings(3, VOCABULARY, hidden[0], hidden[1:]).apply({"params": parameters}, tokens, train=False)
    expected = classifier.predict_proba(frequencies)
    np.testing.assert_allclose(softmax(np.asarray(outputs.logits, np.float64), axis=1), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 0.3


@pytest.mark.parametrize("hidden", [(32,), (16, 8)])
def test_mlp_is_scikit_learns(scikit_learn_mlps, hidden):
    frequencies, trained = scikit_learn_mlps
    classifier = trained[hidden]
    names = [f"hidden{number}" for number in range(1, len(hidden) + 1)] + ["head"]
    parameters = {name: {"kernel": k, "bias": b} for name, k, b in zip(names, classifier.coefs_, classifier.intercepts_, strict=True)}
    outputs = MLP(3, hidden).apply({"params": parameters}, frequencies.astype(np.float32), train=False)
    np.testing.assert_allclose(softmax(np.asarray(outputs.logits, np.float64), axis=1), classifier.predict_proba(frequencies), atol=1e-5)
    assert [tap.shape for tap in outputs.taps] == [(len(LINES), 1, size) for size in hidden]


def test_mlp_without_hidden_layers_has_the_inputs_as_features():
    inputs = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    module = MLP(3)
    variables = module.init(jax.random.key(0), inputs, train=False)
    outputs = module.apply(variables, inputs, train=False)
    np.testing.assert_array_equal(outputs.features[:, 0], inputs)
    np.testing.assert_allclose(outputs.logits, inputs @ variables["params"]["head"]["kernel"], rtol=1e-5, atol=1e-6)
    assert set(variables["params"]) == {"head"}
    assert len(outputs.taps) == 1


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_mlp_computes_half_precision_features_in_float32(dtype):
    inputs = jax.random.normal(jax.random.key(0), (5, 7), dtype)
    module = MLP(3, (4,), dropout=0.5)
    variables = module.init(jax.random.key(0), inputs, train=False)
    outputs = module.apply(variables, inputs, train=False)
    np.testing.assert_array_equal(outputs.logits, module.apply(variables, inputs.astype(jnp.float32), train=False).logits)
    assert outputs.logits.dtype == jnp.float32
    drawn = [module.apply(variables, inputs, train=True, rngs={"dropout": jax.random.key(seed)}).logits for seed in range(2)]
    assert not np.allclose(*drawn)


def test_cnn_is_the_largest_correlation_of_each_filter():
    parameters = jax.tree.map(np.float64, variables_of("cnn")["params"])
    features = outputs_of("cnn").features[:, 0]
    expected = []
    for row in TOKENS:
        embedded = parameters["embedding"]["embedding"][row[row > 0]]
        for window in (3, 4, 5):
            kernel, bias = (parameters[f"window{window}"][part] for part in ("kernel", "bias"))
            padded = np.pad(embedded, (((window - 1) // 2, window // 2), (0, 0)))
            values = [correlate(padded, kernel[:, :, out], mode="valid")[:, 0] + bias[out] for out in range(5)]
            expected += [max(value.max(), 0) for value in values]
    np.testing.assert_allclose(features, np.reshape(expected, (20, 15)), rtol=1e-5, atol=1e-5)


def _layer_norm(x, parameters):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * parameters["scale"] + parameters["bias"]


def _dense(x, parameters):
    return x @ parameters["kernel"] + parameters.get("bias", 0)


def test_transformer_is_the_formula():
    """Row by row in float64, without padding. Flax's GELU is the tanh form, within 5e-4 of the exact one that SciPy gives."""
    parameters = jax.tree.map(np.float64, variables_of("transformer")["params"])
    outputs = outputs_of("transformer")
    for place, row in enumerate(TOKENS):
        row = row[row > 0]
        x = parameters["embedding"]["embedding"][row] + parameters["positions"][: len(row)]
        for number in (1, 2):
            layer = parameters[f"layer{number}"]
            y = _layer_norm(x, layer["attention_norm"])
            query, key, value = (np.split(_dense(y, layer[name]), 2, axis=-1) for name in ("query", "key", "value"))
            heads = [softmax(q @ k.T / np.sqrt(4), axis=-1) @ v for q, k, v in zip(query, key, value, strict=True)]
            x = x + _dense(np.concatenate(heads, -1), layer["attention_out"])
            y = _dense(_layer_norm(x, layer["mlp_norm"]), layer["mlp_in"])
            x = x + _dense(y * (1 + erf(y / np.sqrt(2))) / 2, layer["mlp_out"])
            if number == 1:
                np.testing.assert_allclose(outputs.taps[0][place, 0], x.mean(axis=0), atol=5e-3)
        np.testing.assert_allclose(outputs.features[place, 0], _layer_norm(x, parameters["norm"]).mean(axis=0), atol=5e-3)


def test_rows_longer_than_the_positions_are_refused():
    module = NETWORKS["transformer"]
    with pytest.raises(ConfigError, match=r"rows of 65 tokens are longer than the 64 positions .*: lower max_tokens to 64, or build .* positions=65"):
        jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.ones((1, 65), jnp.int32), train=False))
