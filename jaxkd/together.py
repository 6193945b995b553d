"""Blocks that the processes of a job go through together: told to stop, failing, or kept out by another run, they are it together. Alone, nothing changes."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import numpy as np

from jaxkd import errors
from jaxkd.errors import Interrupted, JaxkdError
from jaxkd.files import exclusive
from jaxkd.hosts import STOP_SECONDS, count, gathered, gathered_bytes, index

KEPT = "finished stages are kept; the same command goes on from there."
TOLD_SECONDS = 60
"""For so long at most a process that was told to stop waits until the others have heard of it."""


class _Rounds:
    """The rounds, in a thread of each process, in which all tell whether they were told to stop and whether they still work; they end when none works.

    A process that waits starts the next round at once, one that works after STOP_SECONDS: no collective waits for longer.
    """

    def __init__(self) -> None:
        self._signal, self._works, self._left = 0, True, False
        self._change, self._arrived, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._heard, self._worker = 0, threading.get_ident()
        self._error: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            works = True
            while works:
                self._arrived.wait(STOP_SECONDS)
                if self._left:
                    return
                with self._change:
                    own = self._signal, self._works
                signals, working = gathered(np.array(own, np.int32)).T
                works = bool(working.any())
                if signals.any() and not self._heard:
                    self._hear(int(signals.max()))
        except Exception as error:  # raised where all meet: the other side of a collective is gone
            self._error = error
        finally:
            self._ended.set()

    def _hear(self, number: int) -> None:
        """Interrupts the own work by the signal that another process was sent."""
        with self._change:
            self._heard = number
            if self._works:
                signal.pthread_kill(self._worker, number)

    def tell(self, number: int) -> None:
        """Tells the others of a signal, after which this process only waits for them."""
        self._arrive(number)
        self._ended.wait(TOLD_SECONDS)

    def meet(self) -> None:
        """Waits for all; raises what a signal to another raises here, also where a library has swallowed it in the block."""
        self._arrive(0)
        self._ended.wait()
        if self._error is not None:
            raise self._error
        if self._heard == signal.SIGINT:
            raise KeyboardInterrupt
        if self._heard:
            raise Interrupted(f"{signal.Signals(self._heard).name}: {KEPT}", 128 + self._heard)

    def leave(self) -> None:
        """Takes part in no more rounds: this process ends by an error."""
        self._left = True
        self._arrived.set()

    def _arrive(self, number: int) -> None:
        with self._change:
            self._signal, self._works = number, False
        self._arrived.set()


@contextlib.contextmanager
def stopping_together() -> Iterator[None]:
    """A block at whose end all processes meet, without another meeting in it; on the main thread. SIGTERM or Ctrl-C to one of them in it is sent to all.

    However long one waits for the others, it does so in collectives of a few seconds, and can be told to stop: a single one would hear of no signal, and on CPU
    end after 30 minutes.
    """
    if count() == 1:
        yield
        return
    rounds = _Rounds()
    try:
        yield
        rounds.meet()
    except (KeyboardInterrupt, Interrupted) as told:
        rounds.tell(signal.SIGINT if isinstance(told, KeyboardInterrupt) else told.exit_status - 128)
        raise
    except BaseException:
        rounds.leave()
        raise


def meet() -> None:
    """Waits until all processes are here, however long; a signal to one of them meanwhile ends all."""
    with stopping_together():
        pass


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
    """A block as `stopping_together`, at whose end an error of `jaxkd.errors` of one process is raised in all of them, and names the process."""
    if count() == 1:
        yield
        return
    own = None
    with stopping_together():
        try:
            yield
        except Interrupted:
            raise
        except JaxkdError as error:
            own = error
    for process, said in enumerate(gathered_bytes(b"" if own is None else os.fsencode(f"{_named(own)}:{own}"))):
        if said:
            name, _, message = os.fsdecode(said).partition(":")
            raise getattr(errors, name)(f"process {process} of the job: {message}") from own


def _named(error: JaxkdError) -> str:
    """The name of an error's class, or of the nearest above it, in `jaxkd.errors`."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


@contextlib.contextmanager
def exclusive_to_job(folder: str | os.PathLike, name: str, what: str) -> Iterator[None]:
    """`jaxkd.files.exclusive` for a block that all processes of the job go through together, with meetings in it."""
    with contextlib.ExitStack() as held:
        with stopping_together():
            if index() == 0:
                held.enter_context(exclusive(folder, name, what))
        yield
        meet()
