"""The processes of one job on several hosts: joining it, agreeing on what is run and when to stop, and who writes what. Alone, all of it does nothing."""

import json
import os
import re
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from jaxkd.errors import ArtefactError, ConfigError, LostProcessError
from jaxkd.watch import NOT_JOINED
from jaxkd.xla_flags import convolve_on_all_cores

SHUTDOWN_SECONDS = 10
STOP_SECONDS = 2.0
"""How often the processes of a job ask each other whether one of them was told to stop."""
SHARED_SECONDS = 5
EXCHANGE_BYTES = 64 << 20
"""Bytes of all processes together that are gathered at a time: each device holds them."""
FILE_SECONDS = 90
"""For so long a file that one process has written may be missing in another: NFS believes for up to 60 s (`acdirmax`) that a file is not there."""


_OF_JAX = ("UNKNOWN: ", "INTERNAL: ", "UNAVAILABLE: ", "ABORTED: ")
_OWN = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")
_OF_A_NETWORK = re.compile(
    r"UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|(?i:gloo|nccl|socket|connection|heartbeat|coordination service|barrier|unhealthy|by peer)"
)
"""What the collectives of CPU (Gloo), GPU (NCCL) and TPU and the coordination service say of others, and neither a compiler nor a kernel."""


class Job(NamedTuple):
    """How a process joins a job; see `join`.

    Attributes:
      coordinator: "HOST:PORT" of process 0, or "" where the cluster tells.
      processes: how many there are, or None where the cluster tells.
      process: number of this one, or None where the cluster tells.
      join_seconds: after which the job fails if a process is missing.
      heartbeat_seconds: after which a process that does not answer is taken for lost.
    """

    coordinator: str
    processes: int | None
    process: int | None
    join_seconds: int
    heartbeat_seconds: int


_joined: list[Job] = []


