"""Checkpoints by Orbax: the last states to go on from, and the best one by a validation metric. The only file that imports Orbax."""

import contextlib
import gc
import hashlib
import logging
import math
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxkd import hosts
from jaxkd.errors import ArtefactError, ResourceError
from jaxkd.files import sha256_json
from jaxkd.parallel import to_host
from jaxkd.together import KEPT, failing_together
from jaxkd.training.interrupt import InterruptGuard, ended_by
from jaxkd.training.state import TrainState

logging.getLogger("absl").setLevel(logging.WARNING)
# a slow disk makes a step wait for the save before it, which costs time alone
logging.getLogger("absl").addFilter(lambda record: not record.getMessage().startswith("Waiting for previous save to complete"))

_LOOK_SECONDS = 1
_NOT_WRITTEN = re.compile(r"No space left|RESOURCE_EXHAUSTED.*writing|quota exceeded|File too large|Read-only file system|Permission denied", re.IGNORECASE)


class Checkpoints:
    """Two folders below `path`: `last` (the two newest states, named by step) and `best` (the one of the highest metric, named by how often it was bettered).

    States are written in the background, each with a digest of its values. The processes of a job write and read together: what one of them finds missing or
    damaged is refused by all.

    Args:
      path: folder.
      state: a state of the right structure, shapes and shardings.

    Raises:
      ArtefactError: the best checkpoint is damaged; or a process of the job does not see a checkpoint that another one sees.
    """

    def __init__(self, path: Path, state: TrainState):
        self._abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
        self._last = ocp.CheckpointManager(path.absolute() / "last", options=ocp.CheckpointManagerOptions(max_to_keep=2))
        self._best = ocp.CheckpointManager(path.absolute() / "best", options=ocp.CheckpointManagerOptions(max_to_keep=1))
        self._start_again = f"remove the folder {path.absolute()} and train again."
        self._best_metric = -math.inf
        try:
            for manager in (self._last, self._best):
                _see_the_newest(manager)
            if self._best.latest_step() is not None:
                self._best_metric = _restore(self._best, self._abstract, self._start_again)[1]["metric"]
        except ArtefactError:
            self.close()
            raise

    def save_last(self, step: int, state: TrainState, host: dict[str, Any]) -> None:
        """Saves a state and what the host remembers (JSON values); a step that is already there is left alone."""
        if step not in self._last.all_steps():
            # a run that goes on from here never offers an earlier state again
            _wait(self._best)
            _save(self._last, step, state, {"host": host, "best_metric": self._best_metric})

    def save_best(self, step: int, state: TrainState, metric: float) -> None:
        """Offers a state with its validation metric; only the best offered is kept, the earlier one of equals."""
        if metric > self._best_metric:
            self._best_metric = float(metric)
            _wait(self._last)  # two at a time would meet at one barrier of Orbax, and end a job of several processes
            # not by step: a run continued on other devices may better an earlier step, and the old one must stay until the new one is there
            _save(self._best, (self._best.latest_step() or 0) + 1, state, {"step": step, "metric": self._best_metric})

    def latest_step(self) -> int | None:
        """The newest saved step, or None."""
        return self._last.latest_step()

    def restore_last(self) -> tuple[TrainState, dict[str, Any]]:
        """The newest state and what the host remembered.

        Raises:
          ArtefactError: the checkpoint is missing or damaged, or the best one of its time is gone.
        """
        advice = f"remove the folder {self._last.directory / str(self.latest_step())}; the run goes on from the one before it, or from the start."
        state, kept = _restore(self._last, self._abstract, advice)
        if kept["best_metric"] > self._best_metric:
            raise ArtefactError(f"{self._best.directory} does not hold the best checkpoint of this run (metric {kept['best_metric']:g}): {self._start_again}")
        return state, kept["host"]

    def restore_best(self) -> TrainState:
        """The state of the highest metric.

        Raises:
          ArtefactError: the checkpoint is missing or damaged.
        """
        return _restore(self._best, self._abstract, self._start_again)[0]

    def wait(self) -> None:
        """Blocks until all that was saved is on disk.

        Raises:
          ResourceError: as of all that saves: the disk is full, or cannot be written to.
        """
        for manager in (self._best, self._last):
            _wait(manager)

    def close(self) -> None:
        """Waits and lets go of the folders."""
        for manager in (self._best, self._last):
            with _writing(manager):
                manager.close()


