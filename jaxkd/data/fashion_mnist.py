"""Sources "fashion_mnist", "fashion_mnist_bin" and "fashion_mnist_hard": 28x28 grey images of clothes (Xiao et al., arXiv 1708.07747).

"fashion_mnist" has the ten classes, "fashion_mnist_bin" two by class number modulo 2. In "fashion_mnist_hard" the two classes take the look-alikes apart:
pullover against coat, T-shirt against shirt, dress against shirt and coat, sneaker against sandal and ankle boot; trouser and bag are like nothing else and
make the sides equal.
"""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.data.banks import read_member
from jaxkd.data.dataset import Dataset
from jaxkd.data.fetch import fetch
from jaxkd.data.hidden_classes import ImageTask, Labelled, by_parity, prepare_images
from jaxkd.data.packages import PACKAGES
from jaxkd.errors import DataError, FetchError

CLASSES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
GROUPS = {
    "fashion_mnist": None,
    "fashion_mnist_bin": by_parity(CLASSES),
    "fashion_mnist_hard": {
        "first": ("T-shirt/top", "pullover", "dress", "sneaker", "bag"),
        "second": ("trouser", "coat", "sandal", "shirt", "ankle boot"),
    },
}
COUNTS = {"train": 60_000, "test": 10_000}
MEMBER_FOLDER = "usr/share/datasets/fashion-mnist"
FILES = {"train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"), "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")}
SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of the unpacked files."""


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Draws the data set that `data_config` describes (see `jaxkd.data.hidden_classes.prepare_images`), or opens it from the cache.

    `data_config.archive` may name a copy of the Debian package, or a folder with the four original files.

    Raises:
      ConfigError: more rows than there are, or too few.
      FetchError: the package cannot be fetched; the message names the other ways.
      DataError: a file of `data_config.archive` is missing or another.
      ArtefactError, ResourceError: the data set in the cache was altered; too little disk.
    """
    package = PACKAGES["fashion_mnist"]
    groups = GROUPS[data_config.source]
    task = ImageTask(data_config.source, CLASSES, groups, COUNTS["train"], COUNTS["test"], {"files": SHA256}, f"{package.name}: {package.licence}")
    return prepare_images(data_config, cache_dir, task, lambda: read_images(data_config.archive, cache_dir))


def read_images(local: str, cache_dir: Path) -> dict[str, Labelled]:
    """The images and classes of "train" and "test".

    Args:
      local: a copy of the package, a folder with the four original files, or "" to fetch the package.
      cache_dir: the cache.

    Raises:
      FetchError: the package cannot be fetched, or the copy is not what it should be.
      DataError: a file is missing or differs from the original.
    """
    path = Path(local).expanduser() if local else None
    source = path if path is not None and path.is_dir() else _package(local, cache_dir)
    return {split: Labelled(_read(source, images, (28, 28, 1)), _read(source, labels, ()).astype(np.int32)) for split, (images, labels) in FILES.items()}


def _package(local: str, cache_dir: Path) -> Path:
    try:
        return fetch(PACKAGES["fashion_mnist"], cache_dir, local_file=local)
    except FetchError as error:
        raise FetchError(
            f"{error}\nOr name a folder with {', '.join(SHA256)} with {PACKAGES['fashion_mnist'].local_option}=FOLDER; or take Fashion-MNIST from TensorFlow "
            "Datasets (--config.data.source=tfds --config.data.tfds_name=fashion_mnist --config.data.binary=true; the ten classes without the last), or "
            "scikit-learn's digits (--config.data.source=digits_bin)."
        ) from error


def _read(source: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One file of the IDX format, uint8 [n, *shape], from the folder or package that holds it."""
    if source.is_dir():
        if not (source / name).is_file():
            raise DataError(f"{source / name} is missing: the folder should hold {', '.join(SHA256)}.")
        packed = (source / name).read_bytes()
    else:
        packed = read_member(source, f"{MEMBER_FOLDER}/{name}")
    try:
        content = gzip.decompress(packed)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{source}: {name} is damaged ({error}).") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise DataError(f"{source}: {name} is not that of Fashion-MNIST: its content has the sha256 {digest}, expected {SHA256[name]}.")
    header = 4 + 4 * content[3]
    return np.frombuffer(content, np.uint8, offset=header).reshape(-1, *shape)
