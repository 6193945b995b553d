"""Checkpoints by Orbax: the last states to go on from, and the best one by a validation metric. The only file that imports Orbax."""

import logging
import math
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxkd.errors import ArtefactError
from jaxkd.training.state import TrainState

logging.getLogger("absl").setLevel(logging.WARNING)


class Checkpoints:
    """Two folders below `path`: `last` (the two newest states, written in the background) and `best` (the one of the highest metric).

    Args:
      path: folder.
      state: a state of the right structure, shapes and shardings.
    """

    def __init__(self, path: Path, state: TrainState):
        self._abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
        self._last = ocp.CheckpointManager(path.absolute() / "last", options=ocp.CheckpointManagerOptions(max_to_keep=2))
        best = ocp.CheckpointManagerOptions(max_to_keep=1, best_fn=lambda metrics: metrics["metric"], best_mode="max", keep_checkpoints_without_metrics=False)
        self._best = ocp.CheckpointManager(path.absolute() / "best", options=best)
        step = self._best.best_step()
        known = None if step is None else self._best.metrics(step)
        self._best_metric = -math.inf if known is None else float(known["metric"])

    def save_last(self, step: int, state: TrainState, host: dict[str, Any]) -> None:
        """Saves a state and what the host remembers (JSON values); a step that is already there is left alone."""
        if step not in self._last.all_steps():
            self._last.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), host=ocp.args.JsonSave(host)))

    def save_best(self, step: int, state: TrainState, metric: float) -> None:
        """Offers a state with its validation metric; only the best offered is kept, the earlier one of equals."""
        if metric > self._best_metric:
            self._best_metric = metric
            self._best.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state)), metrics={"metric": metric})

    def latest_step(self) -> int | None:
        """The newest saved step, or None."""
        return self._last.latest_step()

    def restore_last(self) -> tuple[TrainState, dict[str, Any]]:
        """The newest state and what the host remembered.

        Raises:
          ArtefactError: the checkpoint is damaged.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(self._abstract), host=ocp.args.JsonRestore())
        restored = _restore(self._last, self._last.latest_step(), args)
        return restored.state, restored.host

    def restore_best(self) -> TrainState:
        """The state of the highest metric.

        Raises:
          ArtefactError: the checkpoint is missing or damaged.
        """
        return _restore(self._best, self._best.best_step(), ocp.args.Composite(state=ocp.args.StandardRestore(self._abstract))).state

    def wait(self) -> None:
        """Blocks until all that was saved is on disk."""
        self._last.wait_until_finished()
        self._best.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the folders."""
        self._last.close()
        self._best.close()


def _restore(manager: ocp.CheckpointManager, step: int | None, args: Any) -> Any:
    if step is None:
        raise ArtefactError(f"{manager.directory} holds no checkpoint: train first.")
    try:
        return manager.restore(step, args=args)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"checkpoint {manager.directory}/{step} is damaged ({str(error).splitlines()[0]}): "
            "remove that folder; the run goes on from the one before it, or from the start."
        ) from error
