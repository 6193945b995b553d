"""The named students on text: sizes by hand, options, and that they learn to tell real texts apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import datasets

from jaxkd.data.hashed_words import HashedWords
from jaxkd.errors import ConfigError
from jaxkd.models.macs import count_macs
from jaxkd.students.features import linear, mlp
from jaxkd.students.text import bag_of_embeddings, bag_of_words_tiny, text_cnn, text_transformer

TEXT_STUDENTS = (bag_of_words_tiny, bag_of_embeddings, text_cnn, text_transformer)
FEATURE_STUDENTS = (mlp, linear)


def parameters_of(student, inputs):
    shapes = jax.eval_shape(lambda: student.init(jax.random.key(0), inputs, train=False))
    return shapes, sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (bag_of_words_tiny, 1024 * 32 + 32 + 33 * 2),
        (bag_of_embeddings, 16384 * 64 + 64 + 65 * 64 + 65 * 2),
        (text_cnn, 16384 * 64 + (3 + 4 + 5) * 64 * 128 + 3 * 128 + 385 * 2),
        (text_transformer, 16384 * 64 + 512 * 64 + 2 * (3 * 65 * 64 + 64 * 64 + 65 * 256 + 257 * 64 + 4 * 64) + 2 * 64 + 65 * 2),
    ],
)
def test_sizes(build, expected):
    _, parameters = parameters_of(build(num_outputs=2), jnp.ones((1, 16), jnp.int32))
    assert parameters == expected
    assert f"{expected:,} parameters at 2 outputs" in build.__doc__
    assert build is bag_of_words_tiny or 500_000 <= parameters <= 3_000_000


@pytest.mark.parametrize(("build", "weights"), [(mlp, 384 * 256 + 256 * 256 + 256 * 2), (linear, 384 * 2)])
def test_cost_of_the_feature_students(build, weights):
    student = build(num_outputs=2)
    shapes, _ = parameters_of(student, jnp.ones((1, 384)))
    assert count_macs(lambda v, x: student.apply(v, x, train=False).logits, shapes, jnp.ones((1, 384))) == weights


@pytest.mark.parametrize(
    ("build", "options", "expected"),
    [
        (bag_of_words_tiny, {"vocabulary": 100, "width": 3}, 100 * 3 + 3 + 4 * 5),
        (bag_of_embeddings, {"vocabulary": 100, "width": 3, "hidden": [7, 6]}, 100 * 3 + 3 + 4 * 7 + 8 * 6 + 7 * 5),
        (text_cnn, {"vocabulary": 100, "width": 3, "filters": 4, "windows": [2, 3]}, 100 * 3 + 5 * 3 * 4 + 2 * 4 + 9 * 5),
        (
            text_transformer,
            {"vocabulary": 100, "width": 4, "layers": 1, "heads": 4, "mlp_width": 6, "positions": 20},
            100 * 4 + 20 * 4 + 3 * 5 * 4 + 4 * 4 + 5 * 6 + 7 * 4 + 4 * 4 + 2 * 4 + 5 * 5,
        ),
        (mlp, {"hidden": [7]}, 17 * 7 + 8 * 5),
    ],
)
def test_options(build, options, expected):
    student = build(num_outputs=5, axis_name="devices", dropout=0.1, **options)
    assert student.dropout == 0.1
    hash(student)
    assert parameters_of(student, jnp.ones((1, 16), jnp.float32 if build is mlp else jnp.int32))[1] == expected


def test_width_that_no_head_fits():
    with pytest.raises(ConfigError, match="a width of 64 cannot be divided among 3 heads: choose a multiple of 3"):
        text_transformer(num_outputs=2, heads=3)


def lines_of_descriptions():
    """Lines of three descriptions that come with scikit-learn's data sets, as hashed words, and which description each is from."""
    texts = [getattr(datasets, f"load_{name}")().DESCR for name in ("iris", "wine", "breast_cancer")]
    rows = [(line, label) for label, text in enumerate(texts) for line in text.splitlines() if len(line.split()) > 2]
    encoded = HashedWords(1024).encode([line for line, _ in rows], 24)
    return np.stack([np.pad(row, (0, 24 - len(row))) for row in encoded]), np.array([label for _, label in rows])


def accuracy_after(student, inputs, labels, steps):
    variables = student.init(jax.random.key(0), inputs[:1], train=False)
    optimiser = optax.adam(0.01)

    def loss(variables):
        logits = student.apply(variables, inputs, train=True).logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), jnp.mean(logits.argmax(-1) == labels)

    @jax.jit
    def step(variables, state):
        (_, accuracy), gradient = jax.value_and_grad(loss, has_aux=True)(variables)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(variables, updates), state, accuracy

    state, accuracies = optimiser.init(variables), []
    for _ in range(steps):
        variables, state, accuracy = step(variables, state)
        accuracies.append(float(accuracy))
    return accuracies[0], accuracies[-1]


@pytest.mark.parametrize("build", TEXT_STUDENTS)
def test_text_students_learn(build):
    """The lines are fitted, all but those that are in more than one text."""
    small = {text_cnn: {"width": 16, "filters": 8}, text_transformer: {"width": 16, "layers": 1, "mlp_width": 32}}
    tokens, labels = lines_of_descriptions()
    first, last = accuracy_after(build(num_outputs=3, vocabulary=1024, **small.get(build, {})), tokens, labels, 40)
    assert first < 0.6
    assert last > 0.9


@pytest.mark.parametrize("build", FEATURE_STUDENTS)
def test_feature_students_learn(build):
    features, labels = datasets.load_iris(return_X_y=True)
    features = (features - features.mean(0)) / features.std(0)
    first, last = accuracy_after(build(num_outputs=3), features.astype(np.float32), labels, 500)
    assert first < 0.9
    assert last > 0.95
