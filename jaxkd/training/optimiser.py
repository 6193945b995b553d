"""The optimiser: clipping and Adam, apart for the student's side and the teacher's side; schedules."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxkd.methods.method import Method


def make_optimiser(settings: Any, method: Method) -> optax.GradientTransformation:
    """Builds the optimiser of an experiment.

    Each group has its own chain of global-norm clipping and Adam, so that neither the norm nor the weight of one side changes the other. Where the method
    trains the teacher's side first, each group has its own schedule too, over the steps in which it is trained.
    "adam" adds the weight decay to the gradient before Adam (coupled L2, as torch's Adam and EAsT have it), "adamw" after it.

    Args:
      settings: config.training.
      method: names the auxiliary submodules of the teacher's side, and the steps in which it is trained alone.
    """

    def chain(steps: int) -> optax.GradientTransformation:
        decay = optax.add_decayed_weights(settings.weight_decay)
        adam = [decay, optax.scale_by_adam()] if settings.optimiser == "adam" else [optax.scale_by_adam(), decay]
        return optax.chain(_clip(settings.clip_norm), *adam, optax.scale_by_learning_rate(learning_rate(settings, steps)))

    def group(path: tuple[Any, ...], _: Any) -> str:
        on_teacher_side = path[0].key == "auxiliary" and path[1].key in method.teacher_side
        return "teacher" if on_teacher_side else "student"

    first = method.teacher_first_steps
    student, teacher = chain(settings.steps - first), chain(first or settings.steps)
    if first:
        student, teacher = _during(student, lambda step: step >= first), _during(teacher, lambda step: step < first)
    return optax.multi_transform({"student": student, "teacher": teacher}, lambda params: jax.tree.map_with_path(group, params))


def _clip(most: float) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm` by one factor for all arrays: a product that XLA fuses into what follows, where a division and a selection cost a pass."""

    def update(updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None) -> tuple[optax.Updates, optax.OptState]:
        factor = jnp.minimum(1.0, most / optax.tree.norm(updates))
        return jax.tree.map(lambda update: factor * update, updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


class _Paused(NamedTuple):
    step: jax.Array
    inner: optax.OptState


def _during(inner: optax.GradientTransformation, trains: Callable[[jax.Array], jax.Array]) -> optax.GradientTransformation:
    """`inner` in the steps in which `trains(step)`; in the others updates are 0 and its state stands still. Both are computed, and one is selected."""

    def init(params: optax.Params) -> _Paused:
        return _Paused(jnp.zeros((), jnp.int32), inner.init(params))

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None) -> tuple[optax.Updates, _Paused]:
        on = trains(state.step)
        updates, moved = inner.update(updates, state.inner, params)
        updates = jax.tree.map(lambda update: jnp.where(on, update, 0), updates)
        return updates, _Paused(state.step + 1, jax.tree.map(lambda new, old: jnp.where(on, new, old), moved, state.inner))

    return optax.GradientTransformation(init, update)


def learning_rate(settings: Any, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then a cosine that is 0 after `steps`, or constant (which a plateau scales down)."""
    if settings.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, settings.learning_rate, settings.warmup_steps, steps)
    if not settings.warmup_steps:
        return optax.constant_schedule(settings.learning_rate)
    return optax.warmup_constant_schedule(0.0, settings.learning_rate, settings.warmup_steps)


class Plateau(NamedTuple):
    """Learning-rate reduction on a plateau of the validation loss, and early stop; JSON-able by `_asdict()`.

    The loss is the student's whole one, distance and distillation included, as in EAsT (arXiv 2306.17424): another weight of these is another schedule too.
    What is trained on the teacher's side is left out of it (`Method.watched`).

    As torch's ReduceLROnPlateau (relative threshold 1e-4): reduced after patience + 1 evaluations in a row without a better loss. The
    early stop is Lightning's: at `early_stop_patience` of them, where any lower loss is a better one.
    """

    best: float = float("inf")
    bad: int = 0
    lowest: float = float("inf")
    bad_since_lowest: int = 0
    scale: float = 1.0

    def update(self, loss: float, settings: Any) -> "Plateau":
        """The state after an evaluation with this validation loss."""
        since_lowest = 0 if loss < self.lowest else self.bad_since_lowest + 1
        after = self._replace(lowest=min(loss, self.lowest), bad_since_lowest=since_lowest)
        if loss < self.best * (1 - 1e-4):
            return after._replace(best=loss, bad=0)
        if self.bad < settings.plateau_patience:
            return after._replace(bad=self.bad + 1)
        return after._replace(bad=0, scale=self.scale * settings.plateau_factor)

    def stops(self, settings: Any) -> bool:
        """Whether training ends here."""
        return 0 < settings.early_stop_patience <= self.bad_since_lowest
