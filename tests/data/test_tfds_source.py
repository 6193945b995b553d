import contextlib
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import mnist
from tensorflow_datasets.testing.mocking import RandomFakeGenerator

from jaxkd.data import prepare
from jaxkd.errors import ArtefactError, ConfigError, DataError, FetchError, ResourceError
from tests.data.corpora import class_by_text, data_config

SEEDS = {"train": 0, "test": 10_000, "validation": 20_000}


def fake_rows(features, split, count):
    """Rows of random content with these features, as TFDS's own mock makes them; other rows for each split."""
    generator = RandomFakeGenerator(features, count, seed=SEEDS[split])
    return [generator[place] for place in range(count)]


@contextlib.contextmanager
def mocked(count=600, change=lambda row, place: row):
    def as_data_source(builder, split, **_):
        return [change(row, place) for place, row in enumerate(fake_rows(builder.info.features, split, count))]

    with tfds.testing.mock_data(as_data_source_fn=as_data_source):
        yield


def prepared(name, tmp_path, **fields):
    return prepare(data_config("tfds", tfds_name=name, **{"valid": 100, **fields}), tmp_path / "cache")


@pytest.fixture(autouse=True)
def no_tensorflow():
    yield
    assert "tensorflow" not in sys.modules


def test_texts_of_imdb_reviews(tmp_path):
    with mocked():
        dataset = prepared("imdb_reviews", tmp_path, labelled=50, valid=60)
        expected = {split: fake_rows(tfds.builder("imdb_reviews").info.features, split, 600) for split in ("train", "test")}
    assert dataset.modality == "text" and len(dataset.classes) == 2 and len(dataset.splits["test"]) == 600
    names = {row["text"]: dataset.classes[int(row["label"])] for row in expected["test"]}
    assert class_by_text(dataset, "test") == names
    names = {row["text"]: dataset.classes[int(row["label"])] for row in expected["train"]}
    found = class_by_text(dataset, "train")
    assert len(found) == 540 and sum(name is not None for name in found.values()) == 50
    assert all(name in (None, names[text]) for text, name in found.items())
    assert "Maas" in dataset.notes["citation"]


@pytest.mark.parametrize(
    ("name", "shape", "classes"), [("cifar10", (32, 32, 3), 10), ("fashion_mnist", (28, 28, 1), 10), ("mnist", (28, 28, 1), 10), ("cifar100", (32, 32, 3), 100)]
)
def test_images_as_two_classes_keep_the_original_ones(name, shape, classes, tmp_path):
    with mocked():
        dataset = prepared(name, tmp_path, binary=True)
        expected = {row["image"].tobytes(): int(row["label"]) for row in fake_rows(tfds.builder(name).info.features, "test", 600)}
    assert dataset.modality == "image" and dataset.input_shape == shape
    assert dataset.classes == ("even", "odd") and len(dataset.fine_classes) == classes
    ids = dataset.splits["test"]
    fine = [expected[image.tobytes()] for image in dataset.gather(ids)]
    np.testing.assert_array_equal(dataset.fine_labels(ids), fine)
    np.testing.assert_array_equal(dataset.labels(ids).argmax(axis=1), np.array(fine) % 2)


def test_another_label_of_cifar100(tmp_path):
    with mocked():
        dataset = prepared("cifar100", tmp_path, label_column="coarse_label")
        expected = {row["image"].tobytes(): int(row["coarse_label"]) for row in fake_rows(tfds.builder("cifar100").info.features, "test", 600)}
    assert len(dataset.classes) == 20 and not dataset.fine_classes
    ids = dataset.splits["test"]
    np.testing.assert_array_equal(dataset.labels(ids).argmax(axis=1), [expected[image.tobytes()] for image in dataset.gather(ids)])


def test_polarity_of_tweets(tmp_path):
    with mocked(change=lambda row, place: {**row, "polarity": np.int32((0, 4, 2)[place % 3])}):
        dataset = prepared("sentiment140", tmp_path)
        expected = fake_rows(tfds.builder("sentiment140").info.features, "test", 600)
    assert dataset.classes == ("negative", "positive")
    assert class_by_text(dataset, "test") == {row["text"]: ("negative", "positive")[place % 3] for place, row in enumerate(expected) if place % 3 < 2}
    with mocked(change=lambda row, place: {**row, "polarity": np.int32(place % 4)}), pytest.raises(DataError, match=r"polarity has the value 1, which is none"):
        prepared("sentiment140", tmp_path, seed=1)


