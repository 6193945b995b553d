"""The user's own images: scikit-learn's digits written as files by the test; sizes against JAX's own resizing."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jaxkd.data import prepare
from jaxkd.data.image_folder import _read
from jaxkd.data.views import Views
from jaxkd.errors import ConfigError, DataError, ResourceError
from tests.data.corpora import data_config

COUNT = 60


@pytest.fixture(scope="module")
def digits():
    """The first images of three digits, uint8 [8, 8], with their names; no two are equal."""
    found = load_digits()
    images = np.round(found.images * 255 / 16).astype(np.uint8)
    return [(image, f"digit{name}") for image, name in zip(images, found.target.tolist(), strict=True) if name < 3][:COUNT]


def save(folder, digits, *, ending="png", start=0):
    """Writes CLASS/ROW.png; returns {path: (image, class)}."""
    written = {}
    for row, (image, name) in enumerate(digits, start=start):
        path = folder / name / f"{row:03d}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        written[path] = (image, name)
    return written


def prepared(folder, tmp_path, **fields):
    return prepare(data_config("image_folder", folder=str(folder), **{"valid": 0, "image_size": 0, **fields}), tmp_path / "cache")


def require_rows(dataset, folder, written):
    """Sees that the data set holds the written images under their paths, each with its class."""
    by_id = {path.relative_to(folder).as_posix(): row for path, row in written.items()}
    ids = [example for split in dataset.splits.values() for example in split if example in by_id]
    assert sorted(ids) == sorted(by_id)
    np.testing.assert_array_equal(dataset.gather(ids)[..., 0], [by_id[example][0] for example in ids])
    known = dataset.label_mask(ids).all(axis=1)
    names = np.array(dataset.classes)[dataset.labels(ids).argmax(axis=1)]
    np.testing.assert_array_equal(names[known], np.array([by_id[example][1] for example in ids])[known])


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_a_folder_a_class(ending, digits, tmp_path):
    written = save(tmp_path / "mine", digits, ending=ending)
    (tmp_path / "mine" / "README.txt").write_text("not read")
    (tmp_path / "mine" / "digit0" / ".DS_Store").write_text("not read")
    dataset = prepared(tmp_path / "mine", tmp_path)
    assert (dataset.modality, dataset.task, dataset.input_shape) == ("image", "multiclass", (8, 8, 1))
    assert dataset.classes == ("digit0", "digit1", "digit2")
    assert {split: len(ids) for split, ids in dataset.splits.items()} == {"train": 36, "valid": 12, "test": 12}
    require_rows(dataset, tmp_path / "mine", written)


def test_parts_and_images_without_a_class(digits, tmp_path):
    folder = tmp_path / "mine"
    slices = {"train": digits[:24], "valid": digits[24:36], "test": digits[36:48], "unseen": digits[48:54]}
    written = {part: save(folder / part, rows) for part, rows in slices.items()}
    unlabelled = save(folder / "unlabelled", [(image, "") for image, _ in digits[54:]])
    (folder / "train" / "digit0" / "more").mkdir()
    inner = folder / "train" / "digit0" / "more" / "twice@2.png"
    Image.fromarray(255 - digits[0][0]).save(inner)
    written["train"][inner] = (255 - digits[0][0], "digit0")
    dataset = prepared(folder, tmp_path, unseen=-1, labelled=21)
    for part, files in written.items():
        require_rows(dataset, folder, files)
        assert {path.relative_to(folder).as_posix() for path in files} <= set(dataset.splits[part])
    train = dataset.splits["train"]
    mask = dataset.label_mask(train).all(axis=1)
    assert len(train) == 31 and mask.sum() == 21
    assert {path.relative_to(folder).as_posix() for path in unlabelled} <= {example for example, known in zip(train, mask, strict=True) if not known}
    views = Views(dataset, views=2, pad=0, flip=False, seed=0)
    np.testing.assert_array_equal(views.gather(views.splits["train"][1::2]), dataset.gather(train))
    assert prepared(folder, tmp_path).fingerprint == prepared(folder, tmp_path).fingerprint != prepared(folder, tmp_path, image_size=4).fingerprint


def test_a_changed_image_is_noticed(digits, tmp_path):
    path = next(iter(save(tmp_path / "mine", digits)))
    first = prepared(tmp_path / "mine", tmp_path)
    Image.fromarray(255 - digits[0][0]).save(path)
    assert prepared(tmp_path / "mine", tmp_path).fingerprint != first.fingerprint


@pytest.mark.parametrize(("height", "width", "size"), [(64, 96, 16), (90, 64, 32), (8, 8, 24), (20, 20, 20)])
def test_sizes_are_those_of_jax(height, width, size, tmp_path):
    """Shorter side to the size by a triangle filter, then the centre; Pillow rounds between its two passes."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "one.png")
    long, tall = (size * side // min(height, width) for side in (width, height))
    expected = np.asarray(jax.image.resize(image.astype(np.float32), (tall, long, 3), "linear", antialias=True))
    top, left = (tall - size) // 2, (long - size) // 2
    found = _read(tmp_path / "one.png", size)
    assert found.shape == (size, size, 3)
    np.testing.assert_allclose(found, expected[top : top + size, left : left + size], atol=1.01)


def test_modes_and_orientation(digits, tmp_path):
    grey = digits[0][0]
    colour = np.stack([grey, grey.T, 255 - grey], axis=-1)
    cases = {
        "bilevel": (Image.fromarray(grey > 100), np.where(grey > 100, 255, 0)[..., None]),
        "palette": (Image.fromarray(colour).quantize(256), colour),
        "transparent": (Image.fromarray(np.dstack([colour, grey])), np.dstack([colour, grey])),
        "grey, transparent": (Image.merge("LA", [Image.fromarray(grey), Image.fromarray(255 - grey)]), np.dstack([grey] * 3 + [255 - grey])),
    }
    for name, (image, expected) in cases.items():
        image.save(tmp_path / "one.png")
        np.testing.assert_array_equal(_read(tmp_path / "one.png", 0), expected, err_msg=name)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows run from right to left
    Image.fromarray(colour).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(_read(tmp_path / "turned.png", 0), np.rot90(colour, -1))


def test_images_of_other_sizes_and_channels_are_brought_to_one(digits, tmp_path):
    folder = tmp_path / "mine"
    save(folder, digits)
    odd = folder / "digit1" / "odd.png"
    Image.fromarray(np.dstack([digits[0][0]] * 3)[:, :6]).save(odd)
    message = r"odd\.png is 6x8 with 3 channels, but .*digit0.000\.png is 8x8 with 1 channel: .*--config\.data\.image_size=8"
    with pytest.raises(DataError, match=message):
        prepared(folder, tmp_path)
    dataset = prepared(folder, tmp_path, image_size=6)
    assert dataset.input_shape == (6, 6, 3)
    images = dataset.gather([example for ids in dataset.splits.values() for example in ids])
    np.testing.assert_array_equal(images, np.repeat(images[..., :1], 3, axis=-1))
    np.testing.assert_array_equal(dataset.gather(["digit1/odd.png"])[0, ..., 0], digits[0][0][1:7, :6])
    assert dataset.notes["images of fewer channels"] == "60 of 61, brought to 3"
    Image.fromarray(np.dstack([digits[0][0]] * 4)).save(odd)
    opaque = prepared(folder, tmp_path, image_size=8)
    np.testing.assert_array_equal(opaque.gather(["digit0/000.png"])[0], np.dstack([digits[0][0]] * 3 + [np.full((8, 8), 255, np.uint8)]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "train" / "digit0" / "000.png").write_text("hello"), r"digit0.000\.png is no image that can be read, or is damaged"),
        (
            lambda folder: (folder / "train" / "digit0" / "000.png").write_bytes((folder / "train" / "digit0" / "000.png").read_bytes()[:-30]),
            r"digit0.000\.png is no image that can be read, or is damaged \(.*replace or remove it",
        ),
        (lambda folder: Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / "train" / "digit0" / "000.png"), r"000\.png has more than 8 bits a channel"),
        (lambda folder: (folder / "train" / "empty").mkdir(), r"train.empty holds no images: add some, or remove the folder"),
        (lambda folder: save(folder / "test", [(np.ones((8, 8), np.uint8), "digit9")]), r"test.digit9: the training part has no class 'digit9'"),
        (lambda folder: (folder / "valid").mkdir(), r"valid holds no folder of a class: add them, or remove it"),
        (lambda folder: (folder / "val").mkdir(), r"val is none of the parts train, valid, test, unseen and unlabelled: rename it"),
        (lambda folder: shutil.move(folder / "train", folder / "training"), r"training is none of the parts"),
        (lambda folder: shutil.rmtree(folder / "train"), r"has the parts test, but no folder train"),
        (lambda folder: [shutil.rmtree(folder / "train" / f"digit{name}") for name in (1, 2)], r"train has 1 folders of images, but must have at least 2"),
    ],
)
def test_what_is_wrong_is_named(change, message, digits, tmp_path):
    folder = tmp_path / "mine"
    save(folder / "train", digits[:30])
    save(folder / "test", digits[30:])
    change(folder)
    with pytest.raises(DataError, match=message):
        prepared(folder, tmp_path)
    assert not (tmp_path / "cache" / "datasets").exists()


def test_no_folder_and_too_little_memory(digits, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"data\.source=image_folder needs data\.folder=FOLDER"):
        prepared("", tmp_path)
    with pytest.raises(DataError, match="nowhere does not exist"):
        prepared(tmp_path / "nowhere", tmp_path)
    save(tmp_path / "mine", digits)
    monkeypatch.setattr("jaxkd.files.available_memory_bytes", lambda: 4 * COUNT * 64 - 1)
    with pytest.raises(ResourceError, match="reading 60 images of 8x8 with 1 channel needs"):
        prepared(tmp_path / "mine", tmp_path)
