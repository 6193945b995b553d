"""The report and the comparison of a multi-class task."""

import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.files import write_json
from jaxkd.results.comparison import screen_table as comparison_screen
from jaxkd.results.comparison import write_comparison
from jaxkd.results.predictions import load_predictions, predictions_path, split_names
from jaxkd.results.report import screen_table, write_report
from jaxkd.results.room import unmeasured
from jaxkd.results.uncertainty import bootstrap_weights, interval, metrics_of
from tests.results.parity_runs import CLASSES, make_parity_run
from tests.results.test_report import Page, printed_numbers, rewrite

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Finished runs of three students with three seeds each, and one of the teacher."""
    folder, workdirs = tmp_path_factory.mktemp("parity"), {}
    for method in ("teacher", "kd", "lelp", "oracle"):
        for seed in SEEDS[:1] if method == "teacher" else SEEDS:
            workdirs[method, seed] = folder / f"{method}-{seed}"
            write_json(workdirs[method, seed] / "report.json", make_parity_run(workdirs[method, seed], method=method, seed=seed))
    return workdirs


@pytest.fixture(scope="module")
def written(runs):
    workdir = runs["kd", 0]
    return workdir, write_report(workdir, json.loads((workdir / "report.json").read_text()))


@pytest.fixture(scope="module")
def compared(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    return folder, write_comparison(list(runs.values()), folder, reference="kd")


def labelled_rows(workdir, name):
    with np.load(workdir / "predictions" / f"{name}.npz") as file:
        rows = file["label_mask"].all(axis=1)
        return file["labels"][rows].argmax(axis=1), file["scores"][rows], rows


def test_predictions_tell_their_task_and_hidden_classes(runs, finished):
    predictions = load_predictions(predictions_path(runs["kd", 0], "test"))
    assert predictions.task == "multiclass"
    fine, labelled = predictions.fine_labels, predictions.label_mask.all(axis=1)
    assert fine is not None
    np.testing.assert_array_equal(fine[labelled] % 2, predictions.labels[labelled].argmax(axis=1))
    older = load_predictions(predictions_path(finished[0], "test"))
    assert older.task == "multilabel" and older.fine_labels is None
    assert split_names(runs["kd", 0]) == ["valid", "test", "unseen"]


def test_values_and_intervals_equal_scikit_learn(written):
    workdir, report = written
    truth, scores, labelled = labelled_rows(workdir, "test")
    _, of_teacher, _ = labelled_rows(workdir, "teacher_test")
    sides = report["intervals"]["test"]["accuracy"]
    assert set(sides) == {"student", "teacher", "difference"}
    assert sides["student"]["value"] == pytest.approx(accuracy_score(truth, scores.argmax(axis=1)))
    assert sides["teacher"]["value"] == pytest.approx(accuracy_score(truth, of_teacher.argmax(axis=1)))
    assert report["intervals"]["test"]["roc_auc"]["teacher"]["value"] == pytest.approx(roc_auc_score(truth, of_teacher[:, 1]))
    samples = []
    for counts in bootstrap_weights(len(labelled), 400)[1:, labelled].astype(int):
        rows = np.repeat(np.arange(len(truth)), counts)
        samples.append(accuracy_score(truth[rows], scores[rows].argmax(axis=1)) - accuracy_score(truth[rows], of_teacher[rows].argmax(axis=1)))
    assert sides["difference"]["ci95"] == pytest.approx(interval(np.array(samples)))
    assert set(report["per_class"]["test"]) == {"student", "teacher"}
    assert report["per_class"]["test"]["teacher"]["odd"] == pytest.approx(average_precision_score(truth, of_teacher[:, 1]))


def test_page_markdown_and_screen_hold_every_number_and_the_words_of_the_task(written):
    workdir, report = written
    page = "".join(Page((workdir / "report.html").read_text()).text)
    markdown, screen = (workdir / "report.md").read_text().replace("\\", ""), screen_table(report)
    expected = printed_numbers({**report, "teacher": {**report["teacher"], "probe": report["teacher"]["predictions"]}})
    assert len(expected) > 60
    assert not [number for number in expected if number not in page or number not in markdown]
    for text in (page, markdown, screen):
        assert "clip" not in text and "probe" not in text
    assert "examples per second" in screen and "MACs per example" in screen
    assert "predicted class is the most probable one" in page and "the teacher's own classifier" in page
    order = [line.split()[1] for line in screen.splitlines() if line.startswith("test ")]
    assert order == ["accuracy", "f1_macro", "roc_auc", "agreement", "ece", "brier", "nll", "ece_scaled", "brier_scaled"]


def test_curves_show_the_validation_accuracy(runs, tmp_path):
    shutil.copytree(runs["kd", 1], tmp_path / "run")
    lines = [{"step": step, "split": "valid", "values": {"accuracy": step / 100}} for step in (10, 20, 30)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_report(tmp_path / "run", json.loads((tmp_path / "run" / "report.json").read_text()))
    assert "valid accuracy" in "".join(Page((tmp_path / "run" / "report.html").read_text()).text)


def test_the_teachers_own_row_differs_from_itself_by_nothing(runs, tmp_path):
    shutil.copytree(runs["teacher", 0], tmp_path / "run")
    report = write_report(tmp_path / "run", json.loads((tmp_path / "run" / "report.json").read_text()))
    assert all(sides["difference"] == {"value": 0, "ci95": [0, 0]} for by_metric in report["intervals"].values() for sides in by_metric.values())


def test_room_is_the_paired_difference_of_oracle_and_kd_and_stands_first(compared):
    folder, report = compared
    assert json.loads((folder / "report.json").read_text()) == report
    assert report["task"] == "multiclass" and report["modality"] == "image" and report["classes"] == CLASSES
    assert list(report["room"]) == ["valid", "test", "unseen"]
    for split, room in report["room"].items():
        means = {row["method"]: row["mean"] for row in report["rows"] if (row["split"], row["metric"]) == (split, "accuracy")}
        assert room["difference"] == pytest.approx(means["oracle"] - means["kd"])
        (row,) = [row for row in report["rows"] if (row["method"], row["split"], row["metric"]) == ("kd", split, "accuracy")]
        assert room["ci95"] == pytest.approx([-end for end in reversed(row["versus"]["oracle"]["ci95"])])
    assert {room["ci95"][0] > 0 for room in report["room"].values()} == {True, False}
    screen = comparison_screen(report)
    assert screen.startswith("Room: oracle minus kd\n")
    page = "".join(Page((folder / "report.html").read_text()).text)
    assert page.index("Room: oracle minus kd") < page.index("lelp minus each other method") < page.index("valid (240 examples)")
    for text in (screen, page):
        for room in report["room"].values():
            cell = f"{room['difference']:+.3f} [{room['ci95'][0]:+.3f}, {room['ci95'][1]:+.3f}]"
            assert cell in text
        assert "cannot be expected to show a gain" in text
        assert "room to be seen" in text and "clip" not in text


def test_the_method_in_question_is_set_against_every_other(compared):
    report = compared[1]
    lines = comparison_screen(report).split("lelp minus each other method: accuracy\n")[1].split("\n\n")[0].splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["teacher", "kd", "oracle"]
    for split in ("valid", "test", "unseen"):
        (row,) = [row for row in report["rows"] if (row["method"], row["split"], row["metric"]) == ("lelp", split, "accuracy")]
        for line in lines:
            cell = row["versus"][line.split()[0]]
            verdict = "not ranked" if not cell["ranked"] else "above" if cell["difference"] > 0 else "below"
            shown = f"{cell['difference']:+.3f} [{cell['ci95'][0]:+.3f}, {cell['ci95'][1]:+.3f}]"
            assert " ".join([shown, verdict]) in " ".join(line.split())


def test_rows_have_the_metrics_of_the_task_and_the_teacher_is_a_reference(compared):
    report = compared[1]
    assert {row["metric"] for row in report["rows"]} == set(metrics_of("multiclass")) == {"accuracy", "f1_macro", "roc_auc"}
    assert {row["method"] for row in report["rows"] if row["kind"] == "reference"} == {"teacher"}


def test_without_oracle_and_lelp_there_is_no_such_table_but_how_the_room_of_hidden_classes_is_measured(runs, tmp_path):
    hidden, workdirs = [f"digit {digit}" for digit in range(10)], []
    for method in ("kd", "teacher"):
        workdirs.append(tmp_path / method)
        shutil.copytree(runs[method, 0], workdirs[-1])
        summary = json.loads((workdirs[-1] / "report.json").read_text())
        write_json(workdirs[-1] / "report.json", {**summary, "fine_classes": hidden})
    report = write_comparison(workdirs, tmp_path / "out", reference="kd")
    assert (report["room"], report["fine_classes"]) == ({}, hidden)
    screen, page = comparison_screen(report), "".join(Page((tmp_path / "out" / "report.html").read_text()).text)
    assert screen.startswith("Room for methods that invent subclasses (oracle minus kd): this task has 10 hidden classes, and this comparison does not")
    line = screen.split("\n\n")[0]
    assert line in page and page.index(line) < page.index("valid (240 examples)")
    assert comparison_screen({**report, "fine_classes": []}).startswith("valid (240 examples)")


@pytest.mark.parametrize(
    ("rows", "variants", "advice"),
    [
        (["kd", "lelp"], {}, "Add oracle to config.compare.methods: the same command with --config.compare.methods=\"('kd','lelp','oracle')\" keeps"),
        (["oracle"], {}, "Add kd to config.compare.methods: the same command with --config.compare.methods=\"('oracle','kd')\" keeps"),
        (
            ["few", "lelp"],
            {"few": ("lelp", "lelp.subclasses=2")},
            "Add kd and oracle to config.compare.methods: the same command with --config.compare.methods=\"('lelp','kd','oracle')\" keeps",
        ),
        (["oracle", "kd"], {}, ""),
    ],
)
def test_what_a_comparison_lacks_to_measure_the_room(rows, variants, advice):
    comparison = {"rows": [{"method": row} for row in rows for _ in range(2)], "variants": variants, "fine_classes": ["a", "b"]}
    assert advice in unmeasured(comparison) and bool(unmeasured(comparison)) is bool(advice)
    assert unmeasured({**comparison, "fine_classes": []}) == ""


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"task": "regression"}, "is of the task 'regression', but this version of jaxkd knows"),
        ({"task": "multilabel"}, "is of the task 'multilabel', but the run of 'multiclass'"),
        ({"fine_labels": np.zeros(3, np.int32)}, "do not fit together"),
    ],
)
def test_predictions_of_another_task_are_refused(runs, tmp_path, damage, message):
    shutil.copytree(runs["lelp", 0], tmp_path / "run")
    rewrite(tmp_path / "run" / "predictions" / "test.npz", **damage)
    summary = json.loads((tmp_path / "run" / "report.json").read_text())
    with pytest.raises(ArtefactError, match=message):
        write_report(tmp_path / "run", summary)
    with pytest.raises(ArtefactError, match=message):
        write_comparison([runs["kd", 0], tmp_path / "run"], tmp_path / "out", reference="kd")


def test_runs_of_another_task_and_unknown_tasks_are_refused(runs, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    write_json(tmp_path / "run" / "report.json", finished[1])
    with pytest.raises(ArtefactError, match="another task, other classes or splits"):
        write_comparison([runs["kd", 0], tmp_path / "run"], tmp_path / "out", reference="kd")
    with pytest.raises(ConfigError, match=r"unknown task 'multi-class'\. Did you mean 'multiclass'"):
        metrics_of("multi-class")


def test_calibration_agreement_and_teachers_stand_beside(runs, compared):
    _, report = compared
    reports = {key: json.loads((workdir / "report.json").read_text()) for key, workdir in runs.items()}
    rows = {(row["method"], row["split"]): row for row in report["beside"]}
    assert rows.keys() == {(method, split) for method in ("teacher", "kd", "lelp", "oracle") for split in ("valid", "test", "unseen")}
    for metric in ("ece", "brier", "agreement"):
        expected = np.mean([reports["lelp", seed]["results"]["test"][metric] for seed in SEEDS])
        np.testing.assert_allclose(rows["lelp", "test"][metric], expected)
    np.testing.assert_allclose(rows["kd", "test"]["teacher"], reports["kd", 0]["teacher"]["predictions"]["test"]["accuracy"])
    assert "accuracy of its teacher" in comparison_screen(report)


def test_what_training_cost_stands_beside(written, compared):
    _, report = compared
    teacher = {"seconds": 654.0, "peak_memory_bytes": 2_345_000_000, "trained_parameters": 8765}
    student = {"seconds": 3.0, "peak_memory_bytes": 512_000_000, "trained_parameters": 1074}
    assert {row["method"]: (row["student"], row["teacher"]) for row in report["cost"]} == {
        "teacher": (None, teacher),
        "kd": (student, teacher),
        "lelp": (student, None),
        "oracle": (student, None),
    }
    lines = comparison_screen(report).partition("Cost of training")[2].splitlines()
    assert next(line.split() for line in lines if line.startswith("kd")) == ["kd", "3", "512", "1,074", "654", "2,345", "8,765"]
    assert next(line.split() for line in lines if line.startswith("teacher")) == ["teacher", "-", "-", "-", "654", "2,345", "8,765"]
    cost = screen_table(written[1]).partition("Cost\n")[2]
    assert next(line.split() for line in cost.splitlines() if line.startswith("seconds of training"))[-2:] == ["2", "654"]


def test_a_run_with_hidden_classes_tells_how_the_room_is_measured(written):
    _, report = written
    assert "Room for" not in screen_table(report)
    hidden = {**report, "fine_classes": [f"digit {digit}" for digit in range(10)]}
    first = screen_table(hidden).split("\n\n")[1]
    assert "('kd','oracle')" in first and "10 hidden classes" in first