def join(job: Job) -> None:
    """Joins the job, before JAX touches a device.

    Raises:
      ConfigError: neither flags nor the cluster say where the coordinator is; or a flag is of the wrong form or range.
      LostProcessError: not all processes came in time.
    """
    import jax

    host, _, port = job.coordinator.rpartition(":")
    if job.coordinator and not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ConfigError(f"--coordinator={job.coordinator} must have the form HOST:PORT, with a port from 1 to 65535.")
    if job.coordinator and (job.processes is None or job.process is None or not 0 <= job.process < job.processes):
        raise ConfigError(
            f"--coordinator={job.coordinator} goes with --num_processes and --process_id from 0 to one less, not {job.processes} and {job.process}."
        )
    convolve_on_all_cores()
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from the handlers here
    try:
        jax.distributed.initialize(
            job.coordinator or None,
            job.processes,
            job.process,
            initialization_timeout=job.join_seconds,
            heartbeat_timeout_seconds=job.heartbeat_seconds,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        raise ConfigError(
            f"--distributed: JAX finds no Cloud TPU, Slurm or Kubernetes job here ({error}); name --coordinator=HOST:PORT, --num_processes and --process_id."
        ) from error
    except RuntimeError as error:
        raise LostProcessError(f"{NOT_JOINED.format(seconds=job.join_seconds)} JAX says: {error}") from error
    _joined.append(job)


def in_job() -> bool:
    """Whether this process has joined a job."""
    return bool(_joined)


def is_of_a_lost_process(error: BaseException) -> bool:
    """Whether an error, or what it came of, is what a collective operation raises when another process is gone, and no fault of this one's own.

    It is an error of JAX's, or where a compiled function was called before a ValueError that begins as one, and speaks of a network.
    """
    of_jax = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") or (isinstance(error, ValueError) and str(error).startswith(_OF_JAX))
    if of_jax and _OF_A_NETWORK.search(str(error)) and not any(word in str(error) for word in _OWN):
        return True
    came_of = error.__cause__ or error.__context__
    return came_of is not None and is_of_a_lost_process(came_of)


def count() -> int:
    """The processes of the job; 1 outside one."""
    if not _joined:
        return 1
    import jax

    return jax.process_count()


def index() -> int:
    """The number of this process, from 0."""
    if not _joined:
        return 0
    import jax

    return jax.process_index()


def own_folder(folder: Path) -> Path:
    """Where this process keeps what it writes to a folder that all share: process 0 in the folder itself, process N in `processes/N` below it."""
    return folder if index() == 0 else folder / "processes" / str(index())


def shared_folder(own: Path) -> Path:
    """The folder that all share, of an `own_folder`."""
    return own if index() == 0 else own.parents[1]


def gathered(values: np.ndarray) -> np.ndarray:
    """The values of all processes, [count, ...], to the bit; every process must call it."""
    if count() == 1 or not values.size:
        return np.stack([values] * count())
    from jax.experimental import multihost_utils

    own = np.frombuffer(values.tobytes(), np.uint8)  # of float64 JAX would make float32
    return np.asarray(multihost_utils.process_allgather(own, tiled=False)).reshape(count(), -1).view(values.dtype).reshape(count(), *values.shape)


def gathered_bytes(own: bytes) -> list[bytes]:
    """What each process brings, of whatever length; every process must call it."""
    sizes = gathered(np.array([len(own)]))[:, 0]
    padded, step = np.frombuffer(own.ljust(int(sizes.max()) + 1), np.uint8), max(1, EXCHANGE_BYTES // count())
    parts = [gathered(padded[start : start + step]) for start in range(0, len(padded), step)]
    return [bytes(row[:size]) for row, size in zip(np.concatenate(parts, axis=1), sizes, strict=True)]


def wait_for_all() -> None:
    """Returns once every process is here."""
    gathered(np.zeros(1, np.int32))


def all_true(value: bool) -> bool:
    """Whether the value is true in every process; every process must call it."""
    return bool(gathered(np.array([value], np.int32)).all())


def of_process_0(values: dict[str, float]) -> dict[str, float]:
    """The numbers of process 0, so that what is decided by them is decided alike: hosts may round differently. Every process must call it."""
    return dict(zip(values, gathered(np.array([*values.values()], np.float64))[0].tolist(), strict=True))


def require_equal_devices() -> None:
    """Sees that all processes have as many devices.

    Raises:
      ConfigError: in all of them; names the numbers.
    """
    import jax

    devices = Counter(device.process_index for device in jax.devices())
    if len(set(devices.values())) > 1:
        of_each = ", ".join(f"process {process} has {number}" for process, number in sorted(devices.items()))
        raise ConfigError(f"the processes of the job have different numbers of devices: {of_each}. Start each with as many as every other has.")


def require_connected() -> None:
    """Sees that the processes reach each other and not the coordinator alone; every process must call it. One that does not is out of the job.

    The process ends with the status of a lost process, from a thread, where the others are not reached within `--join_seconds` and no error tells.

    Raises:
      ConfigError: on CPU, where each is reached at the address that its host gives its own name, that name has none, or one of the loopback.
    """
    late = threading.Timer(_joined[0].join_seconds, _end_unconnected, [_joined[0].join_seconds])
    late.daemon = True
    late.start()
    try:
        wait_for_all()
    except (RuntimeError, ValueError) as error:
        if not any(sign in str(error) for sign in ("gloo/transport/tcp/device", "remote=[127.", "remote=[::1]")):
            raise
        _joined.clear()
        raise ConfigError(
            "the processes of the job reach its coordinator but not each other: on CPU each listens at the address that its host gives its own name "
            f"(here {socket.gethostname()}). Give each host's name an address that the others reach, in the DNS or in /etc/hosts; "
            f"127.0.1.1 or none will not do. JAX says: {str(error).partition(chr(10))[0]}"
        ) from error
    finally:
        late.cancel()


def _end_unconnected(seconds: int) -> NoReturn:
    print(
        f"jaxkd: the processes of the job reach its coordinator, but their devices not each other within {seconds} s (--join_seconds): on GPUs see "
        "NCCL_SOCKET_IFNAME in docs/accelerators.md.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LostProcessError.exit_status)


def require_same(values: dict[str, Any], what: str) -> None:
    """Sees that all processes hold the same JSON values, by flat name; every process must call it.

    Raises:
      ConfigError: in all of them, if one differs from process 0; names the process, the field and both values.
    """
    first, *others = map(json.loads, gathered_bytes(json.dumps(values).encode()))
    differing = [
        f"process {number}: {name} is {other.get(name)!r}, in process 0 it is {first.get(name)!r}"
        for number, other in enumerate(others, start=1)
        for name in sorted(first.keys() | other.keys())
        if first.get(name) != other.get(name)
    ]
    if differing:
        raise ConfigError(f"the processes of the job do not agree on {what}: start all of them with the same. " + "\n  ".join(["", *differing]).lstrip(" "))


def _sees(path: Path, seconds: float) -> bool:
    """Whether a path is there, or comes within some seconds."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def wait_for_file(path: Path) -> None:
    """Waits, in a job, until this process sees a file that another has written before all met: a network file system may show it late.

    Raises:
      ArtefactError: it does not within FILE_SECONDS; names the file.
    """
    if count() > 1 and not _sees(path, FILE_SECONDS):
        raise ArtefactError(
            f"{path} is not seen here {FILE_SECONDS} s after another process of the job has written it: --workdir and --cache_dir must name folders that all "
            "hosts share, and nothing else may remove files there."
        )


def seen_by(folder: Path) -> np.ndarray:
    """Which processes see a folder of process 0 under the name that they have for it, bool [count]; every process must call it."""
    token = int(gathered(np.array([time.time_ns() % 2**31], np.int32))[0, 0])
    mark = folder / f".seen-by-all-{token}"
    if index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    wait_for_all()
    seen = gathered(np.array([_sees(mark, SHARED_SECONDS)]))[:, 0]
    if index() == 0:
        mark.unlink()
    return seen


def require_shared(folder: Path, flag: str) -> None:
    """Sees that a folder is one and the same for all processes; every process must call it.

    Raises:
      ConfigError: in all of them; names the processes that do not see what process 0 wrote.
    """
    seen = seen_by(folder)
    if not seen.all():
        blind = ", ".join(str(number) for number in np.flatnonzero(~seen))
        raise ConfigError(f"process {blind} of the job does not see {folder} of process 0: --{flag} must name a folder that all hosts share.")


def agreed_signal(signal: int) -> int:
    """The signal that some process was told to end by, 0 for none; every process must call it."""
    return int(gathered(np.array([signal], np.int32)).max())


class StopVote:
    """Agrees on the step after which all processes stop, once one of them was told to.

    They ask each other every `STOP_SECONDS` or so, at steps that process 0 chooses by its own clock, so that none waits for another in between; at first more
    often, after at most twice as many steps as before, since the first tell nothing of the time of the others.
    """

    def __init__(self, step: int):
        self._next, self._last, self._since = step + 1, step, time.monotonic()

    def __call__(self, step: int, signal: int) -> int:
        """The signal on which to stop after this step, 0 for none.

        Args:
          step: finished steps; each process passes all of them in turn.
          signal: what this process was told, 0 for nothing.
        """
        if count() == 1:
            return signal
        if step < self._next:
            return 0
        per_step = (time.monotonic() - self._since) / (step - self._last)
        steps = int(np.clip(round(STOP_SECONDS / max(per_step, 1e-4)), 1, min(1000, 2 * (step - self._last))))
        self._next, self._last, self._since = step + int(gathered(np.array([steps], np.int32))[0, 0]), step, time.monotonic()
        return agreed_signal(signal)
