"""Tokens of the descriptions that come with scikit-learn's data sets: 5 texts by line, blank lines included."""

import itertools
import json
import zlib

import numpy as np
import pytest
from sklearn import datasets
from sklearn.feature_extraction.text import CountVectorizer

from jaxkd.data.dataset import Split, write_dataset
from jaxkd.data.hashed_words import HashedWords
from jaxkd.data.loader import TrainLoader
from jaxkd.data.tokens import TokenView, buckets
from jaxkd.errors import ArtefactError, ConfigError, DataError
from jaxkd.types import TeacherSide

LINES = [line for name in ("iris", "wine", "breast_cancer", "digits", "diabetes") for line in getattr(datasets, f"load_{name}")().DESCR.splitlines()]
PARAGRAPHS = [" ".join(LINES[start : start + size]) for start, size in [(0, 1), (1, 2), (3, 8), (11, 20), (31, 40), (71, 100)]]


def text_dataset(path, texts, *, modality="text", fingerprint="f" * 64):
    """The first four rows are train, the others test."""
    parts = {"train": texts[:4], "test": texts[4:]}
    splits = {}
    for name, rows in parts.items():
        inputs = rows if modality == "text" else np.zeros((len(rows), 2, 2, 1), np.uint8)
        splits[name] = Split([f"{name}/{i:05}" for i in range(len(rows))], inputs, np.ones((len(rows), 1), np.float32), np.ones((len(rows), 1), bool))
    return write_dataset(
        path, name="made", fingerprint=fingerprint, modality=modality, task="multiclass", classes=("a",), splits=splits, notes={}, licence="BSD-3-Clause"
    )


@pytest.fixture
def dataset(tmp_path):
    return text_dataset(tmp_path / "set", LINES)


def test_words_are_those_of_scikit_learn():
    tokeniser = HashedWords(4096)
    vectoriser = CountVectorizer(token_pattern=r"(?u)\w+")
    counts = vectoriser.fit_transform(LINES).toarray()
    ids = [int(row[0]) for row in tokeniser.encode(list(vectoriser.get_feature_names_out()), 10)]
    expected = np.zeros((len(LINES), 4096), int)
    np.add.at(expected, (slice(None), ids), counts)
    rows = tokeniser.encode(LINES, 10**6)
    without = np.array([not vectoriser.build_analyzer()(line) for line in LINES])
    assert 0 < without.sum() < len(LINES)
    for row, counted, empty in zip(rows, expected, without, strict=True):
        assert row.dtype == np.int32
        if empty:
            assert row.tolist() == [1]
        else:
            np.testing.assert_array_equal(np.bincount(row, minlength=4096), counted)


def test_hash_is_crc32_of_the_lower_cased_word():
    """0xCBF43926 is the check value of CRC-32, of the digits 1 to 9."""
    assert HashedWords(1024).encode(["123456789"], 5)[0].tolist() == [1 + 0xCBF43926 % 1023]
    assert HashedWords(1024).encode(["Ärger ärger, 東京"], 5)[0].tolist() == [1 + zlib.crc32(word.encode()) % 1023 for word in ("ärger", "ärger", "東京")]


def test_rows_are_truncated_and_no_id_is_padding():
    rows = HashedWords(7).encode([*PARAGRAPHS, "", " .,; "], 5)
    assert {len(row) for row in rows[:-2]} <= set(range(1, 6))
    assert [len(row) for row in rows[-2:]] == [1, 1]
    assert min(row.min() for row in rows) >= 1
    assert max(row.max() for row in rows) <= 6


def test_fingerprint_tells_vocabularies_apart():
    assert HashedWords(1024).fingerprint == HashedWords(1024).fingerprint != HashedWords(1025).fingerprint
    with pytest.raises(ConfigError, match="a vocabulary of 1 has no room"):
        HashedWords(1)


