"""`jax.jit` for losses that divide by a temperature, which is looked at before it is traced."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import jax

from jaxkd.errors import require_temperature

Arguments = ParamSpec("Arguments")


def jit_tempered(*, static_argnames: Sequence[str]) -> Callable[[Callable[Arguments, jax.Array]], Callable[Arguments, jax.Array]]:
    """`jax.jit` with these static arguments, for a loss with the keyword `temperature`.

    The loss it gives raises ConfigError on a temperature that is a number but not finite and above 0; a traced one passes.
    """

    def decorate(loss: Callable[Arguments, jax.Array]) -> Callable[Arguments, jax.Array]:
        jitted: Any = jax.jit(loss, static_argnames=static_argnames)

        @functools.wraps(loss)
        def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> jax.Array:
            if "temperature" in kwargs:
                require_temperature("temperature", kwargs["temperature"])
            return jitted(*args, **kwargs)

        return checked

    return decorate
