"""A job of two processes that is killed twice and goes on: its store, its class moments and subclasses; and pretrained networks that it trains in parts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.jobs import ROOT, free_port
from tests.training import killed_job


def _start(folder: Path, where: str) -> list[subprocess.Popen]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-m", "tests.training.killed_job", str(folder), f"127.0.0.1:{free_port()}", "2"]
    return [subprocess.Popen([*command, str(process), where], cwd=ROOT, env=environment) for process in range(2)]


def _killed(folder: Path, where: str) -> None:
    """Both wait in the middle of something when they are killed, so that neither ends because the other did."""
    job, marks = _start(folder, where), [folder / f"stopped-{process}" for process in range(2)]
    deadline = time.monotonic() + 300
    while not all(mark.exists() for mark in marks):
        assert time.monotonic() < deadline and all(process.poll() is None for process in job)
        time.sleep(0.05)
    for process, mark in zip(job, marks, strict=True):
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        mark.unlink()


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    """The folder of the job that was killed twice and has then ended."""
    folder = tmp_path_factory.mktemp("killed")
    _killed(folder, "embedding")
    assert not list((folder / "store").glob("shard-*"))
    assert [len(list((folder / "store" / f"part-{process}-of-2").glob("shard-*.npy"))) for process in range(2)] == [2, 2]
    _killed(folder, "moments")
    assert len(list((folder / "cache").glob("subclasses/*/process-*-of-2"))) == 2
    assert [process.wait(300) for process in _start(folder, "nowhere")] == [0, 0]
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """Folder and targets of one process that reads all rows as one block and is never stopped."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, killed_job.targets(killed_job.embed(folder, lambda _: None), folder / "cache")


@pytest.mark.slow
def test_a_store_that_was_embedded_in_two_attempts_is_that_of_one_process_to_the_byte(ended, alone):
    ours, theirs = ({file.name: file.read_bytes() for file in (folder / "store").iterdir() if file.name != "manifest.json"} for folder in (ended, alone[0]))
    assert len(ours) == 2 * 18  # shards and their ids
    assert ours == theirs


@pytest.mark.slow
def test_class_moments_go_on_by_part_and_the_subclasses_of_many_blocks_are_those_of_one(ended, alone):
    said = [json.loads((ended / f"{process}.json").read_text()) for process in range(2)]
    assert [one["of_one_pass"] for one in said] == [23, 22]
    assert [one["blocks"] for one in said] == [23 - 16, 22 - 16]
    with np.load(ended / "targets.npz") as found:
        np.testing.assert_array_equal(found["resumed"], found["whole"])
        np.testing.assert_allclose(found["whole"], alone[1], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["encoder", "tagger"])
def test_a_pretrained_network_is_drawn_and_trained_in_parts_as_whole(ended, network):
    with np.load(ended / f"{network}-replicated.npz") as whole, np.load(ended / f"{network}-sharded.npz") as parts:
        assert whole["kept"] == 1 and parts["kept"] < 0.53
        assert whole.files == parts.files
        moved = 0.0
        for name in (name for name in whole.files if name != "kept"):
            if name.startswith("['drawn']"):
                np.testing.assert_array_equal(parts[name], whole[name], err_msg=name)
                moved += np.linalg.norm(whole[name.replace("drawn", "after")] - whole[name])
            np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5, atol=1e-6, err_msg=name)
        assert moved > 1e-3
