"""What changes while a student trains, and how it starts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxkd.errors import ConfigError
from jaxkd.methods.method import Method
from jaxkd.parallel import Devices
from jaxkd.types import Batch

_STREAMS = {"initialisation": 0, "augmentation": 1, "dropout": 2, "method": 3}


def stream_key(seed: int, stream: str) -> jax.Array:
    """The typed random key of a named stream; streams of one seed are independent."""
    return jax.random.fold_in(jax.random.key(seed), _STREAMS[stream])


class TrainState(NamedTuple):
    """A pytree.

    Attributes:
      step: finished steps, int32 scalar; also the data position and the counter of all randomness.
      params: {"student": ..., "auxiliary": ...}, float32.
      batch_stats: running statistics of the student's BatchNorm.
      memory: what a method remembers between steps (see `Method.initial_memory`), or None.
      optimiser_state: of optax.
      learning_rate_scale: what the plateau schedule multiplies the learning rate by, float32 scalar.
    """

    step: jax.Array
    params: dict[str, Any]
    batch_stats: Any
    memory: Any
    optimiser_state: optax.OptState
    learning_rate_scale: jax.Array


def with_pretrained(drawn: dict[str, Any], pretrained: dict[str, Any]) -> dict[str, Any]:
    """A network's parameters with pretrained branches in place of the drawn ones.

    Args:
      drawn: all branches.
      pretrained: some of them, each with the names and shapes of the drawn one.

    Raises:
      ConfigError: a pretrained parameter is absent, unknown to the network, or of another shape; the message names it.
    """
    replaced = {branch: drawn.get(branch, {}) for branch in pretrained}
    expected, found = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (replaced, pretrained)
    )
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            given, needed = (f"has the shape {shapes[name]}" if name in shapes else "is absent" for shapes in (found, expected))
            raise ConfigError(f"the pretrained parameter {name} {given}, but in the network it {needed}: take weights and sizes of one model.")
    return {**drawn, **pretrained}


def initial_state(
    key: jax.Array, student: Any, method: Method, optimiser: optax.GradientTransformation, example: Batch, devices: Devices, pretrained: Any = None
) -> TrainState:
    """Draws the parameters, each device the parts that it keeps between steps; all processes of a job must call it.

    Args:
      key: typed random key.
      student: module from `jaxkd.students.build`.
      method: from `jaxkd.methods.build`.
      optimiser: from `make_optimiser`.
      example: a batch as the step sees it after its transforms, of arrays or of their shapes.
      devices: where the state lies.
      pretrained: parameters that replace those drawn: branches of the student's, in host memory, or None.

    Raises:
      ConfigError: as `with_pretrained`.
    """
    student_key, auxiliary_key = jax.random.split(key)

    def draw(pretrained: Any) -> TrainState:
        rows = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), example)
        variables = student.init(student_key, rows.inputs, train=False)
        params: dict[str, Any] = {"student": with_pretrained(variables["params"], pretrained or {}), "auxiliary": {}}
        if method.auxiliary is not None:
            outputs = student.apply(variables, rows.inputs, train=False)
            params["auxiliary"] = method.auxiliary.init(auxiliary_key, outputs, rows).get("params", {})
        memory = None if method.initial_memory is None else method.initial_memory(jax.random.fold_in(auxiliary_key, 0))
        return TrainState(jnp.int32(0), params, variables.get("batch_stats", {}), memory, optimiser.init(params), jnp.float32(1.0))

    shapes = jax.eval_shape(draw, pretrained)
    shardings = jax.tree.map(lambda _: devices.replicated, shapes)
    parts = {name: devices.parameter_shardings(getattr(shapes, name)) for name in ("params", "optimiser_state")}
    return jax.jit(draw, out_shardings=shardings._replace(**parts))(pretrained)
