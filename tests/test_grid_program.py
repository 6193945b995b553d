"""The benchmarks that choose settings, run a grid of the audio task and keep its table, on a few clips and steps."""

import json
import sys

import pytest

from benchmarks import audio_grid, audio_labels, grids
from configs.audio import GRIDS
from jaxkd.files import read_json, write_json
from jaxkd.workdir import SOURCE, code


@pytest.fixture
def run(small_inputs, tmp_path, monkeypatch, capsys):
    """f(benchmark, *arguments) -> its last line, in one workdir; the grids have few rows, and a student four steps."""
    get_config = grids.get_config

    def short(argument):
        config = get_config(argument)
        config.training.update({"steps": 4, "eval_every_steps": 2, "warmup_steps": 1})
        config.teacher.update({"name": "tests.mel_teacher:build", "embedding": ""})
        config.evaluation.bootstrap_resamples = 20
        return config

    def line(benchmark, *arguments):
        monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--runlocal", "--seeds=1", f"--workdir={tmp_path / 'run'}", f"--out={tmp_path / 'out'}"])
        benchmark.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    monkeypatch.setattr(grids, "get_config", short)
    monkeypatch.setitem(GRIDS, "compression", GRIDS["compression"] | {"methods": ("probe", "compressed"), "variants": ()})
    monkeypatch.setitem(GRIDS, "labels", GRIDS["labels"] | {"methods": ("compressed",), "variants": ()})
    monkeypatch.setattr(audio_labels, "SHARES", {"": 100.0})
    return line


@pytest.mark.slow
def test_tuning_keeps_the_trial_that_is_best_on_the_validation_split(run, tmp_path):
    chosen = run(audio_grid, "--grid=compression", "--tune", "--trials=2")["settings"]
    lines = [[json.loads(line) for line in file.read_text().splitlines()] for file in sorted((tmp_path / "run" / "trials").glob("*/metrics.jsonl"))]
    weak, strong = (max(line["values"]["map"] for line in trial if line["split"] == "valid") for trial in lines)
    assert chosen == [f"compressed compressed.weight={0.5 if weak >= strong else 0.8} training.learning_rate=0.001"]
    assert read_json(tmp_path / "run" / "settings.json") == {"settings": chosen}


@pytest.mark.slow
def test_a_grid_takes_what_was_chosen_is_kept_as_a_table_and_shares_its_runs_with_the_curve_of_labels(run, tmp_path):
    chosen = "compressed compressed.weight=0.7 training.learning_rate=0.002"
    write_json(tmp_path / "run" / "settings.json", {"settings": [chosen, "east east.weight=0.3"]})
    scores = run(audio_grid, "--grid=compression")["map"]
    report, kept = (read_json(tmp_path / name) for name in ("run/compression/report.json", "out/audio_grid_compression_runlocal.json"))
    means = {(row["split"], row["metric"], row["method"]): row["mean"] for row in report["rows"] if row["split"] != "valid"}
    assert {(row["split"], row["metric"], row["method"]): row["mean"] for row in kept["rows"]} == pytest.approx(means, abs=1e-4)
    assert {name: score["mean"] for name, score in scores.items()} == {
        f"{split}/{row}": means[split, "map", row] for split, metric, row in means if metric == "map"
    }
    assert all(row["mean"] == pytest.approx(sum(row["values"]) / row["n"], abs=1e-4) for row in kept["rows"])
    run_report = read_json(next((tmp_path / "run" / "runs").glob("compressed-*")) / "report.json")
    assert kept["diagnostics"]["compressed"]["label_share"] == pytest.approx(run_report["diagnostics"]["label_share"], abs=1e-4)
    gap = scores["test/probe"]["minus"]["compressed"]["difference"]
    assert gap == pytest.approx(scores["test/probe"]["mean"] - scores["test/compressed"]["mean"])
    table = (tmp_path / "out" / "audio_grid_compression_runlocal.md").read_text()
    assert f"| compressed | 1 | {means['test', 'map', 'compressed']:.3f} ± - |" in table and f"| {gap:+.3f} " in table
    own = read_json(tmp_path / "run" / "runs" / "compressed-seed0" / "config.json")
    assert (own["compressed"]["weight"], own["training"]["learning_rate"]) == (0.7, 0.002)
    own_environment = read_json(tmp_path / "run" / "runs" / "compressed-seed0" / "environment.json")
    assert kept["settings"] == [chosen] and kept["seeds"] == [0] and {"jax", "jaxlib"} < kept["versions"].keys() and "--grid=compression" in kept["command"]
    assert kept["versions"][SOURCE] == [code()[SOURCE]] and kept["runs begun on"] == [own_environment["date"]]

    finished = tmp_path / "run" / "runs" / "compressed-seed0" / "report.json"
    before = finished.stat().st_mtime_ns
    curve = run(audio_labels)["map"]
    assert finished.stat().st_mtime_ns == before
    assert curve["test/compressed/100"]["mean"] == scores["test/compressed"]["mean"]
    assert (tmp_path / "run" / "labels" / "labels.png").stat().st_size and (tmp_path / "out" / "audio_labels_runlocal.md").exists()


