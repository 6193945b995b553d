"""Max-pooling whose gradient is a comparison with the kept place of the largest element, since that of a window reduction is serial on CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def max_pool(x: jax.Array, height: int, width: int) -> jax.Array:
    """Pools windows of height x width that do not overlap and drops rows and columns beyond the last whole window.

    Of equal maxima the first, row by row, has the gradient, as in PyTorch.

    Args:
      x: [B, H, W, C].
      height: rows of a window.
      width: columns of a window.

    Returns:
      [B, H // height, W // width, C].
    """
    return _pooled(x, height, width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _pooled(x: jax.Array, height: int, width: int) -> jax.Array:
    return _forward(x, height, width)[0]


def _forward(x: jax.Array, height: int, width: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    rows, columns = x.shape[1] // height * height, x.shape[2] // width * width
    first, *others = [x[:, row:rows:height, column:columns:width] for row in range(height) for column in range(width)]
    largest, place = first, jnp.zeros(first.shape, np.min_scalar_type(height * width - 1))
    for number, other in enumerate(others, start=1):
        place = jnp.where(other > largest, place.dtype.type(number), place)
        largest = jnp.maximum(largest, other)
    return largest, (place, jnp.zeros((x.shape[1] - rows, x.shape[2] - columns, 0)))


def _backward(height: int, width: int, kept: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array]:
    place, beyond = kept
    batch, rows, columns, channels = cotangent.shape
    places = jnp.arange(height * width, dtype=place.dtype).reshape(height, 1, width, 1)
    gradient = jnp.where(place[:, :, None, :, None] == places, cotangent[:, :, None, :, None], 0)
    gradient = gradient.reshape(batch, rows * height, columns * width, channels)
    return (jnp.pad(gradient, ((0, 0), (0, beyond.shape[0]), (0, beyond.shape[1]), (0, 0))),)


_pooled.defvjp(_forward, _backward)
