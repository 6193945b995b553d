"""Products of frozen networks: operands in the dtype of the kernel, sums and results in float32."""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.types import Array


def with_kernels(params: Mapping[str, Mapping[str, np.ndarray]], dtype: str) -> dict[str, dict[str, np.ndarray]]:
    """The params with each "kernel" in this dtype; all else as it is, so that only products are computed in it."""
    return {name: {part: values.astype(jnp.dtype(dtype)) if part == "kernel" else values for part, values in block.items()} for name, block in params.items()}


def computed_in(dtype: str) -> dict[str, str]:
    """What the identity of an embedding says of the dtype: nothing of float32, the usual one."""
    return {} if dtype == "float32" else {"compute_dtype": dtype}


def convolve_in_dtype(values: Array, kernel: Array, padding: Literal["SAME", "VALID"]) -> jax.Array:
    """A convolution of stride 1: [B, H, W, in] and [h, w, in, out] -> float32 [B, H', W', out]."""
    return jax.lax.conv_general_dilated(
        jnp.asarray(values).astype(kernel.dtype),
        jnp.asarray(kernel),
        (1, 1),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )


def multiply_in_dtype(values: Array, kernel: Array) -> jax.Array:
    """[B, in] and [in, out] -> float32 [B, out]."""
    return jnp.matmul(jnp.asarray(values).astype(kernel.dtype), kernel, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