def test_a_table_lists_the_sources_and_the_days_that_its_runs_were_begun_with(tmp_path):
    """The process that writes the table has another source than either, and the third run was begun before any was kept."""
    config = grids.grid_config("compression", runlocal=True)
    begun = {"east-seed0": ("2026-11-25", {SOURCE: "bbbbbbbbbbbb"}), "east-seed1": ("2026-11-26", {SOURCE: "aaaaaaaaaaaa"}), "baseline-seed0": (None, {})}
    for name, (day, versions) in begun.items():
        date = {} if day is None else {"date": day}
        write_json(tmp_path / "runs" / name / "environment.json", {**date, "versions": {"jax": "0.10.2", **versions}})
        write_json(tmp_path / "runs" / name / "report.json", {"diagnostics": {}})
    write_json(tmp_path / "environment.json", {"platform": "Linux", "python": "3.11", "versions": {"jax": "0.10.2", SOURCE: "cccccccccccc"}})
    report = {"rows": [], "clips": {"test": 4}, "runs": [{"method": name, "seed": 0, "workdir": f"../runs/{name}"} for name in begun]}
    (tmp_path / config.compare.name).mkdir()
    grids.write_results(config, report, tmp_path, "table", "A claim.", "east", tmp_path / "out")
    kept, table = read_json(tmp_path / "out" / "table.json"), (tmp_path / "out" / "table.md").read_text()
    assert kept["versions"] == {"jax": "0.10.2", SOURCE: ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "not kept"]}
    assert kept["runs begun on"] == ["2026-11-25", "2026-11-26", "not kept"]
    assert f"| versions.{SOURCE} | aaaaaaaaaaaa, bbbbbbbbbbbb, not kept |" in table and "cccc" not in table


def test_a_row_is_compared_with_the_pivot_of_its_own_teacher(tmp_path):
    config = grids.grid_config("ablation", runlocal=True)
    gap = {"difference": 0.1, "ci95": [0.0, 0.2], "ranked": False}
    versus = {name: {**gap, "difference": place} for place, name in enumerate(("baseline", "east", "compressed", "east_aisfx", "compressed_aisfx"))}
    shared = {"split": "test", "metric": "map", "n": 1, "mean": 0.5, "std": None, "values": [0.5], "versus": versus}
    report = {"rows": [{"method": name, **shared} for name in ("compressed_joint_gradient_aisfx", "compressed_pca")], "clips": {"test": 4}, "runs": []}
    write_json(tmp_path / "environment.json", {"platform": "Linux", "python": "3.11", "versions": {}})
    own, first = grids.write_results(config, report, tmp_path, "table", "A claim.", "east", tmp_path / "out")
    assert {pivot: found["difference"] for pivot, found in own["minus"].items()} == {"baseline": 0, "east": 3, "compressed": 4}
    assert {pivot: found["difference"] for pivot, found in first["minus"].items()} == {"baseline": 0, "east": 1, "compressed": 2}
