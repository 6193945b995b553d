"""Data prepared by two processes: each file is read once for the job, and both end alike where one finds it damaged."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.jobs import ROOT, free_port

LABELS = "file,split,piano,drums\na.wav,train,1,0\nb.wav,train,0,1\nc.wav,valid,0,1\nd.wav,test,1,0\n"
READ = Counter(["labels.csv", *(f"{name}.wav" for name in "abcd")])


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> tuple[Path, dict, dict]:
    """The folder of a job of two processes, and what each says."""
    folder, address = tmp_path_factory.mktemp("job"), f"127.0.0.1:{free_port()}"
    (folder / "recordings").mkdir()
    for row, name in enumerate("abcd", start=1):
        soundfile.write(folder / "recordings" / f"{name}.wav", 0.1 * row * np.sin(np.arange(8_000) * 0.1 * row), 16_000)
    (folder / "recordings" / "labels.csv").write_text(LABELS)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-m", "tests.data.data_in_job", str(folder), address, "2"]
    processes = [subprocess.Popen([*command, str(process)], cwd=ROOT, env=environment) for process in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    first, second = (json.loads((folder / f"{process}.json").read_text()) for process in range(2))
    return folder, first, second


def _stored(found: dict) -> Counter:
    """The files of a data set whose checksums are in its manifest."""
    return Counter([*json.loads((Path(found["path"]) / "manifest.json").read_text())["files"]])


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["made", "again"])
def test_each_file_is_read_once_for_a_job_that_shares_its_cache(said, scene):
    _, first, second = said
    assert Counter(first[scene]["hashed"]) == READ + _stored(first["made"])
    assert second[scene]["hashed"] == []
    for field in ("path", "fingerprint", "ids", "values"):
        assert first[scene][field] == second[scene][field] == first["made"][field]


@pytest.mark.slow
def test_each_process_reads_all_on_a_disk_of_its_own(said):
    folder, *processes = said
    for process, found in enumerate(processes):
        made, again = found["made on own disks"], found["again on own disks"]
        assert Path(made["path"]).parent == folder / f"disk-{process}" / "datasets"
        assert made["fingerprint"] == found["made"]["fingerprint"]
        assert Counter(again["hashed"]) == READ + _stored(made)
        assert made["values"] == again["values"] == found["made"]["values"]


@pytest.mark.slow
def test_what_a_source_changes_in_memory_is_changed_in_all(said):
    _, first, second = said
    ours, theirs = first["changed in memory"], second["changed in memory"]
    assert ours["fingerprint"] == theirs["fingerprint"] != first["made"]["fingerprint"]
    assert ours["values"] == theirs["values"] != first["made"]["values"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "process", "error", "status", "says"),
    [
        ("damaged", 0, "ArtefactError", 3, "train.inputs.npy was altered: its sha256 is"),
        ("damaged on an own disk", 1, "ArtefactError", 3, "valid.inputs.npy was altered: its sha256 is"),
        ("not audio", 0, "DataError", 3, "c.wav is not audio that can be decoded"),
        ("refused", 0, "ConfigError", 2, "data.source=audio_folder needs data.folder=FOLDER"),
    ],
)
def test_what_one_process_finds_ends_all_with_its_error_and_status(said, scene, process, error, status, says):
    _, first, second = said
    assert first[scene] == second[scene]
    assert (first[scene]["error"], first[scene]["status"]) == (error, status)
    assert first[scene]["says"].startswith(f"process {process} of the job: ") and says in first[scene]["says"]
