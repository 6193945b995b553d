"""Convolution: the library's, but on a CPU the gradient of some kernels is made of matrix products: `benchmarks/convolutions.py` times both."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

_WIDE = 64
"""Output channels from which a kernel on one input channel has its gradient as a matrix product of shifted inputs."""


class Conv(nn.Module):
    """A convolution without bias, with the parameter and the start of flax's own.

    Attributes:
      features: output channels.
      size: k, of the kernel in both directions.
      kernel_init: of the kernel [k, k, C, features].
      stride: of both directions.
      padding: rows and columns of zeros on each side; half the kernel if None.
    """

    features: int
    size: int
    kernel_init: nn.initializers.Initializer
    stride: int = 1
    padding: int | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', features]."""
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, inputs.shape[-1], self.features))
        return convolve(inputs, kernel, self.stride, self.size // 2 if self.padding is None else self.padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(inputs: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """Convolves in two dimensions.

    Args:
      inputs: [B, H, W, C].
      kernel: [k, k, C, D].
      stride: of both directions.
      padding: rows and columns of zeros on each side.

    Returns:
      [B, H', W', D] with H' = (H + 2 padding - k) // stride + 1, W' alike.
    """
    return _library(inputs, kernel, stride, padding)


def _library(inputs: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    return lax.conv_general_dilated(inputs, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _forward(inputs: jax.Array, kernel: jax.Array, stride: int, padding: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(inputs, kernel, stride, padding), (inputs, kernel)


def _backward(stride: int, padding: int, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = saved
    to_inputs = jax.vjp(lambda x: _library(x, kernel, stride, padding), inputs)[1](cotangent)[0]

    def library_gradient(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jax.vjp(lambda k: _library(inputs, k, stride, padding), kernel)[1](cotangent)[0]

    size, _, entering, leaving = kernel.shape
    if size == stride == 1 and padding == 0:
        product = _pointwise_gradient
    elif entering == 1 and leaving >= _WIDE:
        product = partial(_stacked_gradient, size=size, stride=stride, padding=padding)
    else:
        return to_inputs, library_gradient(inputs, cotangent)
    return to_inputs, lax.platform_dependent(inputs, cotangent, cpu=product, default=library_gradient)


convolve.defvjp(_forward, _backward)


def _pointwise_gradient(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Of a 1x1 kernel: [1, 1, C, D]."""
    rows = inputs.reshape(-1, inputs.shape[-1]), cotangent.reshape(-1, cotangent.shape[-1])
    return lax.dot_general(*rows, (((0,), (0,)), ((), ())))[None, None]


def _stacked_gradient(inputs: jax.Array, cotangent: jax.Array, *, size: int, stride: int, padding: int) -> jax.Array:
    """Of a kernel on one channel, [k, k, 1, D]: one product of the inputs as all taps see them, [k * k, N], and the cotangent."""
    padded = jnp.pad(inputs, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = (stride * (length - 1) + 1 for length in cotangent.shape[1:3])
    seen = [padded[:, row : row + rows : stride, column : column + columns : stride].ravel() for row in range(size) for column in range(size)]
    return (jnp.stack(seen) @ cotangent.reshape(-1, cotangent.shape[-1])).reshape(size, size, 1, -1)
