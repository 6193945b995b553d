"""Source "image_folder": the user's own images, in one folder a class.

`data.folder` holds PART/CLASS/FILE with the parts train and, where there are such, valid, test and unseen; or CLASS/FILE, from which valid and test rows
are drawn by seed. Beside train, a folder `unlabelled` may hold images without a class. Folders within a class folder belong to the class; what a name
hides that begins with "." is not read, nor are files beside the class folders. PNG, JPEG, WebP, BMP, TIFF, GIF (of several frames the first) and PPM are
read, 8 bits a channel, turned as their EXIF data say.

The id of an example is its path below `data.folder`, "train/cat/0001.png".
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from jaxkd.data.clips import checksums, in_threads
from jaxkd.data.dataset import Dataset
from jaxkd.data.labelled_split import UNLABELLED, Corpus, Examples, prepare_corpus
from jaxkd.errors import ConfigError, DataError
from jaxkd.files import require_free_memory

NAME = "image_folder"
PARTS = ("train", "valid", "test", "unseen")
WITHOUT_CLASS = "unlabelled"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""By number of channels."""
MEMORY_FACTOR = 4
LICENCE = "the terms of your images"


class _File(NamedTuple):
    """A file, its part and the place of its class."""

    path: Path
    part: str
    label: int


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Draws the data set that `data_config` describes (see `jaxkd.data.labelled_split.prepare_corpus`), or opens it from the cache.

    The classes are the folders of the training part, sorted. All images must have one size and number of channels, unless `data_config.image_size` is set:
    then the shorter side of each is brought to it (bilinear, antialiased), the centre is cut out as a square, and grey images among coloured ones become
    coloured.

    Raises:
      ConfigError: no folder is named; more rows than there are, or too few.
      DataError: a folder is missing, empty or of no class, there are fewer than two classes, a file is no image, is damaged, or is unlike the first; the
        message names it.
      ArtefactError, ResourceError: the data set in the cache was altered; too little disk or memory.
    """
    if not data_config.folder:
        raise ConfigError(f"data.source={NAME} needs data.folder=FOLDER, which holds a folder of images for each class, or train/CLASS/FILE and the like.")
    folder, size = Path(data_config.folder).expanduser(), data_config.image_size
    classes, files = _listed(folder)
    ids = [file.path.relative_to(folder).as_posix() for file in files]
    digests = checksums([file.path for file in files], "checking images")

    def load() -> Corpus:
        notes: dict[str, Any] = {}
        images = _read_all([file.path for file in files], size, notes)
        places, labels = np.array([file.part for file in files]), np.array([file.label for file in files], np.int32)
        parts: dict[str, Examples] = {}
        for part in dict.fromkeys(places.tolist()):
            rows = np.flatnonzero(places == part)
            parts[part] = Examples(images[rows[0] : rows[-1] + 1], labels[rows], ids=[ids[row] for row in rows])
        licences = {"images": LICENCE}
        return Corpus(parts["train"], parts.get("test"), parts.get("unseen"), classes, None, licences, notes, parts.get("valid"))

    made_from = {"files": list(zip(ids, digests, strict=True)), "image_size": size}
    return prepare_corpus(data_config, cache_dir, name=NAME, made_from=made_from, load=load)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    """The files below a folder that are not hidden."""
    if not folder.is_dir():
        return []
    visible = (path for path in sorted(folder.rglob("*")) if not any(name.startswith(".") for name in path.relative_to(folder).parts))
    return [path for path in visible if path.is_file()]


def _listed(folder: Path) -> tuple[tuple[str, ...], list[_File]]:
    """The classes, and the files part by part."""
    if not folder.is_dir():
        raise DataError(f"data.folder={folder} does not exist: name a folder with a folder of images for each class.")
    parts = {part: folder / part for part in PARTS if (folder / part).is_dir()}
    if parts:
        wrong = [path for path in _folders(folder) if path.name not in (*PARTS, WITHOUT_CLASS)]
        if wrong:
            raise DataError(f"{wrong[0]} is none of the parts {', '.join(PARTS)} and {WITHOUT_CLASS}: rename it, or move it elsewhere.")
        if "train" not in parts:
            raise DataError(f"{folder} has the parts {', '.join(parts)}, but no folder train: add it, or rename the folders if these are classes.")
    else:
        parts = {"train": folder}
    classes = tuple(path.name for path in _folders(parts["train"]))
    if len(classes) < 2:
        raise DataError(f"{parts['train']} has {len(classes)} folders of images, but must have at least 2, one for each class.")
    found = []
    for part, place in parts.items():
        of_classes = _folders(place)
        if not of_classes:
            raise DataError(f"{place} holds no folder of a class: add them, or remove it, and its rows are drawn from the training part.")
        for path in of_classes:
            if path.name not in classes:
                raise DataError(
                    f"{path}: the training part has no class {path.name!r} ({parts['train'] / path.name} is missing): add it there, or remove it here."
                )
            images = _files(path)
            if not images:
                raise DataError(f"{path} holds no images: add some, or remove the folder.")
            found += [_File(image, part, classes.index(path.name)) for image in images]
        if part == "train" and place != folder:
            found += [_File(image, part, UNLABELLED) for image in _files(folder / WITHOUT_CLASS)]
    return classes, found


def _read_all(paths: Sequence[Path], size: int, notes: dict[str, Any]) -> np.ndarray:
    """The images of these files, uint8 [n, H, W, channels]; `notes` tells what was done to them."""
    first = _read(paths[0], size)
    require_free_memory(MEMORY_FACTOR * len(paths) * first.nbytes, f"reading {len(paths):,} images of {_shape(first)}")

    def read(path: Path) -> np.ndarray:
        image = _read(path, size)
        if not size and image.shape != first.shape:
            raise DataError(
                f"{path} is {_shape(image)}, but {paths[0]} is {_shape(first)}: all images must be alike. Bring them to one size and number of channels with "
                f"--config.data.image_size={min(first.shape[:2])} (or another size), or replace the file."
            )
        return image

    images = [image for some in in_threads(read, paths, "reading images", "image") for image in some]
    channels = max(image.shape[-1] for image in images)
    narrow = sum(image.shape[-1] < channels for image in images)
    if size:
        notes["images"] = f"brought to {size}x{size}: the shorter side resized, the centre cut out"
    if narrow:
        notes["images of fewer channels"] = f"{narrow:,} of {len(images):,}, brought to {channels}"
    return np.stack([_widened(image, channels) for image in images])


def _widened(image: np.ndarray, channels: int) -> np.ndarray:
    """An image with more channels: grey in all three colours, and opaque."""
    if image.shape[-1] == channels:
        return image
    coloured = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    return np.pad(coloured, [(0, 0), (0, 0), (0, channels - coloured.shape[-1])], constant_values=255)


def _shape(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]} with {image.shape[2]} channel{'s' if image.shape[2] > 1 else ''}"


def _read(path: Path, size: int) -> np.ndarray:
    """An image, uint8 [H, W, channels]: 1 channel of grey, 3 of colour, or 4 with transparency; with `size`, of that height and width."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{path} has more than 8 bits a channel (Pillow's mode {image.mode}): save it with 8.")
            ImageOps.exif_transpose(image, in_place=True)
            channels = 4 if image.has_transparency_data else 1 if image.mode in ("1", "L") else 3
            shown = image.convert(MODES[channels])
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no image that can be read, or is damaged ({error}): replace or remove it. Read are {', '.join(FORMATS)}.") from error
    if size:
        shown = _fitted(shown, size)
    return np.asarray(shown, np.uint8).reshape(shown.height, shown.width, channels)


def _fitted(image: Image.Image, size: int) -> Image.Image:
    """The centre of an image whose shorter side was brought to `size`."""
    shorter = min(image.size)
    width, height = (size * side // shorter for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
