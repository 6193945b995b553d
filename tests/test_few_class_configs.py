"""The few-class configs: their arguments, the oracle, and where their tuned settings apply."""

import numpy as np
import pytest

from jaxkd import members, pipeline
from jaxkd.data import OWN_FILES
from jaxkd.errors import ConfigError
from tests.small import load_config

FEW_CLASSES = [
    ("text", "", {"labelled": 0, "valid": 2000}, {"classifier": "mlp", "name": "wordllama"}),
    ("text", "data=rotten_tomatoes,teacher=minilm,labels=20", {"labelled": 20, "unlabelled": -1, "unseen": 2000}, {"classifier": "finetuned"}),
    ("text", "teacher=minilm,classifier=mlp", {"source": "newsgroups_bin"}, {"classifier": "mlp"}),
    ("text", "data=sentiment140", {"source": "tfds", "tfds_name": "sentiment140"}, {}),
    ("image", "", {"labelled": 1000, "unlabelled": 9000}, {"classifier": "finetuned"}),
    ("image", "labels=all", {"labelled": 0, "unlabelled": 0}, {}),
    ("image", "data=cifar100,teacher=resnet92_v2", {"source": "tfds", "binary": True}, {"name": "resnet92_v2"}),
    ("image", "data=digits_bin,labels=50", {"labelled": 50, "unlabelled": -1}, {}),
    ("image", "data=digits_bin", {"labelled": 100, "unlabelled": -1}, {}),
    ("text", "runlocal", {"labelled": 400, "unlabelled": 0}, {}),
    ("text", "data=rotten_tomatoes,labels=20,runlocal", {"labelled": 20, "unlabelled": 0}, {}),
    ("image", "runlocal", {"labelled": 100, "unlabelled": 200}, {}),
    ("image", "labels=300,runlocal", {"labelled": 300, "unlabelled": 200}, {}),
    ("image", "labels=all,runlocal", {"labelled": 0, "unlabelled": 0}, {}),
    ("text", "data=text_file", {"labelled": 0, "unlabelled": -1, "valid": 0, "test": 0, "unseen": -1}, {"name": "wordllama"}),
    ("text", "data=text_file,labels=60,runlocal", {"labelled": 60, "unlabelled": -1, "valid": 0, "unseen": -1}, {}),
    ("text", "data=text_file,teacher=precomputed", {}, {"embedding": "", "classifier": "mlp"}),
    ("image", "data=image_folder", {"labelled": 0, "unlabelled": -1, "valid": 0, "test": 0, "unseen": -1}, {"classifier": "finetuned"}),
    ("image", "data=image_folder,labels=60,runlocal", {"labelled": 60, "unlabelled": -1, "valid": 0}, {}),
    ("image", "data=image_folder,teacher=precomputed", {"view_targets": "clean"}, {"embedding": "", "classifier": "mlp"}),
]


@pytest.mark.parametrize(("name", "argument", "data", "teacher"), FEW_CLASSES, ids=[f"{name}:{argument}" for name, argument, *_ in FEW_CLASSES])
def test_arguments_of_the_few_class_configs(name, argument, data, teacher, tmp_path):
    config = load_config(name, argument)
    if config.data.source in OWN_FILES:
        config.data.folder = str(tmp_path)
    if config.teacher.name == "precomputed":
        np.savez(tmp_path / "mine.npz", ids=["train/0"], embeddings=np.ones((1, 4), np.float32))
        config.teacher.archive = str(tmp_path / "mine.npz")
    pipeline.check(config)
    for part, expected in ((config.data, data), (config.teacher, teacher)):
        assert {field: part[field] for field in expected} == expected
    assert (config.teacher_training.length_pool > 1) is (name == "text" and config.teacher.classifier == "finetuned")
    assert not config.data.labelled or config.training.batch_size <= config.data.labelled
    assert not config.data.labelled or config.teacher_training.batch_size <= config.data.labelled * config.data.views


@pytest.mark.parametrize("argument", ["labels=0", "labels=-1", "labels=some"])
@pytest.mark.parametrize("name", ["text", "image"])
def test_labels_that_are_no_number(name, argument):
    with pytest.raises(ConfigError, match="neither a number above 0 nor all"):
        load_config(name, argument)


