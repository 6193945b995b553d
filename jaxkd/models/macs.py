"""Multiply-accumulate operations of a pure function, counted from the shapes of its convolutions and matrix products."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def equations(jaxpr: Any) -> Iterator[Any]:
    """All equations of a jaxpr and of the jaxprs inside them (jit, custom derivatives, remat)."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "jaxpr") or hasattr(leaf, "eqns")):
            if hasattr(value, "jaxpr"):
                yield from equations(value.jaxpr)
            elif hasattr(value, "eqns"):
                yield from equations(value)


def count_macs(function: Callable[..., Any], *arguments: Any) -> int:
    """Multiply-accumulates of one call, without running it.

    Padding counts like data, as is usual; element-wise work, normalisation and pooling count as nothing. Loops (scan, while) count as one turn.

    Args:
      function: a pure JAX function.
      *arguments: arrays or jax.ShapeDtypeStructs.

    Returns:
      The number of multiply-accumulates of all `conv_general_dilated` and `dot_general` operations.
    """
    total = 0
    for equation in equations(jax.make_jaxpr(function)(*arguments).jaxpr):
        outputs = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += outputs * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            output_channels = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += outputs * math.prod(kernel) // output_channels
    return total