def _digest(state: TrainState, host: dict[str, Any]) -> str:
    digest = hashlib.sha256(sha256_json(host).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        leaf = to_host(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}\n".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()


def _save(manager: ocp.CheckpointManager, number: int, state: TrainState, host: dict[str, Any]) -> None:
    kept = {"values": host, "sha256": _digest(state, host)}
    with _writing(manager):
        manager.save(number, args=ocp.args.Composite(state=ocp.args.StandardSave(state), host=ocp.args.JsonSave(kept)))


def _wait(manager: ocp.CheckpointManager) -> None:
    with _writing(manager):
        manager.wait_until_finished()


def _see_the_newest(manager: ocp.CheckpointManager) -> None:
    """Waits until all processes see the newest step that one of them sees: a network file system may show it late."""
    newest = int(hosts.gathered(np.array([_newest(manager)])).max())
    deadline = time.monotonic() + hosts.FILE_SECONDS
    with failing_together():
        while _newest(manager) < newest:
            if time.monotonic() > deadline:
                raise ArtefactError(f"checkpoint {manager.directory / str(newest)} is not seen here, but by another process: --workdir must be one for all.")
            time.sleep(_LOOK_SECONDS)
            manager.reload()


def _newest(manager: ocp.CheckpointManager) -> int:
    step = manager.latest_step()
    return -1 if step is None else step


def _read(directory: Any, number: int, abstract: TrainState) -> tuple[TrainState, dict[str, Any], str] | str:
    """The state, the host's values and the digest of both; or, in one line, why they cannot be read.

    Each process of a job reads as if alone: at the barrier of Orbax, those that can read would wait for one that cannot. A signal is noted until it has read:
    raised in a callback of Orbax's, it would come out as an error of the file.
    """
    alone = {"primary_host": jax.process_index(), "active_processes": {jax.process_index()}, "barrier_sync_key_prefix": f"process-{jax.process_index()}"}
    options = ocp.CheckpointManagerOptions(create=False, multiprocessing_options=ocp.options.MultiprocessingOptions(**alone))
    with InterruptGuard() as guard:
        try:
            with ocp.CheckpointManager(directory, options=options) as reader:
                restored = reader.restore(number, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), host=ocp.args.JsonRestore()))
            read = restored["state"], restored["host"]["values"], restored["host"]["sha256"]
        except Exception as error:  # Orbax raises anything here, plain Exception too, depending on which byte of which file is wrong
            read = _in_one_line(error)
    if guard.received:
        raise ended_by(guard.received, KEPT)
    return read


def _in_one_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]


@contextlib.contextmanager
def _writing(manager: ocp.CheckpointManager) -> Iterator[None]:
    """What is raised where a disk is full, or must not be written to, as ResourceError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if not _NOT_WRITTEN.search(str(error)):
            raise
        raise ResourceError(
            f"a checkpoint could not be written to {manager.directory} ({_in_one_line(error)}): free space there, or mend its permissions; the same command "
            "goes on from the last saved step."
        ) from error


def _restore(manager: ocp.CheckpointManager, abstract: TrainState, advice: str) -> tuple[TrainState, dict[str, Any]]:
    number = manager.latest_step()
    if number is None:
        raise ArtefactError(f"{manager.directory} holds no checkpoint: train first.")
    damaged = f"checkpoint {manager.directory / str(number)} is damaged"
    # after one failed read Orbax abandons the others, which a moment later print tracebacks of their own that nobody can catch
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with failing_together():
            read = _read(manager.directory, number, abstract)
            if isinstance(read, str):
                time.sleep(0.1)
                gc.collect()
                raise ArtefactError(f"{damaged} ({read}): {advice}")
    finally:
        sys.unraisablehook = hook
    state, host, sha256 = read
    same = _digest(state, host) == sha256
    with failing_together():
        if not same:
            raise ArtefactError(f"{damaged} (its values are not those that were saved): {advice}")
    return state, host
