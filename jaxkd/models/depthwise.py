"""Depthwise convolution: the library's on accelerators, sums of shifted products on a CPU: `benchmarks/convolutions.py` times both."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv(inputs: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolves every channel with a kernel of its own, padded by half the kernel on all sides.

    Args:
      inputs: [B, H, W, C].
      kernel: [k, k, 1, C] with k odd, of the dtype of `inputs`.
      stride: of both directions.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), C].
    """
    return lax.platform_dependent(inputs, kernel, cpu=_in_float32(partial(_shifted, stride=stride)), default=partial(_library, stride=stride))


def _forward(inputs: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise_conv(inputs, kernel, stride), (inputs, kernel)


def _backward(stride: int, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    on_cpu = _in_float32(partial(_shifted_gradients, stride=stride))
    return lax.platform_dependent(*saved, cotangent, cpu=on_cpu, default=partial(_library_gradients, stride=stride))


depthwise_conv.defvjp(_forward, _backward)


def _in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """Its sums in float32 at least, as those of the library are, and its results in the dtype of the arrays."""

    def call(*arrays: jax.Array) -> Any:
        results = function(*(x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in arrays))
        return jax.tree.map(lambda x: x.astype(arrays[0].dtype), results)

    return call


def _library(inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    padding = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return lax.conv_general_dilated(inputs, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=inputs.shape[-1])


def _library_gradients(inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    gradients = jax.vjp(partial(_library, stride=stride), inputs, kernel)[1](cotangent)
    return gradients[0], gradients[1]


def _padded(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.pad(inputs, [(0, 0), *[(size // 2, size // 2) for size in kernel.shape[:2]], (0, 0)])


def _taps(kernel: jax.Array) -> Iterator[tuple[int, int]]:
    return ((row, column) for row in range(kernel.shape[0]) for column in range(kernel.shape[1]))


def _every(start: int, count: int, stride: int) -> slice:
    return slice(start, start + stride * (count - 1) + 1, stride)


def _shifted(inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    height, width = (-(-size // stride) for size in inputs.shape[1:3])
    return _sum_of_taps(_padded(inputs, kernel), kernel, height, width, stride)


def _sum_of_taps(padded: jax.Array, kernel: jax.Array, height: int, width: int, stride: int) -> jax.Array:
    products = (padded[:, _every(row, height, stride), _every(column, width, stride)] * kernel[row, column, 0] for row, column in _taps(kernel))
    return sum(products, start=jnp.zeros((), padded.dtype))


def _shifted_gradients(inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    """The gradient of the inputs is a convolution too, of the cotangent with rows and columns of zeros between its own, by the kernel turned around.

    The gradient of the kernel is summed over rows term by term: a reduction of the whole map is serial and not vectorised.
    """
    spread = [(0, 0, 0)]
    for place in (0, 1):
        before, last = kernel.shape[place] // 2, stride * (cotangent.shape[1 + place] - 1)
        spread.append((before, inputs.shape[1 + place] - 1 - last + before, stride - 1))
    apart = lax.pad(cotangent, jnp.zeros((), cotangent.dtype), [*spread, (0, 0, 0)])
    to_inputs = _sum_of_taps(apart, kernel[::-1, ::-1], inputs.shape[1], inputs.shape[2], 1)
    padded = _padded(inputs, kernel)
    height, width = cotangent.shape[1:3]

    def row_sum(row: int, column: int) -> jax.Array:
        columns = _every(column, width, stride)
        return sum((padded[:, row + stride * place, columns] * cotangent[:, place] for place in range(height)), start=jnp.zeros((), inputs.dtype))

    sums = lax.optimization_barrier(jnp.stack([row_sum(row, column) for row, column in _taps(kernel)]))
    return to_inputs, sums.sum(axis=(1, 2)).reshape(kernel.shape)
