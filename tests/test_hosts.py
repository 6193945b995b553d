"""What the errors of a job's processes are taken for, and how long they wait for each other's files."""

import os
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from jaxkd import hosts, together
from jaxkd.errors import ArtefactError, ConfigError, DataError
from jaxkd.hosts import is_of_a_lost_process
from tests.jobs import ROOT

RESET = "Gloo AllGather failed: [external/gloo/gloo/transport/tcp/pair.cc:538] Read error [10.77.0.2]:1422: Connection reset by peer"


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (ValueError(f"UNKNOWN: {RESET}"), True),
        (jax.errors.JaxRuntimeError(f"INTERNAL: Error dispatching computation: {RESET}"), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes."), False),
        (jax.errors.JaxRuntimeError("INTERNAL: Error dispatching computation: RESOURCE_EXHAUSTED: Out of memory."), False),
        (jax.errors.JaxRuntimeError("UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats): /job:jax_worker/task:1"), True),
        (jax.errors.JaxRuntimeError("INTERNAL: NCCL operation ncclGroupEnd() failed: remote process exited or there was a network error."), True),
        (jax.errors.JaxRuntimeError("INTERNAL: Failed to execute a cuDNN convolution: CUDNN_STATUS_EXECUTION_FAILED"), False),
        (jax.errors.JaxRuntimeError("FAILED_PRECONDITION: DNN library initialization failed."), False),
        (jax.errors.JaxRuntimeError("NOT_FOUND: could not find registered platform with name: 'cuda'"), False),
        (ValueError("INTERNAL: during compilation: LLVM module verification failed"), False),
        (ValueError("all input arrays must have the same shape"), False),
        (ConfigError("training.steps is 0: at least 1 is needed."), False),
    ],
)
def test_what_a_collective_raises_without_the_other_process_is_known_from_faults_of_its_own(error, lost):
    assert is_of_a_lost_process(error) == lost
    wrapped = OSError("a library's own")
    wrapped.__cause__ = error
    assert is_of_a_lost_process(wrapped) == lost


@pytest.mark.parametrize("coordinator", ["localhost", ":12321", "localhost:", "localhost:abc", "localhost:0", "localhost:65536"])
def test_a_coordinator_of_another_form_is_named(coordinator):
    with pytest.raises(ConfigError, match=f"--coordinator={coordinator} must have the form HOST:PORT, with a port from 1 to 65535"):
        hosts.join(hosts.Job(coordinator, 1, 0, join_seconds=1, heartbeat_seconds=1))


DIES = """
import os, sys
from jaxkd import watch
if watch.is_watched():
    if sys.argv[2] == "joined":
        watch.tell_parent(watch.JOINED)
    if sys.argv[2] == "refused":
        watch.tell_parent(watch.REFUSED)
    os.kill(os.getpid(), int(sys.argv[1]))
sys.exit(watch.watch(7))
"""


@pytest.mark.parametrize(
    ("number", "joined", "status", "said"),
    [
        (signal.SIGABRT, "refused", 2, ""),
        (signal.SIGSEGV, "alone", 4, "did not all reach its coordinator within 7 s"),
        (signal.SIGABRT, "alone", 4, "did not all reach its coordinator within 7 s"),
        (signal.SIGABRT, "joined", 4, "the same commands go on"),
        (signal.SIGSEGV, "joined", 139, "ended by SIGSEGV; the same commands go on"),
        (signal.SIGKILL, "alone", 137, "ended by SIGKILL; the same commands go on"),
    ],
)
def test_how_a_process_dies_is_told_from_whether_it_had_joined(number, joined, status, said):
    command = [sys.executable, "-c", DIES, str(int(number)), joined]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == status and said in ended.stderr


REACHES_NOBODY = """
import time
from jaxkd import hosts
hosts._joined.append(hosts.Job("", None, None, join_seconds=1, heartbeat_seconds=20))
hosts.wait_for_all = lambda: time.sleep(60)
hosts.require_connected()
"""


def test_devices_that_do_not_reach_each_other_end_the_job():
    ended = subprocess.run([sys.executable, "-c", REACHES_NOBODY], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 4
    assert "their devices not each other within 1 s (--join_seconds): on GPUs see NCCL_SOCKET_IFNAME" in ended.stderr


def test_a_file_that_comes_late_is_waited_for_and_one_that_never_comes_is_named(tmp_path, monkeypatch):
    late, never = tmp_path / "late", tmp_path / "never"
    hosts.wait_for_file(never)  # alone nobody else writes
    monkeypatch.setattr(hosts, "count", lambda: 2)
    monkeypatch.setattr(hosts, "FILE_SECONDS", 0.3)
    with pytest.raises(ArtefactError, match=rf"{never} is not seen here 0.3 s after another process of the job has written it: --workdir and --cache_dir"):
        hosts.wait_for_file(never)
    monkeypatch.setattr(hosts, "FILE_SECONDS", 60)
    writer = threading.Timer(0.2, late.touch)
    writer.start()
    hosts.wait_for_file(late)
    assert late.exists()
    writer.join()


def test_what_one_process_refuses_is_said_by_all_also_of_a_name_that_is_no_text(monkeypatch):
    monkeypatch.setattr(together, "count", lambda: 2)
    monkeypatch.setattr(together, "gathered", lambda own: np.stack([own, own]))
    monkeypatch.setattr(together, "gathered_bytes", lambda own: [b"", own or b"DataError:bad \xff.wav"])
    for raised in (None, DataError(os.fsdecode(b"bad \xff.wav"))):
        with pytest.raises(DataError) as refused, together.failing_together():
            if raised:
                raise raised
        assert str(refused.value) == "process 1 of the job: " + os.fsdecode(b"bad \xff.wav")


class _OwnError(ConfigError):
    pass


@pytest.mark.parametrize(("raised", "known"), [(_OwnError("a: b"), ConfigError), (ArtefactError("a: b"), ArtefactError)])
def test_what_one_process_refuses_ends_all_with_its_status(monkeypatch, raised, known):
    told = []
    monkeypatch.setattr(together, "count", lambda: 2)
    monkeypatch.setattr(together, "gathered", lambda own: np.stack([own, own]))
    monkeypatch.setattr(together, "gathered_bytes", lambda own: [*told, own])
    with pytest.raises(known), together.failing_together():
        raise raised
    monkeypatch.setattr(together, "gathered_bytes", lambda own: told.append(own) or [own])
    with pytest.raises(known), together.failing_together():
        raise raised
    monkeypatch.setattr(together, "gathered_bytes", lambda own: [*told, own])
    with pytest.raises(known) as refused, together.failing_together():
        pass
    assert type(refused.value) is known and str(refused.value) == "process 0 of the job: a: b"
