"""The pure steps: one update of the state, and one evaluation of a batch."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxkd.data.loader import TrainBatch
from jaxkd.data.transforms import mixup
from jaxkd.losses import distance_correlation_loss
from jaxkd.methods.method import Method
from jaxkd.parallel import Devices, row_keys
from jaxkd.training.state import TrainState, stream_key
from jaxkd.types import Array, Batch, StudentOutputs


class Normalisation(NamedTuple):
    """What is subtracted from the teacher's embedding, and what it is then divided by, float32 [D] each; "zscore": its mean and standard deviation."""

    mean: Array
    std: Array

    def __call__(self, embedding: Array | None) -> jax.Array | None:
        """[B, T, D] -> float32 [B, T, D]; None stays None."""
        return None if embedding is None else (jnp.asarray(embedding).astype(jnp.float32) - self.mean) / self.std


class Experiment(NamedTuple):
    """The parts that a step is made of.

    Attributes:
      student: module from `jaxkd.students.build`.
      method: from `jaxkd.methods.build`.
      optimiser: from `jaxkd.training.optimiser.make_optimiser`.
      transform: from inputs to what the student takes, f(keys or None, inputs).
      normalisation: of the embedding.
      mixup_mask: "and" or "or".
      seed: of all randomness in the step.
      gather: from the parameters as they lie between steps to whole ones.
      between_rows: makes of f(whole, rows, *, axis_name) one that knows the devices over which the rows are split, see `jaxkd.parallel.Devices`.
    """

    student: Any
    method: Method
    optimiser: optax.GradientTransformation
    transform: Callable[[Any, jax.Array], jax.Array]
    normalisation: Normalisation
    mixup_mask: str
    seed: int
    gather: Callable[[Any], Any] = lambda params: params
    between_rows: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function

    def on(self, devices: Devices) -> "Experiment":
        """The same parts inside a step on these devices."""
        return self._replace(transform=devices.by_rows(self.transform), gather=devices.gather_parameters, between_rows=devices.between_rows)

    def student_alone(self) -> Any:
        """The student as one device runs it."""
        return self.student.clone(axis_name=None) if hasattr(self.student, "axis_name") else self.student


def _augmented(experiment: Experiment, batch: TrainBatch, key: jax.Array, axis_name: str | None) -> Batch:
    def prepare(name: int, rows: Batch) -> Batch:
        keys = row_keys(jax.random.fold_in(key, name), rows.inputs.shape[0], axis_name)
        return rows._replace(inputs=experiment.transform(keys, rows.inputs), embedding=experiment.normalisation(rows.embedding))

    rows = prepare(0, batch.rows)
    if batch.partners is None:
        return rows
    return mixup(rows, prepare(1, batch.partners), jnp.asarray(batch.mixup_weight), mask=experiment.mixup_mask)


def train_step(experiment: Experiment, state: TrainState, batch: TrainBatch, *, axis_name: str | None = None) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update.

    Args:
      experiment: what the step is made of; constant.
      state: before the step.
      batch: the rows of this replica (all rows outside pmap).
      axis_name: the pmap axis, or None.

    Returns:
      The state after the step, and scalars: the method's terms and "gradient_norm".
    """
    rows = _augmented(experiment, batch, jax.random.fold_in(stream_key(experiment.seed, "augmentation"), state.step), axis_name)
    method = experiment.method
    method_key = jax.random.fold_in(stream_key(experiment.seed, "method"), state.step)

    def loss(params: dict[str, Any]) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any, Any]]:
        variables = {"params": params["student"], "batch_stats": state.batch_stats}
        dropout = jax.random.fold_in(stream_key(experiment.seed, "dropout"), state.step)
        outputs, mutated = experiment.student.apply(variables, rows.inputs, train=True, mutable=["batch_stats"], rngs={"dropout": dropout})
        terms, memory = _terms(experiment, params, outputs, rows, state.memory, method_key, axis_name)
        return terms["loss"], (terms, mutated.get("batch_stats", {}), memory)

    gradients, (terms, batch_stats, memory) = jax.grad(loss, has_aux=True)(experiment.gather(state.params))
    if axis_name is not None:
        gradients = jax.lax.pmean(gradients, axis_name)
    updates, optimiser_state = experiment.optimiser.update(gradients, state.optimiser_state, state.params)
    updates = jax.tree.map(lambda update: update * state.learning_rate_scale, updates)
    params = optax.apply_updates(state.params, updates)
    if method.teacher_first_steps:
        student_learns = state.step >= method.teacher_first_steps
        batch_stats = jax.tree.map(lambda new, old: jnp.where(student_learns, new, old), batch_stats, state.batch_stats)
    state = state._replace(step=state.step + 1, params=params, batch_stats=batch_stats, memory=memory, optimiser_state=optimiser_state)
    return state, {**terms, "gradient_norm": optax.tree.norm(gradients)}


def train_steps(
    experiment: Experiment, state: TrainState, batches: Sequence[TrainBatch], *, unroll: bool, axis_name: str | None = None
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Several updates in one program.

    Args:
      experiment: as `state` and `axis_name` those of `train_step`.
      state: before the steps.
      batches: one for each step, whose arrays have the same shapes.
      unroll: whether the steps follow one another in the program, as is needed on a CPU, where XLA computes gradients of convolutions many times more slowly
        inside a loop; else they are a loop.
      axis_name: the pmap axis, or None.

    Returns:
      The state after the last step, and the terms of `train_step`, each [steps].
    """
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *batches)
    return jax.lax.scan(functools.partial(train_step, experiment, axis_name=axis_name), state, stacked, unroll=unroll)


