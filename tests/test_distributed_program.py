"""The whole program as several processes of one job on this machine: the same student as in one process, and an end for all of them when one is lost."""

import importlib.metadata
import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from jaxkd.data.dataset import Dataset
from jaxkd.embeddings import embed_dataset
from jaxkd.results.artefact import load_predictor
from tests import waiting_teacher
from tests.jobs import (
    LONG,
    LOST_WITHIN_S,
    OWN_DISK,
    QUICK,
    ROOT,
    TEXT,
    Process,
    ended,
    host_folder,
    start_job,
    told_to_end,
    until,
    until_it_trains,
    until_there_is,
)
from tests.small import parameters, require_equal_students

ON_LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def together(text_inputs, tmp_path_factory) -> Path:
    """A finished run of two processes with one device each."""
    workdir = tmp_path_factory.mktemp("together") / "run"
    ended(start_job(workdir, *LONG), 0, 0)
    return workdir


def _share(cache_dir: Path, cache: Path, *parts: str) -> None:
    """Makes a cache that has parts of another."""
    cache.mkdir()
    for part in parts:
        (cache / part).symlink_to((cache_dir / part).resolve())


def _require_close(workdir: Path, other: Path) -> None:
    ours, theirs = parameters(workdir), parameters(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert np.linalg.norm(value - theirs[name]) <= 1e-3 * np.linalg.norm(theirs[name]), name


@pytest.mark.slow
def test_two_processes_train_and_report_as_one_does(together, text_inputs, tmp_path):
    alone = tmp_path / "alone"
    process = Process(tmp_path / "alone.txt", (*LONG, f"--workdir={alone}"), devices=2)
    assert process.status() == 0, process.said.read_text()
    _require_close(together, alone)
    one, other = (json.loads((workdir / "report.json").read_text()) for workdir in (together, alone))
    assert one["results"]["test"].keys() == other["results"]["test"].keys()
    for name, value in one["results"]["test"].items():
        assert value == pytest.approx(other["results"]["test"][name], abs=0.02), name
    for split in ("valid", "test"):
        ids = text_inputs.dataset.splits[split]
        with pytest.warns(UserWarning, match="texts are longer than 1,024 tokens"):
            expected = load_predictor(together / "student")(text_inputs.dataset.gather(ids))
        for folder in (together, together / "processes" / "1"):
            with np.load(folder / "predictions" / f"{split}.npz") as kept:
                assert kept["ids"].tolist() == ids and len(ids) == 200
                np.testing.assert_allclose(kept["scores"], expected, atol=1e-5)
    assert not (together / "processes" / "1" / "report.json").exists()


@pytest.mark.slow
def test_a_process_told_to_end_ends_all_with_everything_saved_and_the_job_goes_on_bit_equal(together, tmp_path):
    workdir = tmp_path / "run"
    job = start_job(workdir, *LONG)
    until_it_trains(workdir, job)
    for said in told_to_end(job, 1):
        assert "is saved; the same command goes on from there" in said
    assert not (workdir / "student").exists()
    ended(start_job(workdir, *LONG), 0, 0)
    require_equal_students(workdir, together)


@pytest.mark.slow
def test_a_stopped_job_goes_on_in_one_process_and_that_one_as_a_job(together, tmp_path):
    """Two devices in two processes, four in one, two in two: parameters and optimiser state lie in other parts each time, and five steps go together."""
    workdir, log = tmp_path / "run", tmp_path / "run" / "metrics.jsonl"
    sharded = (*LONG, "--config.parallel.parameters=sharded", "--config.training.steps_per_dispatch=5")
    job = start_job(workdir, *sharded)
    until_it_trains(workdir, job)
    told_to_end(job, 0)
    stopped = _last_step(log)
    assert stopped % 5 == 0
    alone = Process(tmp_path / "alone.txt", (*sharded, f"--workdir={workdir}"), devices=4)
    while _last_step(log) == stopped:
        assert alone.popen.poll() is None, alone.said.read_text()
        time.sleep(0.02)
    alone.popen.send_signal(signal.SIGTERM)
    assert alone.status() == 143, alone.said.read_text()
    assert stopped < _last_step(log) < 400
    ended(start_job(workdir, *sharded), 0, 0)
    _require_close(workdir, together)


@pytest.mark.slow
def test_a_job_by_pmap_that_was_stopped_ends_with_the_student_of_one_process_by_jit(text_inputs, tmp_path):
    short = (*LONG, "--mode=train", "--config.training.steps=200")
    by_pmap = (*short, "--config.training.steps_per_dispatch=5", "--config.parallel.mode=pmap")
    job = start_job(tmp_path / "pmap", *by_pmap, devices=2)
    until_it_trains(tmp_path / "pmap", job)
    told_to_end(job, 0)
    assert _last_step(tmp_path / "pmap" / "metrics.jsonl") < 200
    ended(start_job(tmp_path / "pmap", *by_pmap, devices=2), 0, 0)
    alone = Process(tmp_path / "alone.txt", (*short, f"--workdir={tmp_path / 'jit'}"), devices=1)
    assert alone.status() == 0, alone.said.read_text()
    _require_close(tmp_path / "pmap", tmp_path / "jit")


@pytest.mark.slow
def test_processes_with_different_numbers_of_devices_all_end_and_say_so(tmp_path):
    job = start_job(tmp_path / "run", *TEXT, devices_of_one={1: 3})
    for said in ended(job, 2, 2):
        assert "process 0 has 1, process 1 has 3" in said


@pytest.mark.slow
def test_a_job_that_is_told_to_end_while_it_embeds_and_while_it_evaluates_goes_on(cache_dir, tmp_path, monkeypatch):
    cache, workdir, wait = tmp_path / "cache", tmp_path / "run", tmp_path / "wait"
    _share(cache_dir, cache, "compiled")
    monkeypatch.setenv(waiting_teacher.FILE, str(wait))
    settings = {"data.unlabelled": 0, "data.valid": 100, "data.test": 100, "data.views": 1, "training.steps": 4, "training.eval_every_steps": 2}
    settings |= {"teacher.name": "tests.waiting_teacher:build", "teacher.classifier": "none", "student.features": "tests.waiting_teacher:build"}
    settings["store.shard_rows"] = 16
    config = "--config=configs/image.py:data=digits_bin,method=baseline,student=linear,runlocal"
    command = (config, QUICK, *(f"--config.{name}={value}" for name, value in settings.items()), f"--cache_dir={cache}")

    def told(job: list[Process], process: int) -> None:
        for said in told_to_end(job, process):
            assert "finished stages are kept; the same command goes on from there" in said

    wait.touch()
    job = start_job(workdir, *command)
    until(lambda: all([*cache.glob(f"stores/rows-*/part-{process}-of-2/shard-*.npy")] for process in range(2)), job)
    told(job, 0)
    assert len([*cache.glob("stores/rows-*/part-*/shard-*.npy")]) == 2
    wait.unlink()
    job = start_job(workdir, *command)
    until(lambda: [*cache.glob("stores/rows-*/manifest.json")], job)
    wait.touch()
    until(lambda: [*(workdir / "processes" / "1" / "predictions").glob("*.npz")], job)
    told(job, 1)
    assert (workdir / "student").exists() and not [*workdir.rglob("evaluation.json")]
    wait.unlink()
    ended(start_job(workdir, *command), 0, 0)
    ours, theirs = (json.loads((folder / "evaluation.json").read_text())["results"] for folder in (workdir, workdir / "processes" / "1"))
    assert ours == theirs == json.loads((workdir / "report.json").read_text())["results"]
    (store,) = cache.glob("stores/rows-*")
    dataset = Dataset.open(next(cache.glob("datasets/digits_bin-*")))
    embed_dataset(waiting_teacher.RowsTeacher(), dataset, tmp_path / "store", dtype="float32", shard_rows=16, batch_size=64)
    for file in (tmp_path / "store").glob("shard-*"):
        assert (store / file.name).read_bytes() == file.read_bytes(), file.name


def _last_step(log: Path) -> int:
    """Of the last whole line."""
    return json.loads(log.read_text().rpartition("\n")[0].splitlines()[-1])["step"]


def _require_ended(other: Process) -> None:
    """Sees that a process ends in time by the loss of another one, and says why."""
    began = time.monotonic()
    assert other.status() == 4, other.said.read_text()
    assert time.monotonic() - began < LOST_WITHIN_S
    assert "another process of the job is lost" in other.said.read_text()


@pytest.mark.slow
@ON_LINUX
@pytest.mark.parametrize(("lost", "by"), [(0, signal.SIGKILL), (1, signal.SIGSTOP), (0, signal.SIGSTOP)])
def test_a_lost_process_ends_all_others_with_status_4(text_inputs, tmp_path, lost, by):
    workdir = tmp_path / "run"
    job = start_job(workdir, *LONG, "--config.training.steps=100000", patient=False)
    until_it_trains(workdir, job)
    child = job[lost].child()
    os.kill(child, by)
    _require_ended(job[1 - lost])
    if by == signal.SIGSTOP:
        os.kill(child, signal.SIGKILL)
    assert job[lost].status() == 128 + signal.SIGKILL


@pytest.mark.slow
@ON_LINUX
def test_a_job_whose_process_was_killed_with_its_parent_goes_on_bit_equal(together, tmp_path):
    workdir = tmp_path / "run"
    job = start_job(workdir, *LONG, patient=False)
    until_there_is(workdir / "checkpoints" / "last" / "50" / "commit_success.txt", job)
    job[1].popen.kill()
    _require_ended(job[0])
    assert job[1].status() == -signal.SIGKILL
    assert not (workdir / "student").exists()
    ended(start_job(workdir, *LONG), 0, 0)
    require_equal_students(workdir, together)


@pytest.mark.slow
def test_processes_that_were_started_differently_all_end_and_name_the_difference(tmp_path):
    other = host_folder(tmp_path / "other", own_source=True)
    with (other / "jaxkd" / "types.py").open("a") as source:
        source.write("# differs\n")
    (other / "optax-0.0.1.dist-info").mkdir()
    (other / "optax-0.0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: optax\nVersion: 0.0.1\n")
    (other / "tests").mkdir()
    (other / "tests" / "small.py").write_text("# differs\n")
    command = (*TEXT, "--config.student.name=tests.small:dropping_student")
    job = start_job(tmp_path / "run", *command, folders=(ROOT, other), of_one={1: ("--config.training.learning_rate=0.5", "--num_processes=3")})
    for said in ended(job, 2, 2):
        assert "process 1: --num_processes is 3, in process 0 it is 2" in said
        assert "process 1: training.learning_rate is 0.5, in process 0 it is 0.01" in said
        assert f"process 1: optax is '0.0.1', in process 0 it is '{importlib.metadata.version('optax')}'" in said
        assert "process 1: source of jaxkd is " in said and "process 1: source of tests.small is " in said


@pytest.mark.slow
@ON_LINUX
def test_a_shard_that_one_process_does_not_see_ends_both(text_inputs, cache_dir, tmp_path):
    """The hosts share the cache but for the embeddings, which each has on its own disk."""
    cache, store = tmp_path / "cache", text_inputs.store.path
    _share(cache_dir, cache, "packages", "compiled", "datasets", "tokens", "classifiers")
    (cache / "stores").symlink_to(OWN_DISK / "stores")
    whole, lacking = host_folder(tmp_path / "whole"), host_folder(tmp_path / "lacking")
    (whole / "stores").symlink_to(store.parent)
    (lacking / "stores").mkdir()
    for other in store.parent.glob("wordllama*"):
        if other != store:
            (lacking / "stores" / other.name).symlink_to(other)
    shutil.copytree(store, lacking / "stores" / store.name, ignore=shutil.ignore_patterns("shard-00000.npy"))
    for said in ended(start_job(tmp_path / "run", *TEXT, f"--cache_dir={cache}", folders=(whole, lacking)), 3, 3):
        assert f"{store.name}/shard-00000.npy is missing" in said


@pytest.mark.slow
def test_folders_that_only_one_process_sees_are_refused(tmp_path):
    job = start_job(tmp_path / "run", *TEXT, of_one={1: (f"--cache_dir={tmp_path / 'other'}",)})
    for said in ended(job, 2, 2):
        assert "process 1 of the job does not see" in said and "--cache_dir must name a folder that all hosts share" in said


def test_a_job_needs_a_coordinator_and_its_numbers(tmp_path):
    for arguments, message in (
        ((), "--distributed: JAX finds no Cloud TPU, Slurm or Kubernetes job here"),
        (("--coordinator=127.0.0.1:1",), "goes with --num_processes and --process_id"),
        (("--coordinator=127.0.0.1:1", "--num_processes=2", "--process_id=2"), "from 0 to one less, not 2 and 2"),
    ):
        process = Process(tmp_path / "said.txt", (*TEXT, f"--workdir={tmp_path / 'run'}", "--distributed", *arguments), devices=1)
        assert process.status() == 2, process.said.read_text()
        assert message in process.said.read_text()


@pytest.mark.slow
def test_a_process_that_never_comes_or_a_port_that_is_taken_ends_the_job(tmp_path):
    job = start_job(tmp_path / "run", *TEXT, "--join_seconds=5", processes=1, of_one={0: ("--num_processes=2",)})
    with socket.create_server(("", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        job += start_job(tmp_path / "taken", *TEXT, processes=1, coordinator=address)
        for said in ended(job, 4, 4):
            assert "did not all reach its coordinator" in said and "(--join_seconds)" in said


@pytest.mark.slow
@ON_LINUX
def test_a_folder_of_data_that_one_process_does_not_see_is_named_by_all(tmp_path):
    hosts = [host_folder(tmp_path / name) for name in ("has", "lacks")]
    (hosts[0] / "texts").mkdir()
    own = ("--config=configs/text.py:data=text_file,runlocal", f"--config.data.folder={OWN_DISK / 'texts'}", "--join_seconds=60")
    zero, one = ended(start_job(tmp_path / "run", *own, folders=tuple(hosts)), 2, 2)
    for said in (zero, one):
        assert f"process 1 of the job: config.data.folder is '{OWN_DISK / 'texts'}', which does not exist" in said
    assert "The other processes of the job are told as soon as all have come (--join_seconds)." in one


@pytest.mark.slow
def test_a_shared_folder_that_cannot_be_written_to_ends_all_with_status_3(tmp_path):
    (tmp_path / "file").touch()
    for said in ended(start_job(tmp_path / "run", *TEXT, f"--cache_dir={tmp_path / 'file' / 'cache'}"), 3, 3):
        assert "cannot be written to" in said and "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_the_others_to_join_ends_at_once_when_it_is_told(tmp_path, number):
    (process,) = start_job(tmp_path / "run", *TEXT, processes=1, of_one={0: ("--num_processes=2",)})
    time.sleep(6)
    process.popen.send_signal(number)
    assert process.status(10) == 128 + number, process.said.read_text()
    assert "interrupted before the job was joined; nothing was begun" in process.said.read_text()


@pytest.mark.slow
def test_embeddings_and_subspaces_that_two_processes_made_are_those_of_one(text_inputs, cache_dir, tmp_path):
    caches = {name: tmp_path / f"cache-{name}" for name in ("one", "two")}
    for cache in caches.values():
        _share(cache_dir, cache, "packages", "compiled", "datasets", "tokens")
    precompute = (*TEXT, "--mode=precompute", "--config.store.shard_rows=64")
    process = Process(tmp_path / "one.txt", (*precompute, f"--workdir={tmp_path / 'one'}", f"--cache_dir={caches['one']}"), devices=1)
    assert process.status() == 0, process.said.read_text()
    ended(start_job(tmp_path / "two", *precompute, f"--cache_dir={caches['two']}"), 0, 0)
    one, two = (
        {file.relative_to(cache): file for file in cache.glob("stores/wordllama*/*") if "penultimate" not in file.parent.name} for cache in caches.values()
    )
    assert one.keys() == two.keys() and len(one) > 10
    for name, file in one.items():
        if name.name != "manifest.json":
            assert file.read_bytes() == two[name].read_bytes(), name
    (ours,), (theirs,) = (list(cache.glob("subclasses/*/probs.npy")) for cache in caches.values())
    np.testing.assert_allclose(np.load(ours), np.load(theirs), atol=1e-3)
