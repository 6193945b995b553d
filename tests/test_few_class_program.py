"""The few-class jobs as a user runs them, on real texts and images with real teachers."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxkd.data import prepare
from jaxkd.files import default_cache_dir
from jaxkd.results.artefact import load_predictor
from tests.small import load_config, parameters, require_equal_students, user_environment
from tests.test_program import QUICK, ROOT

TEXT = "configs/text.py:runlocal"
DIGITS = "configs/image.py:data=digits_bin,runlocal"


def _command(config: str, workdir: Path, *arguments: str) -> list[str]:
    warnings = ["-W", "error", "-W", "ignore:the load_module() method:DeprecationWarning"]
    return [sys.executable, *warnings, "-m", "jaxkd.main", f"--config={config}", f"--workdir={workdir}", *arguments]


def _run(config: str, workdir: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    done = subprocess.run(_command(config, workdir, *arguments), cwd=ROOT, env=user_environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def text_run(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("text") / "run"
    out, _ = _run(TEXT, workdir)
    (workdir.parent / "out.txt").write_text(out)
    return workdir


@pytest.mark.slow
def test_text_run_reports_student_and_teacher(text_run):
    report = json.loads((text_run / "report.json").read_text())
    assert (report["task"], report["modality"], report["method"]) == ("multiclass", "text", "lelp")
    assert set(report["results"]) == set(report["teacher"]["predictions"]) == {"valid", "test"}
    assert {"accuracy", "f1_macro", "roc_auc", "ece", "brier", "agreement", "ece_scaled"} <= report["results"]["test"].keys()
    assert report["teacher"]["predictions"]["test"]["accuracy"] > 0.55
    assert report["student"]["parameters"] == sum(value.size for name, value in parameters(text_run).items() if name.startswith("params/"))
    assert f"{report['results']['test']['accuracy']:.3f}" in (text_run.parent / "out.txt").read_text()


@pytest.mark.slow
def test_the_text_student_alone_gives_the_scores_of_the_run(text_run, cache_dir):
    dataset = prepare(load_config("text", "runlocal").data, cache_dir)
    with np.load(text_run / "predictions" / "test.npz") as kept:
        ids, scores = kept["ids"].tolist(), kept["scores"]
    predict = load_predictor(text_run / "student")
    with pytest.warns(UserWarning, match=r"4 of 200 texts are longer than 1,024 tokens"):
        np.testing.assert_allclose(predict(dataset.gather(ids)), scores, atol=1e-5)
    assert scores.shape == (200, 2)


@pytest.mark.slow
def test_comparison_shows_the_room_first_and_lelp_against_every_other(tmp_path):
    few = ("--config.training.steps=4", "--config.training.warmup_steps=1", "--config.compare.seeds=(0,1)", QUICK)
    methods = "('teacher','kd','lelp','oracle')"
    settings = "('lelp lelp.subclasses=4',)"
    arguments = ("--mode=compare", f"--config.compare.methods={methods}", f"--config.compare.settings={settings}", *few)
    out, _ = _run(TEXT, tmp_path / "compare", *arguments)
    assert 0 <= out.index("Room") < out.index("test (200 examples)")
    report = json.loads((tmp_path / "compare" / "report.json").read_text())
    assert report["reference"] == "kd"
    assert set(report["room"]) == {"valid", "test"}
    assert {(row["method"], row["kind"], row["n"]) for row in report["rows"]} >= {("teacher", "reference", 1), ("lelp", "student", 2)}
    own = json.loads((tmp_path / "compare" / "runs" / "lelp-seed1" / "config.json").read_text())
    assert own["lelp"]["subclasses"] == 4
    assert json.loads((tmp_path / "compare" / "runs" / "kd-seed1" / "config.json").read_text())["lelp"]["subclasses"] == 10


@pytest.mark.slow
def test_killed_while_the_teacher_trains_and_continued_equals_never_stopped(tmp_path, cache_dir, text_run):
    longer = (
        *("--config.teacher_training.steps=600", "--config.teacher_training.eval_every_steps=100", "--config.training.steps=20"),
        *(f"--config.{part}.steps_per_dispatch=5" for part in ("teacher_training", "training")),
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    caches = {workdir: tmp_path / f"cache-{workdir.name}" for workdir in (whole, killed)}
    for cache in caches.values():
        cache.mkdir()
        for part in ("packages", "compiled", "datasets", "tokens", "stores"):
            (cache / part).symlink_to((cache_dir / part).resolve())
    _run(TEXT, whole, *longer, f"--cache_dir={caches[whole]}")
    command = _command(TEXT, killed, *longer, f"--cache_dir={caches[killed]}")
    process = subprocess.Popen(command, cwd=ROOT, env=user_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(caches[killed].glob("classifiers/*/checkpoints/last/100")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not list(caches[killed].glob("classifiers/*/student"))
    _run(TEXT, killed, *longer, f"--cache_dir={caches[killed]}")
    require_equal_students(*(next(cache.glob("classifiers/*")) for cache in caches.values()))
    require_equal_students(whole, killed)


@pytest.mark.slow
def test_image_run_with_views_reports_student_and_teacher(tmp_path):
    workdir = tmp_path / "run"
    _run(DIGITS, workdir)
    report = json.loads((workdir / "report.json").read_text())
    assert (report["task"], report["modality"], report["clips"]) == ("multiclass", "image", {"valid": 200, "test": 200})
    assert report["teacher"]["predictions"]["test"]["accuracy"] > 0.7
    images = prepare(load_config("image", "data=digits_bin,runlocal").data, default_cache_dir()).gather(["test/00000", "test/00001"])
    with np.load(workdir / "predictions" / "test.npz") as kept:
        np.testing.assert_allclose(load_predictor(workdir / "student")(images), kept["scores"][:2], atol=1e-5)


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (TEXT, ["--config.student.name=resnet8"], "takes image, but the data is text: choose one of bag_of_words_tiny"),
        (TEXT, ["--config.student.name=mlp"], "name their encoder with --config.student.features=NAME"),
        (TEXT, ["--config.teacher.name=MTT_musicnn", "--config.teacher.embedding="], "takes audio, but the data is text: choose one of minilm, wordllama"),
        (TEXT, ["--config.teacher.classifier=none"], "takes the logits of the teacher's own classifier"),
        (TEXT, ["--config.training.mixup_alpha=0.2"], "set it to 0"),
        (TEXT, ["--config.lelp.rotation=har"], "must be one of haar, equal, off"),
        (TEXT, ["--config.compare.settings=('lelp lelp.subclases=5',)", "--mode=compare"], "is not FIELD=VALUE of a field"),
        (TEXT, ["--config.compare.settings=('lep lelp.subclasses=5',)"], "unknown method 'lep'"),
        (DIGITS, ["--config.teacher.name=resnet21"], "Did you mean 'resnet20'?"),
        ("configs/text.py:labels=many", [], "neither a number above 0 nor all"),
    ],
)
def test_what_does_not_fit_together_is_status_2(tmp_path, config, arguments, message):
    _, err = _run(config, tmp_path / "run", *arguments, status=2)
    assert message in err
    assert not (tmp_path / "run").exists()
