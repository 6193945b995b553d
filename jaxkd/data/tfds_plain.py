"""Preparing a TFDS data set whose builder needs TensorFlow for nothing but opening files and writing images as PNG: both are done without it here."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

PLAIN_BUILDERS = ("sentiment140", "cifar10", "cifar100", "mnist", "fashion_mnist")


@contextlib.contextmanager
def without_tensorflow(builder: Any) -> Iterator[None]:
    """While it lasts, a builder of `PLAIN_BUILDERS` opens files with `open` and encodes images with Pillow."""
    module: Any = sys.modules[type(builder).__module__]
    images: list[Any] = [feature for feature in builder.info.features.values() if isinstance(feature, tfds.features.Image)]
    original = module.tf
    module.tf = SimpleNamespace(io=SimpleNamespace(gfile=SimpleNamespace(GFile=open)))
    for feature in images:
        feature.encode_example = _from_array(feature.encode_example)
    try:
        yield
    finally:
        module.tf = original
        for feature in images:
            del feature.encode_example


def _from_array(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda image: encode(_png(image) if isinstance(image, np.ndarray) else image)


def _png(image: np.ndarray) -> bytes:
    """An image uint8 [H, W, 1 or 3] as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, format="PNG")
    return buffer.getvalue()