def test_any_other_name_with_its_columns(tmp_path):
    with mocked():
        dataset = prepared("ag_news_subset", tmp_path, text_column="description", label_column="label")
        expected = fake_rows(tfds.builder("ag_news_subset").info.features, "test", 600)
        assert class_by_text(dataset, "test") == {row["description"]: dataset.classes[int(row["label"])] for row in expected}
        with pytest.raises(ConfigError, match=r"text_column='' and data\.label_column='label': ag_news_subset/.* has the features description, label, title"):
            prepared("ag_news_subset", tmp_path, label_column="label")
        with pytest.raises(DataError, match=r"feature title is .*, but must be a whole number: choose another with data\.label_column"):
            prepared("ag_news_subset", tmp_path, text_column="description", label_column="title")
        with pytest.raises(DataError, match=r"feature label is ClassLabel.*, but must be a text"):
            prepared("ag_news_subset", tmp_path, text_column="label", label_column="label")


def test_tfds_own_mock_gives_every_split_the_same_rows_and_all_leak(tmp_path):
    with tfds.testing.mock_data(num_examples=30), pytest.raises(ConfigError, match="has 0 different rows"):
        prepared("imdb_reviews", tmp_path)


def test_unpublished_labels(tmp_path):
    with mocked(change=lambda row, place: {**row, "label": np.int64(-1)}), pytest.raises(DataError, match=r"label has the value -1.*not published has -1"):
        prepared("imdb_reviews", tmp_path)


@pytest.mark.parametrize("name", ["glue/cola", "glue/sst2", "speech_commands"])
def test_builders_that_need_tensorflow_name_the_extra(name, tmp_path):
    needed = rf"{name} needs TensorFlow, which is not installed: python -m pip install 'jaxkd\[tfds-tf\]'"
    with pytest.raises(ResourceError, match=rf"{needed}.* stands for {tmp_path}, which holds no {name}"):
        prepared(name, tmp_path, tfds_data_dir=str(tmp_path))
    with pytest.raises(ResourceError, match=rf"{needed}.* stands for {tmp_path}/absent, which does not exist"):
        prepared(name, tmp_path, tfds_data_dir=str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"needs data\.tfds_name=NAME"),
        ("cifra10", r"TFDS has no such data set, .*Check the spelling\. Did you mean 'cifar10'\?.*jaxkd\[tfds-tf\]"),
        ("rotten_tomatos", "Did you mean 'rotten_tomatoes'"),
        ("imdb_reviews/nope", "BuilderConfig nope not found.*Check name, config and version"),
        ("cifar10:9.9.9", r"cannot be loaded at version 9\.9\.9"),
        ("two words", "Parsing builder name string two words failed"),
    ],
)
def test_wrong_names(name, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        prepared(name, tmp_path, tfds_data_dir=str(tmp_path))


@pytest.fixture
def released(tmp_path, monkeypatch):
    """The downloads of TFDS: files in the released layout, made here."""
    folder = tmp_path / "released"
    monkeypatch.setattr(
        tfds.download.DownloadManager, "download_and_extract", lambda _, urls: {key: folder / key for key in urls} if isinstance(urls, dict) else folder
    )
    return folder


def test_cifar10_is_prepared_from_its_files(released, tmp_path):
    folder = released / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join(f"thing{number}" for number in range(10)))
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (120, 3, 32, 32)).astype(np.uint8), np.arange(120) % 10
    for place, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        records = zip(labels[20 * place : 20 * place + 20], images[20 * place : 20 * place + 20], strict=True)
        (folder / f"{name}.bin").write_bytes(b"".join(bytes([label]) + image.tobytes() for label, image in records))
    dataset = prepared("cifar10", tmp_path, tfds_data_dir=str(tmp_path / "tfds"), valid=20)
    assert dataset.classes == tuple(f"thing{number}" for number in range(10))
    expected = {image.transpose(1, 2, 0).tobytes(): label for image, label in zip(images, labels, strict=True)}
    for split, count in (("train", 80), ("valid", 20), ("test", 20)):
        ids = dataset.splits[split]
        assert len(ids) == count
        np.testing.assert_array_equal(dataset.labels(ids).argmax(axis=1), [expected[image.tobytes()] for image in dataset.gather(ids)])
    again = prepared("cifar10", tmp_path, tfds_data_dir=str(tmp_path / "tfds"), valid=20)
    assert again.path == dataset.path


def test_mnist_is_prepared_from_its_files(released, tmp_path, monkeypatch):
    released.mkdir()
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 60)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 20)
    images = np.random.default_rng(0).integers(0, 256, (80, 28, 28, 1)).astype(np.uint8)
    labels = (np.arange(80) % 10).astype(np.uint8)
    for part, rows in (("train", slice(60)), ("test", slice(60, 80))):
        (released / f"{part}_data").write_bytes(bytes(16) + images[rows].tobytes())
        (released / f"{part}_labels").write_bytes(bytes(8) + labels[rows].tobytes())
    dataset = prepared("fashion_mnist", tmp_path, tfds_data_dir=str(tmp_path / "tfds"), valid=10)
    expected = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for ids in dataset.splits.values():
        np.testing.assert_array_equal(dataset.labels(ids).argmax(axis=1), [expected[image.tobytes()] for image in dataset.gather(ids)])


