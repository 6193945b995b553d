"""The program as several processes of one job, each started as a user starts it."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.small import user_environment

ROOT = Path(__file__).parent.parent
QUICK = "--config.evaluation.bootstrap_resamples=100"
TEXT = ("--config=configs/text.py:runlocal", QUICK)
PADDED = "--config.evaluation.batch_size=96"
"""Of which the last batch of a split of 200 has 8 examples, all of them rows of process 0."""
LONG = (*TEXT, PADDED, "--config.training.steps=400", "--config.training.eval_every_steps=50", "--config.training.log_every_steps=10")
LOST_WITHIN_S = 30
TOLD_WITHIN_S = 60
OWN_DISK = Path("/proc/self/cwd")
"""Another folder for each process: the one that it runs in."""


class Process:
    """One process of a job, with what it says in a file; `on` is what runs a command on its host, in `folder`."""

    def __init__(self, said: Path, arguments: tuple[str, ...], devices: int, on: tuple[str, ...] = (), folder: Path = ROOT):
        self.said = said
        environment = user_environment(JAX_NUM_CPU_DEVICES=str(devices), JAX_PLATFORMS="cpu")
        with said.open("w") as file:
            command = [*on, sys.executable, "-m", "jaxkd.main", *arguments]
            self.popen = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)

    def child(self) -> int:
        """The process that JAX runs in."""
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split()
        return int(children[0])

    def status(self, timeout: float = 300) -> int:
        return self.popen.wait(timeout)


def host_folder(folder: Path, *, own_source: bool = False) -> Path:
    """A folder that a process of a job can run in as on a host of its own, with `own_source` with a copy of jaxkd of its own."""
    folder.mkdir()
    (folder / "configs").symlink_to(ROOT / "configs")
    if own_source:
        shutil.copytree(ROOT / "jaxkd", folder / "jaxkd", ignore=shutil.ignore_patterns("__pycache__"))
    else:
        (folder / "jaxkd").symlink_to(ROOT / "jaxkd")
    return folder


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start_job(
    workdir: Path,
    *arguments: str,
    devices: int = 1,
    processes: int = 2,
    of_one: dict[int, tuple[str, ...]] | None = None,
    devices_of_one: dict[int, int] | None = None,
    coordinator: str = "",
    on: tuple[tuple[str, ...], ...] = ((), ()),
    folders: tuple[Path, ...] = (ROOT, ROOT),
    patient: bool = True,
) -> list[Process]:
    """Starts a job; `of_one`: arguments of single processes; `on` and `folders`: what runs a command on the host of each, and where.

    A `patient` one waits long for a process that does not answer: this machine may have other things to do.
    """
    address = f"--coordinator={coordinator or f'127.0.0.1:{free_port()}'}"
    waits = ("--heartbeat_seconds=60",) if patient else ()
    common = (f"--workdir={workdir}", "--distributed", address, f"--num_processes={processes}", *waits, *arguments)
    return [
        Process(
            workdir.parent / f"{workdir.name}-{number}.txt",
            (*common, f"--process_id={number}", *(of_one or {}).get(number, ())),
            (devices_of_one or {}).get(number, devices),
            on[number],
            folders[number],
        )
        for number in range(processes)
    ]


def ended(job: list[Process], *expected: int) -> list[str]:
    """What each process of a job said, once all have ended with the status that is expected of them."""
    statuses = [process.status() for process in job]
    said = [process.said.read_text() for process in job]
    assert statuses == list(expected), "\n\n".join(said)
    return said


def told_to_end(job: list[Process], process: int) -> list[str]:
    """What each process of a job said, once one of them was sent SIGTERM and all have ended by it in time."""
    began = time.monotonic()
    job[process].popen.send_signal(signal.SIGTERM)
    said = ended(job, *[143] * len(job))
    assert time.monotonic() - began < TOLD_WITHIN_S
    return said


def until_it_trains(workdir: Path, job: list[Process]) -> None:
    """Returns once a job has logged a step of its training."""
    until_there_is(workdir / "metrics.jsonl", job)


def until_there_is(file: Path, job: list[Process]) -> None:
    """Returns once a job has written the file, or something into it."""
    until(lambda: file.exists() and file.stat().st_size, job)


def until(so: Callable[[], Any], job: list[Process]) -> None:
    """Returns once something is so, while a job runs."""
    deadline = time.monotonic() + 300
    while not so():
        assert time.monotonic() < deadline and all(process.popen.poll() is None for process in job), job[0].said.read_text()
        time.sleep(0.05)
