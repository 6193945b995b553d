"""The parent of a process of a job: passes signals on, and turns the ways in which JAX ends a process into exit statuses of jaxkd."""

import ctypes
import os
import select
import signal
import subprocess
import sys
from types import FrameType

from jaxkd.errors import ConfigError, LostProcessError

_WATCHED = "JAXKD_WATCHED"
JOINED, REFUSED = b"j", b"r"
_PR_SET_PDEATHSIG = 1
GOES_ON = "the same commands go on from the last saved step."
NOT_JOINED = (
    "the processes of the job did not all reach its coordinator within {seconds} s (--join_seconds): is --num_processes the same everywhere, each --process_id "
    "given once, every process running, can its host reach the coordinator's port, or is that port in use by something else?"
)


def is_watched() -> bool:
    """Whether this process has such a parent."""
    return _WATCHED in os.environ


def _end_with_parent() -> None:
    """Linux: the process is killed as soon as its parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def tell_parent(what: bytes) -> None:
    """Tells the parent that this process has JOINED its job, or that it has REFUSED its config and joins to say so."""
    os.write(int(os.environ[_WATCHED]), what)


def watch(join_seconds: int) -> int:
    """Runs the command of this process again as a child, and returns its exit status.

    Where JAX misses other processes of the job, it may abort its own from below, past all Python: that is status 4, with another message before it has joined,
    for which it has `join_seconds`, or 2 where it had refused its config. Where the coordinator's port is in use, JAX may crash by SIGSEGV. A child that was
    killed otherwise has 128 + the number of the signal. A signal to this process is passed on; while the child waits in JAX for the other processes, deaf to
    signals, it is killed.
    """
    told, tells = os.pipe()
    command, environment = [sys.executable, *sys.orig_argv[1:]], os.environ | {_WATCHED: str(tells)}
    child = subprocess.Popen(command, env=environment, pass_fds=(tells,), start_new_session=True, preexec_fn=_end_with_parent)
    os.close(tells)

    said, ended_by = bytearray(), []

    def joined() -> bool:
        while select.select([told], [], [], 0)[0] and (more := os.read(told, 1)):
            said.extend(more)
        return JOINED in said

    def pass_on(number: int, frame: FrameType | None) -> None:
        if joined():
            child.send_signal(number)
        else:
            ended_by.append(number)
            child.kill()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    status = child.wait()
    if ended_by:
        print("jaxkd: interrupted before the job was joined; nothing was begun; the same commands start it again.", file=sys.stderr)
        return 128 + ended_by[0]
    if not joined() and REFUSED in said and status != 0:
        return ConfigError.exit_status
    if status in (-signal.SIGABRT, -signal.SIGSEGV) and not joined():
        print(f"jaxkd: {NOT_JOINED.format(seconds=join_seconds)}", file=sys.stderr)
        return LostProcessError.exit_status
    if status == -signal.SIGABRT:
        print(f"jaxkd: another process of the job is lost, or JAX has aborted this one, which ends; {GOES_ON}", file=sys.stderr)
        return LostProcessError.exit_status
    if status < 0:
        print(f"jaxkd: the process was ended by {signal.Signals(-status).name}; {GOES_ON}", file=sys.stderr)
        return 128 - status
    return status