def test_sentiment140_is_prepared_from_its_files(released, tmp_path):
    released.mkdir()
    tweets = {"training.1600000.processed.noemoticon.csv": (0, 4), "testdata.manual.2009.06.14.csv": (0, 2, 4)}
    for name, values in tweets.items():
        lines = [f'"{values[row % len(values)]}","{row}","Mon","NO_QUERY","me","{name[:4]} {row} caf\u00e9"' for row in range(60)]
        (released / name).write_bytes("\n".join(lines).encode("latin-1"))
    dataset = prepared("sentiment140", tmp_path, tfds_data_dir=str(tmp_path / "tfds"), valid=10)
    names = {0: "negative", 4: "positive"}
    assert class_by_text(dataset, "test") == {f"test {row} caf\u00e9": names[(0, 2, 4)[row % 3]] for row in range(60) if row % 3 != 1}
    assert len(dataset.splits["train"]) == 50


def test_a_folder_of_ones_own_is_read_by_its_content(tmp_path):
    class OwnTexts(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        prefix = "one"

        def _info(self):
            features = tfds.features.FeaturesDict({"body": tfds.features.Text(), "kind": np.int32})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for row in range(60):
                yield row, {"body": f"{self.prefix} {row}", "kind": (7, 3)[row % 2]}

    def own(folder, prefix):
        OwnTexts.prefix = prefix
        OwnTexts(data_dir=tmp_path / folder, file_format="array_record").download_and_prepare()
        return prepared("own_texts", tmp_path, tfds_data_dir=str(tmp_path / folder), text_column="body", label_column="kind", valid=10)

    dataset = own("first", "one")
    assert dataset.classes == ("3", "7") and {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 38, "valid": 10, "test": 12}
    assert all(name == ("7", "3")[int(text.split()[1]) % 2] for split in dataset.splits for text, name in class_by_text(dataset, split).items())
    assert own("second", "another").fingerprint != dataset.fingerprint
    info = tmp_path / "second" / "own_texts" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ConfigError, match=r"array_record does not match .*tfrecord.*name another folder with data\.tfds_data_dir=FOLDER"):
        prepared("own_texts", tmp_path, tfds_data_dir=str(tmp_path / "second"), text_column="body", label_column="kind", valid=10)
    file = dataset.path / "train.inputs.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match=r"train\.inputs\.npy has"):
        own("third", "one")


@pytest.mark.parametrize("name", ["cola", "sst2:2.0.0"])
def test_a_prepared_config_of_glue_is_read_with_its_validation_part_as_test(name, tmp_path):
    class Glue(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name, version="2.0.0") for name in ("cola", "sst2"))

        def _info(self):
            names = ["unacceptable", "acceptable"]
            features = {"sentence": tfds.features.Text(), "label": tfds.features.ClassLabel(names=names), "idx": np.int32}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _):
            return {
                "train": self._generate_examples("train", 40),
                "validation": self._generate_examples("validation", 20),
                "test": self._generate_examples("test", 10),
            }

        def _generate_examples(self, split, count):
            for row in range(count):
                yield row, {"sentence": f"{self.builder_config.name} {split} {row}", "label": -1 if split == "test" else row % 2, "idx": row}

    for config in ("cola", "sst2"):
        Glue(config=config, data_dir=tmp_path, file_format="array_record").download_and_prepare()
    dataset, own = prepared(f"glue/{name}", tmp_path, tfds_data_dir=str(tmp_path), valid=10), name[:4]
    assert dataset.classes == ("unacceptable", "acceptable")
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 30, "valid": 10, "test": 20}
    assert class_by_text(dataset, "test") == {f"{own} validation {row}": dataset.classes[row % 2] for row in range(20)}
    for split in ("train", "valid"):
        for text, label in class_by_text(dataset, split).items():
            assert text.startswith(f"{own} train ")
            assert label == dataset.classes[int(text.split()[2]) % 2]


def test_no_network(tmp_path, monkeypatch):
    def no_network(*_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", no_network)
    with pytest.raises(FetchError, match=r"TFDS could not prepare cifar10/3\.0\.2 in .*no route to host.*data\.tfds_data_dir=FOLDER"):
        prepared("cifar10", tmp_path, tfds_data_dir=str(tmp_path))