def test_oracle_of_data_without_fine_labels_is_refused_before_anything_is_read():
    config = load_config("text", "data=rotten_tomatoes")
    config.compare.methods = ("kd", "oracle")
    with pytest.raises(ConfigError, match="'oracle' takes the fine labels of the data, but rotten_tomatoes has none"):
        pipeline.check(config)
    for name, argument in (
        ("text", "method=oracle"),
        ("image", "method=oracle"),
        ("image", "data=digits_bin,method=oracle"),
        ("image", "data=cifar100,method=oracle"),
        ("text", "data=sentiment140,binary,method=oracle"),
    ):
        pipeline.check(load_config(name, argument))
    config = load_config("text", "data=sentiment140")
    config.method = "oracle"
    with pytest.raises(ConfigError, match=r"tfds has none: leave it out, or set config\.data\.binary=True"):
        pipeline.check(config)


@pytest.mark.parametrize("source", ["newsgroups", "amazon_reviews"])
def test_classes_that_are_merged_to_two_are_fine_labels_of_the_oracle(source, tmp_path):
    config = load_config("text", f"data={source}")
    config.data.update({"folder": str(tmp_path) if source == "amazon_reviews" else "", "binary": True})
    assert "oracle" not in config.compare.methods
    config.compare.methods = ("kd", "oracle")
    pipeline.check(config)
    config.data.binary = False
    with pytest.raises(ConfigError, match=rf"{source} has none: leave it out, or set config\.data\.binary=True, which merges its classes to two"):
        pipeline.check(config)


@pytest.mark.parametrize(
    ("name", "with_fine_classes", "without"),
    [
        ("text", ["newsgroups_bin", "newsgroups,binary", "amazon_reviews,binary"], ["newsgroups", "rotten_tomatoes", "imdb", "amazon_reviews", "glue/sst2"]),
        ("image", ["fashion_mnist_hard", "fashion_mnist_bin", "digits_bin", "cifar100"], ["fashion_mnist", "digits"]),
    ],
)
def test_a_comparison_has_the_oracle_where_the_data_have_fine_classes(name, with_fine_classes, without):
    for argument in with_fine_classes + without:
        assert ("oracle" in load_config(name, f"data={argument}").compare.methods) is (argument in with_fine_classes), argument


def test_settings_of_the_text_comparison_are_for_what_they_were_tuned_on():
    for argument in ("", "method=kd", "data=newsgroups_bin,classifier=mlp", "student=bag_of_words_tiny,labels=all"):
        settings = load_config("text", argument).compare.settings
        assert {entry.split()[0] for entry in settings} == set(load_config("text", argument).compare.methods) - {"teacher"}
    for argument in ("labels=100", "classifier=linear", "runlocal", "teacher=minilm", "student=text_cnn", "data=newsgroups,binary", "data=rotten_tomatoes"):
        assert load_config("text", argument).compare.settings == ()


def test_the_comparison_of_fine_tuning_has_compression_from_the_tuned_and_from_the_frozen_encoder():
    config = load_config("text", "teacher=minilm,classifier=finetuned")
    pipeline.check(config)
    runs = {name: members.member(config, name, 0) for name in members.rows(config)}
    for run in runs.values():
        pipeline.check(run)
    assert {"teacher", "probe", "baseline", "kd", "east", "compressed"} < runs.keys()
    assert {name for name, run in runs.items() if run.teacher.classifier == "none"} == {"probe", "compressed_frozen"}
    assert "oracle" in load_config("text", "teacher=minilm").compare.methods


def test_a_text_encoder_that_is_trained_has_room_for_a_token_between_the_special_ones():
    config = load_config("text", "data=rotten_tomatoes,teacher=minilm")
    config.teacher.max_tokens = 3
    pipeline.check(config)
    config.teacher.max_tokens = 2
    with pytest.raises(ConfigError, match=r"config\.teacher\.max_tokens is 2, but must be at least 3"):
        pipeline.check(config)
