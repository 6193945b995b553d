"""Pixel statistics and normalisation against scikit-learn's."""

import jax
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from jaxkd.data.dataset import Split, write_dataset
from jaxkd.data.image_transform import image_transform, pixel_statistics
from jaxkd.data.views import Views


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = np.stack([rng.integers(0, 256, (50, 5, 4)), rng.integers(0, 60, (50, 5, 4)), np.full((50, 5, 4), 7)], axis=-1).astype(np.uint8)
    labels = np.ones((50, 1), np.float32)
    splits = {name: Split([f"{name}/{row}" for row in range(50)], images // (1 + i), labels, labels > 0) for i, name in enumerate(("train", "test"))}
    path = tmp_path_factory.mktemp("pixels") / "set"
    return write_dataset(path, name="m", fingerprint="f", modality="image", task="multilabel", classes="a", splits=splits, notes={}, licence="MIT")


def test_normalisation_is_that_of_scikit_learn(dataset, monkeypatch):
    monkeypatch.setattr("jaxkd.data.image_transform.ROWS_AT_ONCE", 7)
    mean, std = pixel_statistics(dataset)
    images = dataset.gather(dataset.splits["train"])
    pixels = images.reshape(-1, 3) / 255.0
    scaler = StandardScaler().fit(pixels)
    np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(std[:2], np.sqrt(scaler.var_[:2]), rtol=1e-6)
    assert std[2] == 1.0
    assert (mean.dtype, std.dtype) == (np.float32, np.float32)
    outputs = jax.jit(lambda inputs: image_transform(mean, std)(None, inputs))(images)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs[..., :2].reshape(-1, 2), scaler.transform(pixels)[:, :2], atol=1e-5)
    np.testing.assert_allclose(outputs[..., 2], 0, atol=1e-6)


def test_augmented_views_do_not_count(dataset):
    views = Views(dataset, views=4, pad=2, flip=True, seed=0)
    for ours, expected in zip(pixel_statistics(views), pixel_statistics(dataset), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_keys_change_nothing(dataset):
    images = dataset.gather(dataset.splits["test"])
    transform = image_transform(*pixel_statistics(dataset))
    np.testing.assert_array_equal(transform(None, images), transform(jax.random.split(jax.random.key(0), 50), images))
