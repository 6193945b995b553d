"""The training loop: steps, logging, validation, checkpoints, interruption."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxkd.data.loader import TrainLoader
from jaxkd.errors import NonFiniteLossError
from jaxkd.hosts import StopVote, agreed_signal, index, of_process_0
from jaxkd.parallel import Devices
from jaxkd.progress import progress
from jaxkd.training.checkpoint import Checkpoints
from jaxkd.training.interrupt import InterruptGuard, ended_by
from jaxkd.training.metrics_log import MetricsLog
from jaxkd.training.optimiser import Plateau
from jaxkd.training.state import TrainState


def _checked_mean(pending: list[dict[str, jax.Array]], last_step: int, loader: TrainLoader) -> dict[str, float]:
    """Means of the terms, each of one step or of several, of the steps that end at `last_step`; fetches them from the device in one go.

    Raises:
      NonFiniteLossError: names the first step with a term that is not finite, its terms, and the ids of its batch.
    """
    fetched = jax.device_get(pending)
    by_step = {name: np.concatenate([np.atleast_1d(terms[name]) for terms in fetched]) for name in fetched[0]}
    finite = np.logical_and.reduce([np.isfinite(steps) for steps in by_step.values()])
    if not finite.all():
        first = int(np.argmin(finite))
        step = last_step - len(finite) + 1 + first
        values = ", ".join(f"{name} = {steps[first]:g}" for name, steps in by_step.items())
        raise NonFiniteLossError(
            f"the loss is not finite at step {step}: {values}. Batch ids: {', '.join(loader.ids(step - 1))}. "
            "Lower training.learning_rate, or look for damaged inputs among these; the last checkpoint is from before this step."
        )
    return {name: float(np.mean(steps)) for name, steps in by_step.items()}


def train(
    step_function: Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]],
    validate: Callable[[TrainState], dict[str, float]],
    state: TrainState,
    loader: TrainLoader,
    checkpoints: Checkpoints,
    devices: Devices,
    settings: Any,
    workdir: Path,
    *,
    description: str = "train",
    prefetch: int = 1,
    selection: str = "map",
    watched: str = "loss",
    select_after: int = 0,
) -> None:
    """Trains from the newest checkpoint (or the given state) to `settings.steps`, or to the early stop.

    Every `eval_every_steps` and at the end the state is validated, offered as the best by its `selection` metric (after step `select_after`), and saved. On
    Ctrl-C or SIGTERM the state is saved after the running step. A run that was stopped anywhere goes on as if it had not been.

    Args:
      step_function: compiled `train_step`, or `train_steps` for `settings.steps_per_dispatch` of them.
      validate: gives the validation metrics of a state, the `watched` one and the `selection` among them.
      state: the initial state.
      loader: training batches by step.
      checkpoints: of this run.
      devices: where the batches go.
      settings: config.training.
      workdir: where the metrics are logged.
      description: of the progress line.
      prefetch: batches that are put on the devices before their step.
      selection: the validation metric that the best checkpoint has the most of.
      watched: the validation metric that the plateau schedule and the early stop want lower.
      select_after: steps in which the student is not trained yet.

    Raises:
      NonFiniteLossError: a term of the loss is NaN or infinite.
      Interrupted: after a signal, with everything saved.
    """
    start, plateau = 0, Plateau()
    if checkpoints.latest_step() is not None:
        state, host = checkpoints.restore_last()
        start, plateau = int(state.step), Plateau(**host["plateau"])
    log = MetricsLog(workdir, start)
    pending: list[dict[str, jax.Array]] = []
    with (
        InterruptGuard() as guard,
        _bar(start, settings.steps, description) as bar,
        contextlib.closing(log),
        contextlib.closing(loader.batches(start, settings.steps, ahead=prefetch, place=devices.shard)) as batches,
    ):
        vote = StopVote(start)
        together = settings.steps_per_dispatch
        for step, batch in zip(range(start + together, settings.steps + 1, together), batches, strict=True):
            if plateau.stops(settings):
                break
            state, terms = step_function(state, batch)
            pending.append(terms)
            bar.update(together)
            stop = vote(step, guard.received)
            evaluates = step % settings.eval_every_steps == 0 or step == settings.steps
            if step % settings.log_every_steps == 0 or evaluates or stop:
                means = _checked_mean(pending, step, loader)
                log.write(step, "train", means)
                bar.set_postfix_str(f"loss {means['loss']:.4f}", refresh=False)
                pending = []
            if evaluates:
                values = of_process_0(validate(state))
                log.write(step, "valid", values)
                plateau = plateau.update(values[watched], settings) if settings.schedule == "plateau" else plateau
                state = state._replace(learning_rate_scale=devices.replicate(np.float32(plateau.scale)))
                if step > select_after:
                    checkpoints.save_best(step, state, values[selection])
            if evaluates or stop:
                checkpoints.save_last(step, state, {"plateau": plateau._asdict()})
            if stop:
                checkpoints.wait()
                raise ended_by(stop, f"step {step} of {settings.steps} is saved; the same command goes on from there.")
        checkpoints.wait()
        if stop := agreed_signal(guard.received):
            raise ended_by(stop, "training is done and saved; the same command goes on from there.")


@contextlib.contextmanager
def _bar(start: int, steps: int, description: str) -> Iterator[Any]:
    if start < steps and index() == 0:
        print("compiling the training step", file=sys.stderr)
    bar = progress(total=steps, initial=start, description=description, unit="step")
    try:
        yield bar
    finally:
        bar.close()