def test_buckets():
    assert buckets(512) == (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
    assert buckets(200) == (16, 24, 32, 48, 64, 96, 128, 192, 200)
    assert buckets(10) == (10,)


def test_gather_pads_to_the_bucket_of_the_longest_row(tmp_path):
    view = TokenView(text_dataset(tmp_path / "set", PARAGRAPHS), HashedWords(1024), 100, tmp_path)
    ids = [example for split in view.splits.values() for example in split]
    encoded = HashedWords(1024).encode(PARAGRAPHS, 100)
    assert view.lengths(ids).tolist() == [len(row) for row in encoded]
    for chosen in ([5, 0, 2], [1], [0, 0], [3, 4, 5, 2]):
        padded = view.gather([ids[place] for place in chosen])
        longest = max(len(encoded[place]) for place in chosen)
        assert padded.shape == (len(chosen), next(length for length in buckets(100) if length >= longest))
        assert padded.dtype == np.int32
        for row, place in zip(padded, chosen, strict=True):
            np.testing.assert_array_equal(row, np.pad(encoded[place], (0, padded.shape[1] - len(encoded[place]))))
    assert view.gather([]).shape == (0, 16)


def test_longer_rows_are_counted_and_told(tmp_path):
    words = [len(CountVectorizer(token_pattern=r"\w+").build_analyzer()(text)) for text in PARAGRAPHS]
    limit = words[2]
    view = TokenView(text_dataset(tmp_path / "set", PARAGRAPHS), HashedWords(64), limit, tmp_path)
    expected = {"train": sum(n > limit for n in words[:4]), "test": sum(n > limit for n in words[4:])}
    assert view.truncated == expected == {"train": 1, "test": 2}
    assert view.note == f"3 of 6 texts are longer than {limit} tokens and were truncated (train 1, test 2)."
    whole = TokenView(text_dataset(tmp_path / "set", PARAGRAPHS), HashedWords(64), max(words), tmp_path)
    assert whole.note == f"0 of 6 texts are longer than {max(words)} tokens and were truncated."


class _WithEnd(HashedWords):
    """As tokenisers of encoders do it: every row ends with a mark, also one that is cut."""

    def encode(self, texts, max_tokens):
        return [np.append(row, 2).astype(np.int32) for row in super().encode(texts, max_tokens - 1)]


def test_a_cut_row_is_as_the_tokeniser_cuts_it(tmp_path):
    view = TokenView(text_dataset(tmp_path / "set", PARAGRAPHS), _WithEnd(64), 12, tmp_path)
    rows = view.gather(view.splits["test"])
    assert rows.shape == (2, 12)
    assert rows[:, -1].tolist() == [2, 2]
    assert view.truncated["test"] == 2


class _Never(HashedWords):
    def encode(self, texts, max_tokens):
        raise AssertionError("tokenised again")


def test_tokens_are_made_once_and_belong_to_one_input(dataset, tmp_path):
    first = TokenView(dataset, HashedWords(1024), 64, tmp_path)
    again = TokenView(dataset, _Never(1024), 64, str(tmp_path))
    ids = list(dataset.splits["test"])
    np.testing.assert_array_equal(first.gather(ids), again.gather(ids))
    assert (again.truncated, again.fingerprint, again.path) == (first.truncated, first.fingerprint, first.path)
    assert first.path.relative_to(tmp_path).as_posix() == f"tokens/made-{first.fingerprint[:16]}"
    assert json.loads((first.path / "manifest.json").read_text())["licence"] == "BSD-3-Clause"
    others = [
        (dataset, 1024, 65),
        (dataset, 1025, 64),
        (text_dataset(tmp_path / "other", LINES, fingerprint="e" * 64), 1024, 64),
        (text_dataset(tmp_path / "fewer", LINES[:-1]), 1024, 64),
    ]
    fingerprints = {TokenView(data, HashedWords(words), length, tmp_path).fingerprint for data, words, length in others}
    assert len(fingerprints | {first.fingerprint}) == 5


@pytest.mark.parametrize("name", ["tokens.npy", "offsets.npy", "manifest.json"])
def test_altered_tokens_are_refused(dataset, tmp_path, name):
    file = TokenView(dataset, HashedWords(1024), 64, tmp_path).path / name
    data = bytearray(file.read_bytes())
    data[-4] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match=name.replace(".", r"\.")):
        TokenView(dataset, HashedWords(1024), 64, tmp_path)
    file.unlink()
    with pytest.raises(ArtefactError, match=rf"{name} is missing"):
        TokenView(dataset, HashedWords(1024), 64, tmp_path)


def test_tokens_of_another_fingerprint_are_refused(dataset, tmp_path):
    one, other = (TokenView(dataset, HashedWords(words), 64, tmp_path).path for words in (1024, 512))
    for file in one.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ArtefactError, match=r"manifest\.json was altered after it was written: remove"):
        TokenView(dataset, HashedWords(512), 64, tmp_path)


def test_unknown_id(dataset, tmp_path):
    view = TokenView(dataset, HashedWords(1024), 64, tmp_path)
    with pytest.raises(DataError, match=r"2 of 3 ids are not in .*: 'train/99999', 'x'"):
        view.gather(["train/99999", "test/00000", "x"])
    with pytest.raises(DataError, match=r"1 of 1 ids"):
        view.lengths(["x"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0, 3], r"ids 0 to 3 for 'train/00000', but its vocabulary of 10 has 1 to 9"),
        ([3, 10], r"ids 3 to 10 for 'train/00000'"),
        ([-1], r"ids -1 to -1"),
        ([], r"0 tokens for 'train/00000'"),
        ([1] * 9, r"9 tokens for 'train/00000': a row has 1 to max_tokens = 8"),
    ],
)
def test_rows_that_break_the_contract_are_refused_and_nothing_is_left(dataset, tmp_path, row, message):
    tokeniser = HashedWords(10)
    tokeniser.encode = lambda texts, max_tokens: [np.array(row, np.int32) for _ in texts]
    with pytest.raises(DataError, match=message):
        TokenView(dataset, tokeniser, 8, tmp_path)
    assert not (tmp_path / "tokens").exists()


def test_only_text_has_tokens(tmp_path):
    with pytest.raises(ConfigError, match="the data set made holds image"):
        TokenView(text_dataset(tmp_path / "images", LINES, modality="image"), HashedWords(10), 8, tmp_path)


def test_a_row_has_a_token(dataset, tmp_path):
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        TokenView(dataset, HashedWords(10), 0, tmp_path)


def test_batches_pooled_by_length_hold_every_row_once_and_little_padding(dataset, tmp_path):
    view = TokenView(dataset, HashedWords(1024), 64, tmp_path)
    dataset.splits["train"] = dataset.splits["test"][: len(dataset.splits["test"]) // 8 * 8]
    size = len(dataset.splits["train"]) // 8
    kinds = {"batch_size": size, "unlabelled_ratio": 0, "mixup_alpha": 0.0, "seed": 3}
    pooled = TrainLoader(dataset, view, TeacherSide(), **kinds, length_pool=8)
    plain = TrainLoader(dataset, view, TeacherSide(), **kinds)
    drawn = [pooled.ids(step) for step in range(8)]
    assert sorted(itertools.chain(*drawn)) == sorted(itertools.chain(*(plain.ids(step) for step in range(8))))
    assert sum(view.gather(ids).size for ids in drawn) < sum(view.gather(plain.ids(step)).size for step in range(8))
    spans = sorted((view.lengths(ids).min(), view.lengths(ids).max()) for ids in drawn)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    with pytest.raises(ConfigError, match="only tokens have a length"):
        TrainLoader(dataset, dataset, TeacherSide(), **kinds, length_pool=8)
