"""What changes while a student trains, and how it starts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxkd.methods.method import Method

_STREAMS = {"initialisation": 0, "augmentation": 1}


def stream_key(seed: int, stream: str) -> jax.Array:
    """The typed random key of a named stream; streams of one seed are independent."""
    return jax.random.fold_in(jax.random.key(seed), _STREAMS[stream])


class TrainState(NamedTuple):
    """A pytree.

    Attributes:
      step: finished steps, int32 scalar; also the data position and the counter of all randomness.
      params: {"student": ..., "auxiliary": ...}, float32.
      batch_stats: running statistics of the student's BatchNorm.
      optimiser_state: of optax.
      learning_rate_scale: what the plateau schedule multiplies the learning rate by, float32 scalar.
    """

    step: jax.Array
    params: dict[str, Any]
    batch_stats: Any
    optimiser_state: optax.OptState
    learning_rate_scale: jax.Array


def initial_state(
    key: jax.Array, student: Any, method: Method, optimiser: optax.GradientTransformation, inputs: jax.ShapeDtypeStruct, embedding: jax.ShapeDtypeStruct | None
) -> TrainState:
    """Draws the parameters.

    Args:
      key: typed random key.
      student: module from `jaxkd.students.build`.
      method: from `jaxkd.methods.build`.
      optimiser: from `make_optimiser`.
      inputs: shape of what the student takes, [1, T, F].
      embedding: shape of the teacher's embedding, [1, T', D], or None.
    """
    student_key, auxiliary_key = jax.random.split(key)

    def draw() -> TrainState:
        variables = student.init(student_key, jnp.zeros(inputs.shape, inputs.dtype), train=False)
        params: dict[str, Any] = {"student": variables["params"], "auxiliary": {}}
        if method.auxiliary is not None and embedding is not None:
            features = student.apply(variables, jnp.zeros(inputs.shape, inputs.dtype), train=False).features
            params["auxiliary"] = method.auxiliary.init(auxiliary_key, features, jnp.zeros(embedding.shape, jnp.float32)).get("params", {})
        return TrainState(jnp.int32(0), params, variables.get("batch_stats", {}), optimiser.init(params), jnp.float32(1.0))

    return jax.jit(draw)()
