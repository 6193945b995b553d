"""The whole program as a user runs it: `python -m jaxkd.main --config=configs/audio.py:runlocal` on real data with the real teacher."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxkd.data.fetch import fetch
from jaxkd.data.packages import PACKAGES
from jaxkd.results.artefact import load_predictor
from tests.small import parameters, require_equal_students, user_environment

ROOT = Path(__file__).parent.parent
# ml_collections loads a config file by a deprecated method
COMMAND = [sys.executable, "-W", "error", "-W", "ignore:the load_module() method:DeprecationWarning", "-m", "jaxkd.main", "--config=configs/audio.py:runlocal"]

QUICK = "--config.evaluation.bootstrap_resamples=100"


def _start(workdir: Path, *arguments: str, python: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [COMMAND[0], *python, *COMMAND[1:], f"--workdir={workdir}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=user_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _run(workdir: Path, *arguments: str, status: int = 0, python: tuple[str, ...] = ()) -> tuple[str, str]:
    process = _start(workdir, *arguments, python=python)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, f"exit status {process.returncode}\n{out}\n{err}"
    return out, err


@pytest.fixture(scope="module")
def finished(small_inputs, tmp_path_factory) -> Path:
    """One whole run; the screen's text is beside it in out.txt, what Python says of its imports in imported.txt."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    out, err = _run(workdir, python=("-X", "importtime"))
    (workdir.parent / "out.txt").write_text(out)
    (workdir.parent / "imported.txt").write_text(err)
    return workdir


@pytest.mark.slow
def test_run_leaves_every_artefact_and_prints_the_table(finished):
    for name in ("config.json", "environment.json", "metrics.jsonl", "checkpoints", "student/parameters.npz", "student/config.json", "evaluation.json"):
        assert (finished / name).exists(), name
    report = json.loads((finished / "report.json").read_text())
    assert report["schema"] == 1
    assert report["method"] == "compressed"
    assert report["student"]["parameters"] == sum(value.size for name, value in parameters(finished).items() if name.startswith("params/"))
    assert report["student"]["parameters"] < report["teacher"]["parameters"]
    assert set(report["results"]) == set(report["teacher"]["probe"]) >= {"valid", "test"}
    assert report["diagnostics"].keys() >= {"distance_correlation", "label_share", "chance_share", "singular_values"}
    out = (finished.parent / "out.txt").read_text()
    for split, metrics in report["results"].items():
        assert split in out
        assert f"{metrics['map']:.3f}" in out
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "valid"] == [10, 20, 30]
    assert {"loss", "label_loss", "distance", "teacher_loss"} <= lines[0]["values"].keys()


@pytest.mark.slow
def test_the_student_holds_nothing_of_the_teacher(finished):
    assert not [name for name in parameters(finished) if "transformation" in name or "auxiliary" in name]


@pytest.mark.slow
def test_the_student_alone_gives_the_scores_of_the_run(finished, small_inputs):
    dataset = small_inputs.dataset
    predict = load_predictor(finished / "student")
    with np.load(finished / "predictions" / "test.npz") as kept:
        np.testing.assert_allclose(predict(dataset.gather(kept["ids"].tolist())), kept["scores"], atol=1e-5)


@pytest.mark.slow
def test_interrupted_while_starting(tmp_path):
    for delay in (0.05, 0.2, 0.5, 0.9):
        process = _start(tmp_path / "run")
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            _, err = process.communicate()
        # Python's own start took the signal: for its -W options, and went on, or for its site module, and ended
        swallowed = "'import warnings' failed" in err or "Failed to import the site module" in err
        assert swallowed or process.returncode in (130, -signal.SIGINT), f"after {delay} s: {process.returncode}\n{err}"


def test_interrupted_while_starting_says_what_is_kept():
    code = "import os, signal, time, jaxkd.main; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (
        130,
        "jaxkd: interrupted while starting; what was finished before is kept; the same command goes on from there.\n",
    )


@pytest.mark.slow
def test_again_prints_the_report_and_trains_nothing(finished):
    before = (finished / "student" / "parameters.npz").stat().st_mtime_ns
    started = time.monotonic()
    out, _ = _run(finished)
    assert time.monotonic() - started < 60
    assert "map" in out
    assert (finished / "student" / "parameters.npz").stat().st_mtime_ns == before


@pytest.mark.slow
def test_killed_anywhere_and_continued_equals_never_stopped(small_inputs, tmp_path):
    """kill -9 as each of these appears: a best checkpoint before the last one, the student, the predictions."""
    arguments = ("--config.training.steps=80", QUICK)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _run(whole, *arguments)
    kills = 0
    for moment in ("checkpoints/best/1", "student", "predictions/probe_valid.npz"):
        process = _start(killed, *arguments)
        while process.poll() is None and not (killed / moment).exists():
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2
    _run(killed, *arguments)
    require_equal_students(whole, killed)
    reports = [json.loads((folder / "report.json").read_text()) for folder in (whole, killed)]
    assert reports[0]["results"] == reports[1]["results"]
    assert reports[0]["teacher"]["probe"] == reports[1]["teacher"]["probe"]


