"""From stored pixels to what a network for images takes: a pure function that runs inside the compiled step, and the statistics it needs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.data.dataset import Dataset
from jaxkd.data.views import base_ids

LARGEST_VALUE = 255
ROWS_AT_ONCE = 4096


def image_transform(mean: np.ndarray, std: np.ndarray) -> Callable[[Any, jax.Array], jax.Array]:
    """Scales pixels to [0, 1] and normalises each channel. It augments nothing: augmented views are examples of their own (`jaxkd.data.views`).

    Args:
      mean: of each channel, float32 [channels], of pixels in [0, 1].
      std: standard deviation of each channel, float32 [channels], above 0.

    Returns:
      f(keys, inputs): keys are not used; uint8 [B, H, W, channels] -> float32 [B, H, W, channels].
    """
    return lambda keys, inputs: (jnp.asarray(inputs).astype(jnp.float32) / LARGEST_VALUE - mean) / std


def pixel_statistics(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over the training images, without augmented views.

    Args:
      dataset: of modality "image".

    Returns:
      float32 [channels] each, of pixels in [0, 1]; the deviation is 1 for a channel that is constant.
    """
    ids = base_ids(dataset.splits["train"])
    channels = dataset.input_shape[-1]
    counts = np.zeros((channels, LARGEST_VALUE + 1), np.int64)
    for start in range(0, len(ids), ROWS_AT_ONCE):
        images = dataset.gather(ids[start : start + ROWS_AT_ONCE])
        counts += [np.bincount(images[..., channel].ravel(), minlength=LARGEST_VALUE + 1) for channel in range(channels)]
    values = np.arange(LARGEST_VALUE + 1) / LARGEST_VALUE
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    return mean.astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32)
