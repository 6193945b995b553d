"""Images of known classes as a task: the classes as they are, or merged to few, so that the original ones are hidden subclasses."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxkd.data.dataset import Dataset, Split, write_dataset
from jaxkd.errors import ConfigError
from jaxkd.files import require_free_disk, sha256_json

FORMAT_VERSION = 1
STREAMS = {"train": 0, "test": 1}


class Labelled(NamedTuple):
    """Images uint8 [n, H, W, channels] and the original class of each, int32 [n]."""

    images: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class ImageTask:
    """What a source of images is made into.

    Attributes:
      source: its name.
      originals: names of the original classes.
      groups: the classes of the task and the original ones that each holds; None for the original classes themselves.
      train: images from which train and valid are drawn.
      test: images from which test is drawn.
      made_from: JSON values that identify the images.
      licence: the terms of the images, in a line.
    """

    source: str
    originals: tuple[str, ...]
    groups: dict[str, tuple[str, ...]] | None
    train: int
    test: int
    made_from: dict[str, Any]
    licence: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the task."""
        return self.originals if self.groups is None else tuple(self.groups)

    def class_of(self) -> np.ndarray:
        """The class of the task that each original class belongs to: int64 [originals]."""
        if self.groups is None:
            return np.arange(len(self.originals))
        return np.array([next(place for place, members in enumerate(self.groups.values()) if name in members) for name in self.originals])


def by_parity(originals: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Two groups by the number of the original class modulo 2 (the paper's CIFAR-bin tasks, arXiv 2409.20449)."""
    return {"even": originals[0::2], "odd": originals[1::2]}


def stratified_order(classes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random order of rows, int64 [n], in which any number of rows from the start holds the classes in proportion, as nearly as whole rows can."""
    shuffled = generator.permutation(len(classes))
    by_class = np.argsort(classes[shuffled], kind="stable")
    _, sizes = np.unique(classes, return_counts=True)
    place = np.empty(len(classes))
    place[by_class] = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes])
    return shuffled[np.argsort(place, kind="stable")]


def _counts(data_config: Any, task: ImageTask) -> dict[str, int]:
    """Rows of each part; raises ConfigError where the images do not suffice."""
    if data_config.valid < 1:
        raise ConfigError(f"config.data.valid is {data_config.valid}: {task.source} needs validation images, at least 1.")
    labelled = data_config.labelled or task.train - data_config.valid
    rest = task.train - data_config.valid - labelled
    unlabelled = rest if data_config.unlabelled == -1 else data_config.unlabelled
    if min(labelled, rest) < 0 or unlabelled > rest:
        raise ConfigError(
            f"config.data asks for valid={data_config.valid}, labelled={data_config.labelled} and unlabelled={data_config.unlabelled} images, but "
            f"{task.source} has {task.train:,} for the three: lower them (labelled=0 takes all but the validation images, unlabelled=-1 the rest)."
        )
    if labelled < len(task.originals):
        raise ConfigError(
            f"config.data.labelled is {labelled}, but must be at least {len(task.originals)}, one image of each original class of {task.source}, or 0 for all."
        )
    if data_config.test > task.test:
        raise ConfigError(f"config.data.test is {data_config.test}, but {task.source} has {task.test:,} test images: lower it, or set it to 0 for all.")
    return {"valid": data_config.valid, "labelled": labelled, "unlabelled": unlabelled, "test": data_config.test or task.test}


def prepare_images(data_config: Any, cache_dir: Path, task: ImageTask, read: Callable[[], dict[str, Labelled]]) -> Dataset:
    """Makes the data set of a task in the cache, or opens it from there.

    Valid, labelled and unlabelled rows are drawn by `data_config.seed`, in this order and stratified by original class: a larger number of labelled rows
    holds the smaller one, and the validation rows are the same for all.

    Args:
      data_config: labelled (0 for all but the validation rows), unlabelled (-1 for the rest), valid, test (0 for all), seed.
      cache_dir: the cache.
      task: what to make.
      read: gives the images of "train" and "test"; called only where the data set is not in the cache.

    Raises:
      ConfigError: more rows than there are, or too few.
      ArtefactError: the data set in the cache was altered; the message names the file and what to remove.
      ResourceError: too little disk.
    """
    counts = _counts(data_config, task)
    made_from = task.made_from | counts | {"format": FORMAT_VERSION, "seed": data_config.seed, "originals": list(task.originals), "groups": task.groups}
    fingerprint = sha256_json(made_from)
    path = Path(cache_dir) / "datasets" / f"{task.source}-{fingerprint[:16]}"
    if path.exists():
        return Dataset.open_verified(path)
    pools = read()
    require_free_disk(cache_dir, sum(pool.images.nbytes for pool in pools.values()) + 10_000_000, f"writing {task.source}")
    orders = {
        part: stratified_order(pool.classes, np.random.Generator(np.random.Philox(np.random.SeedSequence([data_config.seed, STREAMS[part]]))))
        for part, pool in pools.items()
    }
    start, stop = counts["valid"], counts["valid"] + counts["labelled"] + counts["unlabelled"]
    splits = {
        "train": _split("train", pools["train"], orders["train"][start:stop], task),
        "valid": _split("valid", pools["train"], orders["train"][:start], task),
        "test": _split("test", pools["test"], orders["test"][: counts["test"]], task),
    }
    splits["train"].label_mask[counts["labelled"] :] = False
    notes: dict[str, Any] = {"licences": {"images": task.licence}, "unseen": f"{task.source} has no images of another domain"}
    if task.groups is not None:
        notes["classes"] = {name: ", ".join(members) for name, members in task.groups.items()}
    return write_dataset(
        path,
        name=task.source,
        fingerprint=fingerprint,
        modality="image",
        task="multiclass",
        classes=task.classes,
        fine_classes=() if task.groups is None else task.originals,
        splits=splits,
        notes=notes,
        licence=task.licence,
    )


def _split(name: str, pool: Labelled, rows: np.ndarray, task: ImageTask) -> Split:
    originals = pool.classes[rows]
    labels = np.eye(len(task.classes), dtype=np.float32)[task.class_of()[originals]]
    ids = [f"{name}/{index:05d}" for index in range(len(rows))]
    return Split(ids, pool.images[rows], labels, np.ones(labels.shape, np.bool_), None if task.groups is None else originals)
