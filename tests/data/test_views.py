"""Augmented views against SciPy's shift, their distribution, and what they leave as it is."""

import numpy as np
import pytest
from scipy.ndimage import shift
from scipy.stats import chisquare

from jaxkd.data.dataset import Split, write_dataset
from jaxkd.data.views import Views, base_id, base_ids
from jaxkd.errors import ConfigError, DataError
from jaxkd.types import Table

ROWS, HEIGHT, WIDTH, CHANNELS, PAD = 600, 6, 7, 2, 2


def split_of(name, rows, rng):
    labels = np.eye(2, dtype=np.float32)[rng.integers(0, 2, rows)]
    mask = np.repeat(np.arange(rows)[:, None] < rows // 2, 2, axis=1)
    images = rng.integers(1, 256, (rows, HEIGHT, WIDTH, CHANNELS)).astype(np.uint8)
    return Split([f"{name}/{row:05d}" for row in range(rows)], images, labels, mask, rng.integers(0, 4, rows))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    splits = {"train": split_of("train", ROWS, rng), "valid": split_of("valid", 5, rng), "test": split_of("test", 5, rng)}
    path = tmp_path_factory.mktemp("views") / "set"
    names = {"name": "made", "fingerprint": "f", "classes": "ab", "fine_classes": "wxyz", "licence": "MIT"}
    return write_dataset(path, modality="image", task="multiclass", splits=splits, notes={"unseen": "none"}, **names)


def options(**changed):
    return {"views": 3, "pad": PAD, "flip": True, "seed": 0} | changed


def found_crop(image, view):
    """The only shift and mirroring that makes the view of the image, by SciPy."""
    found = []
    for down in range(-PAD, PAD + 1):
        for right in range(-PAD, PAD + 1):
            moved = shift(image, (down, right, 0), order=0, cval=0, prefilter=False)
            found += [(down, right, mirrored) for mirrored, candidate in enumerate((moved, moved[:, ::-1])) if np.array_equal(candidate, view)]
    assert len(found) == 1
    return found[0]


def test_views_are_uniform_shifts_and_mirror_images(dataset):
    views = Views(dataset, **options())
    base = dataset.splits["train"]
    drawn = []
    for view in (1, 2):
        images = views.gather([f"{example}@{view}" for example in base])
        assert (images.dtype, images.shape) == (np.uint8, (ROWS, HEIGHT, WIDTH, CHANNELS))
        drawn.append([found_crop(image, seen) for image, seen in zip(dataset.gather(base), images, strict=True)])
    for crops in np.array(drawn):
        for column, values in ((0, 5), (1, 5), (2, 2)):
            assert chisquare(np.unique(crops[:, column], return_counts=True)[1].tolist()).pvalue > 1e-3
            assert len(set(crops[:, column])) == values
    assert np.mean(np.all(drawn[0] == np.array(drawn[1]), axis=1)) < 0.1


def test_ids_labels_and_other_splits(dataset):
    views = Views(dataset, **options())
    train = views.splits["train"]
    assert train[:4] == ["train/00000", "train/00000@1", "train/00000@2", "train/00001"]
    assert len(train) == 3 * ROWS
    assert base_ids(train) == dataset.splits["train"]
    assert [base_id(example) for example in train[:4]] == ["train/00000"] * 3 + ["train/00001"]
    assert (views.splits["valid"], views.splits["test"]) == (dataset.splits["valid"], dataset.splits["test"])
    bases = [base_id(example) for example in train]
    for read in ("labels", "label_mask", "fine_labels"):
        np.testing.assert_array_equal(getattr(views, read)(train), getattr(dataset, read)(bases))
    plain = [*dataset.splits["valid"], *dataset.splits["train"]]
    np.testing.assert_array_equal(views.gather(plain), dataset.gather(plain))
    assert (views.classes, views.fine_classes, views.input_shape, views.notes) == (dataset.classes, dataset.fine_classes, dataset.input_shape, dataset.notes)
    assert dataset.splits["train"][1] == "train/00001", "the data set itself is left alone"
    with pytest.raises(DataError, match="train/00000@3"):
        views.gather(["train/00000@3"])
    with pytest.raises(DataError, match="valid/00000@1"):
        views.labels(["valid/00000@1"])


def test_a_view_depends_on_seed_place_and_number_alone(dataset):
    ids = ["train/00007@2", "test/00001", "train/00599@1", "train/00007@2"]
    images = Views(dataset, **options()).gather(ids)
    np.testing.assert_array_equal(images, Views(dataset, **options(views=5)).gather(ids))
    np.testing.assert_array_equal(images[::-1], Views(dataset, **options()).gather(ids[::-1]))
    train = [example for example in Views(dataset, **options()).splits["train"] if "@" in example]
    assert np.any(Views(dataset, **options()).gather(train) != Views(dataset, **options(seed=1)).gather(train))


def test_options_can_be_switched_off(dataset):
    ids = [f"{example}@1" for example in dataset.splits["train"][:50]]
    original = dataset.gather(dataset.splits["train"][:50])
    np.testing.assert_array_equal(Views(dataset, **options(pad=0, flip=False)).gather(ids), original)
    mirrored = Views(dataset, **options(pad=0)).gather(ids)
    kinds = [1 if np.array_equal(seen, image[:, ::-1]) else 0 for seen, image in zip(mirrored, original, strict=True)]
    assert 10 < sum(kinds) < 40
    assert Views(dataset, **options(views=1)).splits == dataset.splits


def test_fingerprint_covers_every_option(dataset):
    changes = ({}, {"views": 2}, {"pad": 1}, {"flip": False}, {"seed": 1}, {"clean_targets": True})
    fingerprints = {Views(dataset, **options(**changed)).fingerprint for changed in changes}
    assert len(fingerprints | {dataset.fingerprint}) == 7
    assert Views(dataset, **options()).fingerprint in fingerprints


def test_clean_targets_are_those_of_the_image(dataset):
    views = Views(dataset, **options(clean_targets=True))
    assert views.embedded is dataset
    ids = [example for split in dataset.splits.values() for example in split]
    table = Table({example: row for row, example in enumerate(ids)}, np.arange(len(ids)))
    assert views.teacher_side(table).gather(["train/00003@2", "train/00003", "valid/00000"]).tolist() == [3, 3, ROWS]
    augmented = Views(dataset, **options())
    assert augmented.embedded is augmented
    assert augmented.teacher_side(table) is table


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"views": 0}, r"config\.data\.views is 0, but must be at least 1"),
        ({"pad": -1}, r"config\.data\.view_pad is -1, but must be from 0 to 5"),
        ({"pad": 6}, r"config\.data\.view_pad is 6, but must be from 0 to 5"),
    ],
)
def test_impossible_options(changed, message, dataset):
    with pytest.raises(ConfigError, match=message):
        Views(dataset, **options(**changed))


def test_text_has_no_views(tmp_path):
    split = Split(["train/0"], ["words"], np.ones((1, 1), np.float32), np.ones((1, 1), bool))
    text = write_dataset(
        tmp_path / "set", name="t", fingerprint="f", modality="text", task="multilabel", classes="a", splits={"train": split}, notes={}, licence="MIT"
    )
    with pytest.raises(ConfigError, match=r"config\.data\.views is 3, but the data set t holds text: set it to 1"):
        Views(text, **options())
