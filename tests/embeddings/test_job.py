"""A store made and read by two processes: each its share, with the same result, and the same end where one finds it damaged."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxkd.embeddings import blocks
from tests.jobs import free_port

sys.path.insert(0, str(Path(__file__).parent))
import store_in_job


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> tuple[Path, list[dict]]:
    """The folder of a job of two processes, and what each says."""
    folder = tmp_path_factory.mktemp("job")
    address = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    commands = [[sys.executable, store_in_job.__file__, str(folder), address, "2", str(process)] for process in range(2)]
    processes = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait(300) for process in processes] == [0, 0]
    return folder, [json.loads((folder / f"{process}.json").read_text()) for process in range(2)]


@pytest.mark.slow
def test_each_process_reads_its_share_and_finds_what_one_alone_finds_to_the_bit(said, monkeypatch, tmp_path):
    folder, (first, second) = said
    assert first["verified"] == [f"shard-{shard:05d}.npy" for shard in range(0, 10, 2)]
    assert second["verified"] == [f"shard-{shard:05d}.npy" for shard in range(1, 10, 2)]
    assert first["read"] == second["read"] == [30, 30, 30, 20]  # the last block by both
    monkeypatch.setattr(blocks, "BLOCK_ROWS", store_in_job.BLOCK_ROWS)
    alone, read = store_in_job.statistics(store_in_job.embed(tmp_path / "store"))
    assert read == [30] * 6 + [20]
    for process in range(2):
        with np.load(folder / f"{process}.npz") as found:
            for name, value in alone.items():
                np.testing.assert_array_equal(found[name], value)
                assert found[name].dtype == value.dtype


def test_parts_that_a_killed_job_left_of_a_finished_store_are_removed(tmp_path):
    path = tmp_path / "store"
    made = store_in_job.embed(path)
    files = sorted(file.name for file in path.iterdir())
    shutil.copytree(path, path / "part-1-of-2")
    assert store_in_job.embed(path).ids == made.ids
    assert sorted(file.name for file in path.iterdir()) == files


@pytest.mark.slow
def test_a_shard_that_is_damaged_or_that_one_host_does_not_see_ends_all_with_its_name(said):
    folder, (first, second) = said
    assert first["partial"] == second["partial"]
    assert first["partial"].startswith(f"process 1 of the job: {folder / 'seen-by-1' / 'shard-00002.npy'} is missing. See first that all hosts")
    assert "--cache_dir must name a folder that all hosts share. Only if they do: Remove the folder" in first["partial"]
    assert first["damaged"] == second["damaged"]
    assert first["damaged"].startswith(f"process 1 of the job: {folder / 'store' / 'shard-00003.npy'} is damaged: its sha256 is")


@pytest.mark.slow
def test_a_part_that_process_0_does_not_see_ends_all_with_its_name(said):
    folder, (first, second) = said
    assert first["unseen"] == second["unseen"]
    assert first["unseen"].startswith(f"process 0 of the job: {folder / 'disk-0' / 'store' / 'part-1-of-2' / 'manifest.json'} is not seen here 1 s after")
    assert "must name folders that all" in first["unseen"]


@pytest.mark.slow
def test_embeddings_of_different_lengths_are_refused_at_the_first_that_differs_or_as_they_are_found(said):
    _, (first, second) = said
    assert first["ragged"][0] == second["ragged"][0]
    assert first["ragged"][0].startswith(
        "process 0 of the job: the embedding of 'digit080' by ragged has 2 frames, the first example's 1, but several processes"
    )
    assert first["ragged"][0].endswith("or train in one process.")
    of_shard = 3  # batches
    assert (first["ragged"][1], second["ragged"][1]) == (1 + 2 * of_shard + 1, 1 + of_shard + 1)
    assert first["ragged means"] == second["ragged means"] == ["taken, frames: None", 5 * of_shard]
    assert first["ragged, found"] == second["ragged, found"]
    assert first["ragged, found"][0].startswith("process 0 of the job: the embeddings by ragged have 1 to 2 frames, but several processes")
    assert first["ragged, found"][1] == 0
