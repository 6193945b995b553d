"""A network computed in half precision, with its parameters, statistics and results in float32 (Micikevicius et al., arXiv 1710.03740)."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class MixedPrecision:
    """A module whose parts all compute in `dtype`: what goes into each and comes out of it is cast, as is each use of a parameter.

    Gradients are those of the float32 parameters. Statistics of normalisations are computed and kept in float32. bfloat16 has the exponents of float32, so
    that no loss needs a scale.

    Attributes:
      module: its parameters are float32.
      dtype: name of a floating dtype.
    """

    module: nn.Module
    dtype: str

    @property
    def axis_name(self) -> str | None:
        """The module's."""
        return self.module.axis_name  # type: ignore[attr-defined]

    def clone(self, **changes: Any) -> "MixedPrecision":
        """The same with changed attributes of the module."""
        return dataclasses.replace(self, module=self.module.clone(**changes))

    def init(self, key: jax.Array, inputs: jax.Array, *, train: bool) -> Any:
        """The module's parameters and statistics, float32."""
        return self.module.init(key, inputs, train=train)

    def apply(self, variables: Any, *inputs: jax.Array, train: bool, **keywords: Any) -> Any:
        """The module's result with floats as float32; with `mutable` among the keywords of flax's `apply`, and the variables that it changed."""
        low = {**variables, "params": self._cast(variables["params"])}

        def call(module: nn.Module, *inputs: jax.Array) -> Any:
            with nn.intercept_methods(self._in_dtype):
                return _floats_to(module(*inputs, train=train), jnp.float32)  # type: ignore[operator]

        return nn.apply(call, self.module, mutable=keywords.pop("mutable", False))(low, *inputs, **keywords)

    def _in_dtype(self, method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return method(*args, **kwargs)
        args, kwargs = self._cast((args, kwargs))
        return self._cast(method(*args, **kwargs))

    def _cast(self, tree: Any) -> Any:
        return _floats_to(tree, jnp.dtype(self.dtype))


def _floats_to(tree: Any, dtype: Any) -> Any:
    def cast(leaf: Any) -> Any:
        return leaf.astype(dtype) if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)
