"""Sources "digits" and "digits_bin": scikit-learn's 1,797 handwritten digits of 8x8 pixels, ten classes, or even and odd. No archive is needed."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from jaxkd.data.dataset import Dataset
from jaxkd.data.hidden_classes import ImageTask, Labelled, by_parity, prepare_images, stratified_order

CLASSES = tuple("0123456789")
GROUPS = {"digits": None, "digits_bin": by_parity(CLASSES)}
COUNTS = {"train": 1_437, "test": 360}
LARGEST_VALUE = 16
LICENCE = "scikit-learn's copy of the UCI ML hand-written digits (Alpaydin and Kaynak 1998): CC BY 4.0"


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Draws the data set that `data_config` describes (see `jaxkd.data.hidden_classes.prepare_images`), or opens it from the cache.

    The test images are a fixed fifth, whatever the seed.

    Raises:
      ConfigError: more rows than there are, or too few.
      ArtefactError, ResourceError: the data set in the cache was altered; too little disk.
    """
    groups = GROUPS[data_config.source]
    task = ImageTask(data_config.source, CLASSES, groups, COUNTS["train"], COUNTS["test"], {"images": "sklearn.datasets.load_digits"}, LICENCE)
    return prepare_images(data_config, cache_dir, task, read_images)


def read_images() -> dict[str, Labelled]:
    """The images (16 grey levels spread over 0 .. 255) and digits of "train" and "test", stratified."""
    digits: Any = load_digits()
    images = np.round(digits.images * (255 / LARGEST_VALUE)).astype(np.uint8)[..., None]
    classes = digits.target.astype(np.int32)
    order = stratified_order(classes, np.random.Generator(np.random.Philox(0)))
    parts = {"test": order[: COUNTS["test"]], "train": order[COUNTS["test"] :]}
    return {part: Labelled(images[rows], classes[rows]) for part, rows in parts.items()}