def _terms(
    experiment: Experiment, params: dict[str, Any], outputs: StudentOutputs, rows: Batch, memory: Any, key: jax.Array, axis_name: str | None
) -> tuple[dict[str, jax.Array], Any]:
    """The method's terms and its memory afterwards."""
    method = experiment.method

    def losses(whole: tuple[Any, Any, jax.Array], of_rows: tuple[StudentOutputs, Batch], *, axis_name: str | None) -> tuple[dict[str, jax.Array], Any]:
        (auxiliary_params, memory, key), (outputs, rows) = whole, of_rows
        auxiliary = _auxiliary(method, auxiliary_params, outputs, rows)
        if method.initial_memory is None:
            return method.losses(outputs, auxiliary, rows, axis_name), None
        return method.losses(outputs, auxiliary, rows, axis_name, memory=memory, key=key)

    bound = functools.partial(losses, axis_name=axis_name)
    over_devices = experiment.between_rows(bound) if method.sums_over_axis else bound
    return over_devices((params.get("auxiliary"), memory, key), (outputs, rows))


def _auxiliary(method: Method, params: Any, outputs: StudentOutputs, rows: Batch) -> Any:
    return None if method.auxiliary is None else method.auxiliary.apply({"params": params}, outputs, rows)


def eval_step(experiment: Experiment, state: TrainState, batch: Batch, *, axis_name: str | None = None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Logits of the K labels [B, K] of the global batch and the method's terms on it, without augmentation and with running statistics.

    With an embedding the terms have "distance_correlation_raw", the squared bias-corrected one of the student's features with it, both as means over time,
    and "distance_correlation_compact", that with the compact embedding: unlike the distances they can be compared between batch sizes and widths.
    """
    rows = batch._replace(inputs=experiment.transform(None, batch.inputs), embedding=experiment.normalisation(batch.embedding))
    method, params = experiment.method, experiment.gather(state.params)
    outputs = experiment.student.apply({"params": params["student"], "batch_stats": state.batch_stats}, rows.inputs, train=False)
    logits = method.label_logits(outputs.logits)
    if axis_name is not None:
        logits = jax.lax.all_gather(logits, axis_name, tiled=True)
    terms, _ = _terms(experiment, params, outputs, rows, state.memory, stream_key(experiment.seed, "method"), axis_name)
    targets = {} if rows.embedding is None else {"raw": rows.embedding}
    if method.compact is not None:
        targets["compact"] = method.compact(_auxiliary(method, params["auxiliary"], outputs, rows))
    return logits, terms | {f"distance_correlation_{name}": _shared(outputs.features, target, rows.where, axis_name) for name, target in targets.items()}


def _shared(features: jax.Array, target: Array, where: Array | None, axis_name: str | None) -> jax.Array:
    means = (jnp.mean(side, axis=1, keepdims=True) for side in (features, target))
    return 1 - distance_correlation_loss(*means, bias_corrected=True, where=where, axis_name=axis_name)
