"""MiniLM-L6 as a frozen teacher against transformers and sentence-transformers (stored values), and its batching."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxkd.data.fetch import fetch
from jaxkd.data.packages import PACKAGES
from jaxkd.files import sha256_json
from jaxkd.models.bert import BertEncoder, mean_over_tokens
from jaxkd.teachers import sentence_encoder
from jaxkd.teachers.sentence_encoder import load_encoder

ORACLES = np.load(Path(__file__).parent.parent / "oracles" / "bert_transformers.npz")
TEXTS = [str(text) for text in ORACLES["minilm/texts"]]


@pytest.fixture(scope="module")
def archive(cache_dir):
    return fetch(PACKAGES["minilm"], cache_dir)


@pytest.fixture(scope="module")
def encoder(archive):
    return load_encoder(archive)


@pytest.fixture(scope="module")
def teacher(archive):
    return sentence_encoder.build("minilm", embedding="mean", archive=archive)


def test_tokens_agree_with_transformers(encoder):
    rows = encoder.tokenizer.encode(TEXTS[:-1], 512)
    for row, expected in zip(rows, ORACLES["minilm/tokens"], strict=True):
        np.testing.assert_array_equal(row, expected[expected != 0])


def test_hidden_states_agree_with_transformers(encoder):
    tokens = ORACLES["minilm/tokens"]
    hidden, pooled = BertEncoder(encoder.config, pooler=True).apply({"params": encoder.params}, tokens, train=False)
    for number in (0, 3, 6):
        np.testing.assert_allclose(hidden[number][..., ::32], ORACLES[f"minilm/hidden_{number}"], atol=1e-5, err_msg=str(number))
    np.testing.assert_allclose(hidden[6][:, 0], ORACLES["minilm/cls"], atol=1e-5)
    assert pooled is not None


def test_sentences_agree_with_sentence_transformers(teacher):
    before = teacher.tokenizer.truncated
    embedding = teacher.embed(TEXTS)
    assert embedding.shape == (len(TEXTS), 1, 384)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding[:, 0], ORACLES["minilm/sentence"], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=-1), 1, rtol=1e-5)
    assert teacher.tokenizer.truncated == before + 1


def test_first_token(archive):
    embedding = sentence_encoder.build("minilm", embedding="cls", archive=archive).embed(TEXTS[:-1])
    np.testing.assert_allclose(embedding[:, 0], ORACLES["minilm/cls"], atol=1e-5)


@pytest.mark.slow
def test_packed_sentences_have_the_embedding_of_one_sentence_a_row(teacher, encoder):
    texts = [" ".join(text.split()[start : start + size]) for text in TEXTS for start in range(4) for size in (1, 3, 10, 40)]
    rows = encoder.tokenizer.encode(texts, 128)
    tokens = np.zeros((len(rows), 128), np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    alone = jax.jit(lambda params, row: mean_over_tokens(BertEncoder(encoder.config).apply({"params": params}, row, train=False)[0][-1], row))
    means = np.concatenate([alone(encoder.params, row[None]) for row in tokens])
    np.testing.assert_allclose(teacher.embed(texts)[:, 0], means / np.linalg.norm(means, axis=1, keepdims=True), atol=2e-6)


@pytest.mark.slow
def test_a_text_does_not_depend_on_its_neighbours(teacher):
    texts = [" ".join(["film", "good", "bad", "long"][(i + j) % 4] for j in range(i % 60)) for i in range(150)]
    together = teacher.embed(texts)
    order = np.random.default_rng(0).permutation(150)
    np.testing.assert_allclose(teacher.embed([texts[i] for i in order]), together[order], atol=1e-5)
    for i in (0, 59, 149):
        np.testing.assert_allclose(teacher.embed(texts[i : i + 1])[0], together[i], atol=1e-5)
    assert teacher._forward._cache_size() <= 4  # two widths up to 256 tokens, two numbers of rows
    assert teacher.embed([]).shape == (0, 1, 384)


def test_description(teacher, archive):
    assert (teacher.name, teacher.embedding, teacher.dim, teacher.sample_rate, teacher.hop_seconds) == ("minilm", "mean", 384, None, 0.0)
    assert teacher.max_tokens == 256
    assert json.loads(json.dumps(teacher.preprocessing)) == teacher.preprocessing
    assert teacher.parameters == 22_713_216 - 384 * 385
    layer = 30 * (4 * 384 * 384 + 2 * 384 * 1536) + 2 * 30 * 30 * 384
    assert teacher.macs_per_example(30) == 6 * layer + 30 * 384
    assert teacher.macs_per_example(1000) == teacher.macs_per_example(256)
    assert len(teacher.weight_hash) == 64
    assert sha256_json(teacher.preprocessing) == sha256_json(sentence_encoder.build("minilm", embedding="cls", archive=archive).preprocessing)