@pytest.mark.slow
def test_changed_data_is_noticed(finished, tmp_path):
    """A workdir is tied to the data and weights it was begun with."""
    workdir = tmp_path / "other"
    shutil.copytree(finished, workdir)
    inputs = json.loads((workdir / "inputs.json").read_text())
    (workdir / "inputs.json").write_text(json.dumps({**inputs, "data_fingerprint": "another"}))
    _, err = _run(workdir, status=3)
    assert "the data or the teacher has changed" in err
    assert "data_fingerprint" in err


@pytest.mark.slow
def test_report_before_evaluation_says_what_to_do(tmp_path):
    _, err = _run(tmp_path / "empty", "--mode=report", status=3)
    assert "evaluation.json is missing: run with --mode=run" in err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_and_continues(finished, tmp_path, number, status):
    workdir = tmp_path / "stopped"
    process = _start(workdir, "--mode=train")
    for _ in range(1200):
        if (workdir / "metrics.jsonl").exists() and (workdir / "metrics.jsonl").read_text():
            break
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "is saved; the same command goes on from there" in err
    assert any((workdir / "checkpoints" / "last").iterdir())
    _run(workdir, "--mode=train")
    require_equal_students(workdir, finished)


@pytest.mark.parametrize(("error", "status"), [("KeyboardInterrupt", 130), ("Interrupted('SIGTERM', 143)", 143), ("DataError('damaged')", 3)])
def test_what_crashes_in_the_interpreters_clean_up_changes_no_exit_status(tmp_path, error, status):
    code = (
        "import atexit, os, sys; from jaxkd import main, pipeline; from jaxkd.errors import DataError, Interrupted\n"
        f"def run(*_, **__):\n    print('a line'); atexit.register(os.abort); raise {error}\n"
        f"pipeline.run = run; sys.argv = ['jaxkd', '--config=configs/audio.py', '--mode=report', '--workdir={tmp_path}']; main.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=user_environment(), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (status, "a line\n"), ended.stderr


@pytest.mark.slow
def test_no_tensorflow_is_imported(finished):
    modules = {line.rpartition("|")[2].strip() for line in (finished.parent / "imported.txt").read_text().splitlines() if line.startswith("import time:")}
    assert {"jaxkd.pipeline", "jax"} <= modules
    assert not [name for name in modules if name.partition(".")[0] == "tensorflow"]


@pytest.mark.slow
def test_compare_makes_one_table_and_keeps_finished_runs(small_inputs, tmp_path):
    workdir = tmp_path / "compare"
    arguments = ("--mode=compare", "--config.training.steps=6", "--config.compare.methods=('probe','baseline')", "--config.compare.seeds=(0,1)", QUICK)
    out, _ = _run(workdir, *arguments)
    for method in ("probe", "baseline"):
        assert method in out
    rows = json.loads((workdir / "report.json").read_text())["rows"]
    assert {(row["method"], row["n"]) for row in rows} == {("probe", 1), ("baseline", 2)}
    student = workdir / "runs" / "baseline-seed1" / "student" / "parameters.npz"
    before = student.stat().st_mtime_ns
    shutil.rmtree(workdir / "runs" / "baseline-seed0")
    _run(workdir, *arguments)
    assert student.stat().st_mtime_ns == before


@pytest.mark.slow
def test_precompute_with_an_unseen_bank_of_ones_own(cache_dir, small_inputs, tmp_path):
    """The training bank itself as the unseen one: every sample is shared, and the leakage report says so."""
    bank = tmp_path / "own.sf2"
    with zipfile.ZipFile(fetch(PACKAGES["pretty_midi"], cache_dir)) as archive:
        bank.write_bytes(archive.read("pretty_midi/TimGM6mb.sf2"))
    sizes = [f"--config.data.{name}=8" for name in ("labelled", "unlabelled", "valid", "test", "unseen")]
    batch = ("--config.training.batch_size=4", "--config.training.unlabelled_ratio=1")
    workdir = tmp_path / "run"
    _run(workdir, "--mode=precompute", f"--config.data.unseen_bank={bank}", f"--cache_dir={tmp_path / 'cache'}", *_local(cache_dir), *sizes, *batch)
    (manifest,) = (tmp_path / "cache" / "datasets").glob("rendered_instruments-*/manifest.json")
    described = json.loads(manifest.read_text())
    assert {split: len(ids) for split, ids in described["splits"].items()} == {"train": 16, "valid": 8, "test": 8, "unseen": 8}
    samples = described["notes"]["leakage"]["samples"]
    assert "own.sf2" in json.dumps(described["notes"]["licences"])
    assert samples["shared"] == samples["compared"][1] > 100
    assert (workdir / "config.json").exists()
    assert not (workdir / "student").exists()


def _local(cache_dir: Path) -> list[str]:
    """The archives of the cache, as a user without a network names them."""
    fields = {"music21": "data.scores_archive", "pretty_midi": "data.train_bank_archive", "musicnn": "teacher.archive"}
    return [f"--config.{field}={cache_dir / 'packages' / PACKAGES[name].filename}" for name, field in fields.items()]


@pytest.mark.slow
def test_damage_is_named(finished, tmp_path):
    """A student whose bytes differ from its checksum; predictions that are cut."""
    workdir = tmp_path / "damaged"
    shutil.copytree(finished, workdir)
    for name in ("evaluation.json", "report.json"):
        (workdir / name).unlink()
    parameters = workdir / "student" / "parameters.npz"
    parameters.write_bytes(parameters.read_bytes()[:-100])
    _, err = _run(workdir, "--mode=evaluate", status=3)
    assert "parameters.npz is missing or does not have the checksum" in err
    shutil.rmtree(workdir)
    shutil.copytree(finished, workdir)
    predictions = workdir / "predictions" / "test.npz"
    predictions.write_bytes(predictions.read_bytes()[:100])
    _, err = _run(workdir, "--mode=report", status=3)
    assert "predictions/test.npz" in err


@pytest.mark.slow
def test_workdir_of_another_config_names_the_differing_fields(finished):
    _, err = _run(finished, "--config.training.learning_rate=0.5", "--config.seed=7", status=2)
    assert "belongs to another config" in err
    assert "training.learning_rate: 0.5 here, 0.001 there" in err
    assert "seed: 7 here, 0 there" in err


def test_workdir_that_cannot_be_made(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    _, err = _run(blocked / "run", status=3)
    assert "The workdir" in err
    assert "cannot be written to" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_workdir_without_write_permission(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    _, err = _run(tmp_path / "closed" / "run", status=3)
    assert "Permission denied" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/none.py"], "configs/none.py"),
        (["--config=configs/audio.py:metod=east"], "unknown config argument 'metod'. Did you mean 'method'?"),
        (["--config.data.sed=1"], "'sed' is no field of the config. Did you mean 'seed'?"),
        (["--config.training.nofield=3"], "'nofield' is no field of the config (jaxkd/config.py lists them)"),
        (["--config.training.steps=many"], "invalid literal for int() with base 10: 'many'"),
        (["--config.method=esat"], "Did you mean 'east'?"),
        (["--config.training.batch_size=0"], "config.training.batch_size is 0"),
        (["--config.data.unseen=500"], "unseen clips are test clips"),
        (["--mode=trian"], "trian"),
        (["--wordkir=x"], "wordkir"),
        (["somewhere"], "unexpected argument 'somewhere'"),
        (["--config.compressed.stop_gradient=maybe"], "jaxkd: --config.compressed.stop_gradient=maybe: write true or false.\n"),
        (["--config.other.source=audio_folder", "--config.other.folder=nowhere"], "config.other.folder is 'nowhere', which does not exist"),
        (["--remove=all"], "--remove goes with --mode=cache"),
        (["--coordinator=alpha:12321", "--num_processes=2", "--process_id=0"], "--coordinator=alpha:12321 goes with --distributed"),
    ],
)
def test_bad_usage_is_status_2(tmp_path, arguments, message):
    _, err = _run(tmp_path / "run", *arguments, status=2)
    assert message in err
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in err


def test_missing_config_and_help():
    missing = subprocess.run([sys.executable, "-m", "jaxkd.main"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "--config is missing" in missing.stderr
    shown = subprocess.run([sys.executable, "-m", "jaxkd.main", "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    for word in ("--workdir", "--mode", "--cache_dir", "compare", "Exit status", "default_config in jaxkd/config.py"):
        assert word in shown.stdout
    command = next(line for line in shown.stdout.splitlines() if "print(default_config())" in line)
    fields = subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "learning_rate: 0.001" in fields


def test_cache_lists_licences_and_removes(cache_dir, small_inputs, tmp_path):
    copy = tmp_path / "cache" / "packages"
    copy.mkdir(parents=True)
    for archive in (cache_dir / "packages").iterdir():
        os.link(archive, copy / archive.name) if archive.stat().st_dev == copy.stat().st_dev else shutil.copy(archive, copy)
    command = [sys.executable, "-m", "jaxkd.main", "--mode=cache", f"--cache_dir={tmp_path / 'cache'}"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for words in ("musicnn-0.1.0-py3-none-any.whl", "licence: ISC", "licence: BSD-3-Clause"):
        assert words in listed
    subprocess.run([*command, "--remove=packages/musicnn-0.1.0-py3-none-any.whl"], cwd=ROOT, capture_output=True, check=True)
    assert not (copy / "musicnn-0.1.0-py3-none-any.whl").exists()
    wrong = subprocess.run([*command, "--remove=packages/musicn"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "unknown cache entry" in wrong.stderr
