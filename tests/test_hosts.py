"""What the errors of a job's processes are taken for, and how long they wait for each other's files."""

import os
import threading

import jax
import numpy as np
import pytest

from jaxkd import hosts, together
from jaxkd.errors import ArtefactError, ConfigError, DataError
from jaxkd.hosts import is_of_a_lost_process

RESET = "Gloo AllGather failed: [external/gloo/gloo/transport/tcp/pair.cc:538] Read error [10.77.0.2]:1422: Connection reset by peer"


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (ValueError(f"UNKNOWN: {RESET}"), True),
        (jax.errors.JaxRuntimeError(f"INTERNAL: Error dispatching computation: {RESET}"), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes."), False),
        (ValueError("all input arrays must have the same shape"), False),
        (ConfigError("training.steps is 0: at least 1 is needed."), False),
    ],
)
def test_what_a_collective_raises_without_the_other_process_is_known_from_faults_of_its_own(error, lost):
    assert is_of_a_lost_process(error) == lost
    wrapped = OSError("a library's own")
    wrapped.__cause__ = error
    assert is_of_a_lost_process(wrapped) == lost


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
