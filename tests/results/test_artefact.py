"""The student alone, as a function of texts."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import students
from jaxkd.config import default_config
from jaxkd.results.artefact import load_predictor
from jaxkd.training.artefact import save_student
from jaxkd.training.inputs import audio_inputs

VOCABULARY, MAX_TOKENS = 64, 20


def saved(folder, **options):
    """The predictor of a student with drawn parameters."""
    network = students.build("bag_of_words_tiny", num_outputs=2, vocabulary=VOCABULARY)
    variables = jax.jit(lambda: network.init(jax.random.key(0), jnp.ones((1, 16), jnp.int32), train=False))()
    options = {"vocabulary": VOCABULARY, **options}
    tokeniser = {"kind": "hashed_words", "vocabulary": VOCABULARY, "max_tokens": MAX_TOKENS}
    config = {"name": "bag_of_words_tiny", "options": options, "task": "multiclass", "classes": ["a", "b"], "outputs_per_label": 1}
    save_student(folder, variables, {**config, "inputs": {"kind": "tokens", "tokeniser": tokeniser}, "fingerprint": "none"})
    return load_predictor(folder)


@pytest.fixture(scope="module")
def predict(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("artefact") / "student")


def test_a_student_computes_in_the_dtype_that_it_was_trained_in(predict, tmp_path):
    texts = ["one two three", "four"]
    low = saved(tmp_path / "student", compute_dtype="bfloat16")(texts)
    assert low.dtype == np.float32
    np.testing.assert_allclose(low, predict(texts), atol=0.01)
    assert np.all(low != predict(texts))


def test_texts_that_are_longer_than_the_student_reads_are_counted_at_each_call(predict):
    words = [f"word{number}" for number in range(30)]
    texts = [" ".join(words[:count]) for count in (1, MAX_TOKENS, MAX_TOKENS + 1, 30)]
    fitting = [" ".join(words[: min(count, MAX_TOKENS)]) for count in (1, MAX_TOKENS, MAX_TOKENS + 1, 30)]
    scores = predict(fitting)  # without a warning, which would be an error
    for _ in range(2):
        with pytest.warns(UserWarning, match="2 of 4 texts are longer than 20 tokens: this student reads the first 20 of each") as caught:
            np.testing.assert_array_equal(predict(texts), scores)
        assert [warning.filename for warning in caught] == [__file__]
    assert not np.allclose(scores[0], scores[3])


def test_no_examples_have_no_scores(predict, tmp_path):
    network = students.build("cp_resnet_tiny", num_outputs=3)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.ones((1, 94, 64)), train=False))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    config = {"name": "cp_resnet_tiny", "options": {}, "task": "multilabel", "classes": ["a", "b", "c"], "outputs_per_label": 1, "fingerprint": "none"}
    inputs = audio_inputs(default_config(), SimpleNamespace(sample_rate=16000, input_shape=(48000,))).settings
    save_student(tmp_path / "student", dict(variables), {**config, "inputs": inputs})
    none = load_predictor(tmp_path / "student")(np.zeros((0, 48000), np.int16))
    assert (none.shape, none.dtype) == ((0, 3), np.float32) and predict([]).shape == (0, 2)
