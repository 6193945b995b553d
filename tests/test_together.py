"""Processes of a job that wait for each other, or for the lock of another run: told to stop, all of them hear of it soon."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import told_job
from tests.embeddings.pca_teacher import SHARD_ROWS, Digits, PcaTeacher
from tests.jobs import free_port

SOON_S = 60
"""Two rounds are 4 s; this machine may have other things to do."""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> tuple[Path, list[dict]]:
    """The folder of a job of two processes, and what each says."""
    folder, address = tmp_path_factory.mktemp("job"), f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    commands = [[sys.executable, told_job.__file__, str(folder), address, str(process)] for process in range(2)]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    assert f"Another process is embedding ({folder}): waiting for it." in errors[0]
    return folder, [json.loads((folder / f"{process}.json").read_text()) for process in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "status"),
    [("locked, told 0", 143), ("locked, told 1", 143), ("the waiting one told", 130), ("meeting", 130), ("computing", 143), ("met", 143), ("embedding", 143)],
)
def test_a_signal_to_one_process_ends_all_with_its_status(said, scene, status):
    for process in said[1]:
        assert process[scene]["status"] == status
        assert process[scene]["seconds"] < SOON_S


@pytest.mark.slow
def test_a_job_goes_on_when_the_lock_is_freed(said):
    for process in said[1]:
        assert process["freed"]["status"] == 0
        assert process["freed"]["seconds"] > told_job.AFTER_S / 2


@pytest.mark.slow
def test_what_was_embedded_before_the_signal_is_kept_and_the_store_is_that_of_one_process(said, tmp_path):
    folder, processes = said
    told_job.embed(tmp_path / "store", PcaTeacher(), Digits())
    batches_of_shard = -(-SHARD_ROWS // 8)
    assert processes[1]["kept"] > 0
    for process in processes:
        assert process["kept"] < 5
        assert process["embedded later"] == (5 - process["kept"]) * batches_of_shard
        assert process["bits"] == [0, 1]
    names = sorted(file.name for file in (tmp_path / "store").iterdir())
    assert sorted(file.name for file in (folder / "store").iterdir()) == names
    for name in names:
        assert (folder / "store" / name).read_bytes() == (tmp_path / "store" / name).read_bytes(), name
