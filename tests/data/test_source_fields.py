"""Fields of the data that a source does not read are refused, and so are fewer labels than classes, before anything is read."""

import importlib.util
import re
from pathlib import Path

import pytest

from jaxkd import data, pipeline
from jaxkd.data import amazon, digits, fashion_mnist, movie_reviews, newsgroups
from jaxkd.errors import ConfigError
from tests.small import load_config


@pytest.mark.parametrize(
    ("name", "source", "field", "value", "instead"),
    [
        ("text", "rotten_tomatoes", "binary", True, "False, or the source to one of newsgroups, newsgroups_bin, amazon_reviews, tfds."),
        ("image", "fashion_mnist", "binary", True, "False, or the source to fashion_mnist_bin."),
        ("image", "digits_bin", "label_column", "digit", "'', or the source to one of amazon_reviews, text_file, tfds."),
        ("image", "digits", "archive", "digits.npz", "'', or the source to one of newsgroups, "),
        ("text", "newsgroups_bin", "text_column", "body", "'', or the source to one of amazon_reviews, text_file, tfds."),
        ("text", "imdb", "tfds_name", "imdb_reviews", "'', or the source to one of tfds."),
        ("text", "imdb", "folder", "reviews", "'', or the source to one of audio_folder, openmic, magnatagatune, amazon_reviews, text_file, image_folder."),
        ("text", "imdb", "views", 4, "1, or the source to one of fashion_mnist, "),
        ("image", "digits", "image_size", 32, "0, or the source to one of image_folder."),
        ("audio", "rendered_instruments", "folder", "recordings", "'', or the source to one of audio_folder, "),
    ],
)
def test_a_field_that_the_source_does_not_read_is_refused(name, source, field, value, instead):
    config = load_config(name, "" if name == "audio" else f"data={source}")
    pipeline.check(config)
    config.data[field] = value
    with pytest.raises(ConfigError) as caught:
        pipeline.check(config)
    assert f"config.data.{field} is {value!r}, but data.source={source!r} does not read it: set it to {instead}" in str(caught.value)


def test_folders_are_there_before_anything_is_made(tmp_path):
    (tmp_path / "reviews.csv").touch()
    config = load_config("audio", "")
    for part in ("data", "other"):
        config[part].update({"source": "audio_folder", "folder": str(tmp_path)})
        pipeline.check(config)
        for name, found in (("absent", "does not exist"), ("reviews.csv", "is no folder")):
            config[part].folder = str(tmp_path / name)
            with pytest.raises(ConfigError, match=rf"config\.{part}\.folder is '.*{name}', which {found}: name the folder that config\.{part}\.source='"):
                pipeline.check(config)
        config[part].folder = str(tmp_path)
    config = load_config("text", "data=amazon_reviews")
    config.data.folder = str(tmp_path / "reviews.csv")
    pipeline.check(config)
    config.data.folder = str(tmp_path / "absent")
    with pytest.raises(ConfigError, match="which does not exist: name the folder or file that"):
        pipeline.check(config)


def test_a_field_is_read_by_the_source_of_the_other_data_set_or_by_ones_own(tmp_path):
    config = load_config("audio", "")
    config.data.update({"source": "audio_folder", "folder": str(tmp_path), "train_bank_archive": "bank.whl"})
    with pytest.raises(ConfigError, match=r"config\.data\.train_bank_archive is 'bank\.whl', but data\.source='audio_folder' does not read it"):
        pipeline.check(config)
    config.other.source = "rendered_instruments"
    pipeline.check(config)
    config.other.folder = "elsewhere"
    with pytest.raises(ConfigError, match=r"config\.other\.folder is 'elsewhere', but other\.source='rendered_instruments' does not read it"):
        pipeline.check(config)
    config = load_config("text", "")
    config.data.update({"source": "tests.data.corpora:prepare", "text_column": "body", "folder": "mine"})
    pipeline.check(config)


@pytest.mark.parametrize("field", [field for field in data.READ_BY if field != "views"])
def test_the_table_names_the_sources_whose_module_reads_a_field(field):
    modules = {source: importlib.util.find_spec(place.partition(":")[0]) for source, place in data.SOURCES.items()}
    reading = {source for source, module in modules.items() if re.search(rf"data_config\.{field}\b", Path(module.origin).read_text())}
    assert reading == set(data.READ_BY[field])


@pytest.mark.parametrize(
    ("name", "argument", "least"),
    [
        ("text", "data=newsgroups_bin", len(newsgroups.GROUPS)),
        ("text", "data=newsgroups", len(newsgroups.GROUPS)),
        ("text", "data=rotten_tomatoes", len(movie_reviews.CLASSES)),
        ("text", "data=imdb", len(movie_reviews.CLASSES)),
        ("text", "data=amazon_reviews", len(amazon.STARS)),
        ("text", "data=amazon_reviews,binary", sum(map(len, amazon.BINARY.values()))),
        ("image", "data=fashion_mnist_hard", len(fashion_mnist.CLASSES)),
        ("image", "data=fashion_mnist", len(fashion_mnist.CLASSES)),
        ("image", "data=digits_bin", len(digits.CLASSES)),
    ],
)
def test_fewer_labels_than_classes(name, argument, least, tmp_path):
    config = load_config(name, argument)
    if config.data.source == "amazon_reviews":
        config.data.folder = str(tmp_path)
    for good in (0, least):
        config.data.labelled = good
        pipeline.check(config)
    config.data.labelled = least - 1
    with pytest.raises(ConfigError, match=f"config.data.labelled is {least - 1}, but must be at least {least}, a row of each class"):
        pipeline.check(config)
