"""Augmented views of images as examples of their own, so that a teacher embeds each of them once and never runs in training."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxkd.data.dataset import Dataset
from jaxkd.errors import ConfigError
from jaxkd.files import sha256_json
from jaxkd.types import Gatherable

VIEW = re.compile(r"@(\d+)$")
STREAM = 5
FORMAT_VERSION = 1


def base_id(example: str) -> str:
    """The id of the image that an example is a view of: "train/00012" for "train/00012@3" and for itself."""
    return VIEW.sub("", example)


def base_ids(ids: Sequence[str]) -> list[str]:
    """The ids of `ids` that are images as they are (view 0), without the augmented views."""
    return [example for example in ids if not VIEW.search(example)]


class OfImage(NamedTuple):
    """Rows of images for their views: every view is given the row of view 0."""

    source: Gatherable

    def gather(self, ids: Sequence[str]) -> np.ndarray:
        """Rows in the order of `ids`."""
        return self.source.gather([base_id(example) for example in ids])


class Views(Dataset):
    """An image data set in which every training image is there in several views.

    View 0 is the image as it is, under its own id; view v of "train/00012" is "train/00012@v". A view is a random crop of the image padded with zeros
    and, by a fair coin, its mirror image: a pure function of the seed, the image's place in the training split, and v. Views follow their image in
    the split and share its labels. The other splits are those of the data set.

    Args:
      dataset: of modality "image".
      views: of each training image, at least 1.
      pad: the largest shift in pixels, in both directions.
      flip: whether images are mirrored.
      seed: of crops and mirroring.
      clean_targets: whether the teacher sees view 0 only, and its answer stands for all views of the image.

    Attributes:
      views: as given.
      embedded: what the teacher embeds: the views, or with `clean_targets` the data set without them.

    Raises:
      ConfigError: another modality, or an impossible number of views or pad.
    """

    def __init__(self, dataset: Dataset, *, views: int, pad: int, flip: bool, seed: int, clean_targets: bool = False) -> None:
        if dataset.modality != "image":
            raise ConfigError(f"config.data.views is {views}, but the data set {dataset.name} holds {dataset.modality}: set it to 1.")
        if views < 1:
            raise ConfigError(f"config.data.views is {views}, but must be at least 1.")
        if not 0 <= pad < min(dataset.input_shape[:2]):
            raise ConfigError(f"config.data.view_pad is {pad}, but must be from 0 to {min(dataset.input_shape[:2]) - 1} for images of {dataset.input_shape}.")
        vars(self).update(vars(dataset))
        self.fully_labelled = self
        train = dataset.splits["train"]
        self.views = views
        self.splits = dataset.splits | {
            "train": [f"{example}@{view}" if view else example for example in train for view in range(views)],
        }
        self._rows = dataset._rows | {example: dataset._rows[train[place // views]] for place, example in enumerate(self.splits["train"])}
        self._pad = pad
        self._crops = _draw_crops(len(train), views, pad, flip, seed)
        made_from = {"format": FORMAT_VERSION, "data": dataset.fingerprint, "views": views, "pad": pad, "flip": flip, "seed": seed, "clean": clean_targets}
        self.fingerprint = sha256_json(made_from)
        self.embedded: Dataset = dataset if clean_targets else self

    def teacher_side(self, source: Gatherable) -> Gatherable:
        """What was made from `embedded`, as it is read by the ids of the views."""
        return source if self.embedded is self else OfImage(source)

    def gather(self, ids: Sequence[str]) -> np.ndarray:
        """Images of the ids, in their order, each as its view shows it: uint8 [n, H, W, channels].

        Raises:
          DataError: an id is not in the data set.
        """
        images = super().gather(ids)
        views = np.array([int(match[1]) if (match := VIEW.search(example)) else 0 for example in ids], np.int64)
        augmented = np.flatnonzero(views)
        rows = self._places([ids[place] for place in augmented.tolist()])["train"][1] if len(augmented) else augmented
        images[augmented] = _cropped(images[augmented], self._crops[views[augmented], rows], self._pad)
        return images


def _draw_crops(count: int, views: int, pad: int, flip: bool, seed: int) -> np.ndarray:
    """Rows and columns to skip of the padded image, and whether it is mirrored: int16 [views, count, 3]."""
    uniform = np.stack([np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, STREAM, view]))).random((count, 3)) for view in range(views)])
    return (uniform * [2 * pad + 1, 2 * pad + 1, 1 + flip]).astype(np.int16)


def _cropped(images: np.ndarray, crops: np.ndarray, pad: int) -> np.ndarray:
    """Crops [n, 3] of the padded images [n, H, W, channels], of their size."""
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    cropped = np.moveaxis(windows[np.arange(len(images)), crops[:, 0], crops[:, 1]], 1, -1)
    return np.where(crops[:, 2, None, None, None] == 1, cropped[:, :, ::-1], cropped)
