"""Ctrl-C and SIGTERM: noted while a step runs, or while the processes of a job meet, and acted upon between."""

import gc
import signal
import threading
import time
import weakref
from types import FrameType

from jaxkd.errors import Interrupted
from jaxkd.hosts import StopVote, count
from jaxkd.together import KEPT

_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
_raised: list[tuple[int, float]] = []
_CALLBACK_SECONDS = 0.01
_CLEAN_UP_SECONDS = 5.0
"""Within so long a second SIGTERM is that of a supervisor which tells parent and child, and would break off what the first one has begun to clean up."""
_WEAK = {kind.__init__.__code__.co_filename for kind in (weakref.WeakKeyDictionary, weakref.WeakSet)}
"""Files of the weak collections, whose callbacks are named remove."""


def _in_a_callback(frame: FrameType | None) -> bool:
    """Whether a frame is that of a callback of the garbage collector or of a weak reference in a weak collection, or was called by one."""
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None and frame.f_code not in callbacks and not (frame.f_code.co_filename in _WEAK and frame.f_code.co_name.endswith("remove")):
        frame = frame.f_back
    return frame is not None


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handler of SIGINT and SIGTERM between stages: raises, and lets the next `InterruptGuard` know, since a library may swallow what is raised in a callback.

    Callbacks of the garbage collector, of which JAX has one, and of weak references swallow everything: a signal that comes while one runs is sent again
    when it is over.

    Raises:
      KeyboardInterrupt: on SIGINT.
      Interrupted: on SIGTERM, if there was none just before.
    """
    if _in_a_callback(frame):
        threading.Timer(_CALLBACK_SECONDS, signal.pthread_kill, (threading.main_thread().ident, number)).start()
        return
    now = time.monotonic()
    if number == signal.SIGTERM and any(before == number and now - at < _CLEAN_UP_SECONDS for before, at in _raised):
        return
    _raised.append((number, now))
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise ended_by(number, KEPT)


class InterruptGuard:
    """While entered, the first SIGINT or SIGTERM is only noted; a second SIGINT interrupts at once. In other threads it does nothing.

    Attributes:
      received: number of the signal, 0 for none.
    """

    def __init__(self) -> None:
        self.received: int = _raised[-1][0] if _raised else 0
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "InterruptGuard":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _STATUS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


class MeetingGuard(InterruptGuard):
    """An `InterruptGuard` of a block in which the processes of a job meet: told to stop, all of them end where they next call it. Alone, nothing changes."""

    def __init__(self) -> None:
        super().__init__()
        self._vote, self._calls = StopVote(0), 0

    def __enter__(self) -> "MeetingGuard":
        if count() > 1:
            super().__enter__()
        return self

    def __call__(self) -> None:
        """To be called by all processes at the same places; raises in all of them what a signal to one should."""
        self._calls += 1
        if stop := self._vote(self._calls, self.received):
            raise ended_by(stop, KEPT)

    def release(self) -> None:
        """From here on a signal interrupts at once, one that was noted too. To be called first in a `stopping_together`, which tells the others."""
        self.__exit__()
        if self.received:
            signal.raise_signal(self.received)


def ended_by(number: int, saved: str) -> Interrupted:
    """The error to raise on a signal once all is saved; `saved` says what was and how to go on."""
    received = signal.Signals(number)
    return Interrupted(f"{received.name}: {saved}", _STATUS[received])
