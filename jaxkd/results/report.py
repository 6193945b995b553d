"""The report of one finished run: report.json (schema 1), report.md and report.html, and the table for the screen."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd import files, metrics
from jaxkd.errors import ArtefactError
from jaxkd.results import numbers, plots, uncertainty
from jaxkd.results.document import Document, Plot, Table, Text, to_screen, write_document
from jaxkd.results.predictions import Predictions, load_predictions, predictions_path, read_curves, split_names

RENDERED = "The clips are rendered from scores with recorded instrument samples: the figures are not comparable with those of the papers."
UNSEEN = "unseen holds the same scores as test, rendered with a sound bank that was never heard in training."
METRIC_ORDER = (*uncertainty.METRICS, "ece", "brier")
HOW_TO_READ = [
    "map is the mean over classes of the average precision, roc_auc that of the area under the ROC curve, f1_macro that of the F1 of the positive and "
    "the negative class at the threshold of the config. Labels that are masked do not count.",
    "Brackets hold the 95 % bootstrap interval over the clips of the split. The difference is the student's score minus that of the teacher's linear "
    "probe, on the same resampled clips. Clips count as independent, also those of one score. The interval is about the clips alone; how much training "
    "varies, only several seeds tell (--mode=compare).",
    "valid was used to choose the checkpoint; test and unseen were read once, at the end.",
]


def write_report(workdir: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Adds per-class scores and intervals to the summary of a finished run and writes report.json, report.md, report.html and plots/.

    Args:
      workdir: the run's folder, with predictions/SPLIT.npz, predictions/probe_SPLIT.npz (where there is a probe) and metrics.jsonl.
      summary: every key of report.json but those added here: schema, name, config, fingerprint, environment, method, seed, classes, student (None for a
        reference without a student), teacher, results, timings_s, notes.

    Returns:
      report.json as written: the summary, and
        clips: {split: number of clips};
        per_class: {split: {"student" | "probe": {class: average precision, None where undefined}}};
        intervals: {split: {metric: {"student" | "probe": {"value", "ci95"}, "difference": {"value", "ci95"}}}} for `uncertainty.METRICS`.

    Raises:
      ArtefactError: predictions that are missing, damaged, of other examples or classes, or that do not give the summary's results.
    """
    workdir = Path(workdir)
    student, probe = _load(workdir, summary["classes"])
    evaluation = summary["config"]["evaluation"]
    intervals = {
        split: _intervals(student[split], probe.get(split), resamples=evaluation["bootstrap_resamples"], f1_threshold=evaluation["f1_threshold"])
        for split in student
    }
    _check_agreement(summary["results"], intervals, workdir)
    per_class = {
        split: {
            side: dict(zip(summary["classes"], _average_precision(table[split]), strict=True))
            for side, table in (("student", student), ("probe", probe))
            if split in table
        }
        for split in student
    }
    clips = {split: len(predictions.ids) for split, predictions in student.items()}
    report = numbers.plain({**summary, "schema": 1, "clips": clips, "per_class": per_class, "intervals": intervals})
    write_document(_document(report, student, read_curves(workdir)), workdir)
    files.write_json(workdir / "report.json", report)
    return report


def _load(workdir: Path, classes: list[str]) -> tuple[dict[str, Predictions], dict[str, Predictions]]:
    student, probe = {}, {}
    for split in split_names(workdir):
        student[split] = load_predictions(predictions_path(workdir, split))
        if student[split].scores.shape[1] != len(classes):
            found = student[split].scores.shape[1]
            raise ArtefactError(f"{predictions_path(workdir, split)} has {found} classes, but the run has {len(classes)}: run with --mode=evaluate.")
        path = predictions_path(workdir, split, probe=True)
        if path.exists():
            probe[split] = load_predictions(path)
            if not probe[split].same_examples(student[split]):
                raise ArtefactError(f"{path} is about other examples or labels than the student's predictions: remove it and run with --mode=evaluate.")
    if not student:
        raise ArtefactError(f"{workdir / 'predictions'} holds no predictions: run with --mode=evaluate.")
    return student, probe


def _average_precision(predictions: Predictions) -> list[float]:
    return metrics.average_precision(predictions.labels, predictions.scores, predictions.label_mask).tolist()


def _intervals(student: Predictions, probe: Predictions | None, *, resamples: int, f1_threshold: float) -> dict[str, dict[str, Any]]:
    """Value and interval of each metric for both sides and their difference; the first row of the weights is the sample itself."""
    clips = len(student.ids)
    weights = np.concatenate([np.ones((1, clips)), uncertainty.draw_counts(clips, resamples, seed=0)])
    sides = {"student": uncertainty.resampled_metrics(student, weights, f1_threshold=f1_threshold)}
    if probe is not None:
        sides["probe"] = uncertainty.resampled_metrics(probe, weights, f1_threshold=f1_threshold)
        sides["difference"] = {metric: sides["student"][metric] - sides["probe"][metric] for metric in uncertainty.METRICS}
    return {
        metric: {side: {"value": float(values[metric][0]), "ci95": uncertainty.interval(values[metric][1:])} for side, values in sides.items()}
        for metric in uncertainty.METRICS
    }


def _check_agreement(results: dict[str, dict[str, float]], intervals: dict[str, dict[str, Any]], workdir: Path) -> None:
    for split, by_metric in intervals.items():
        for metric, sides in by_metric.items():
            stated, computed = results.get(split, {}).get(metric), sides["student"]["value"]
            if stated is not None and not math.isclose(stated, computed, abs_tol=1e-4) and not math.isnan(computed):
                raise ArtefactError(
                    f"{metric} on {split} is {stated:.6f} in the results but {computed:.6f} from the predictions in {workdir}: "
                    "they are of different runs; run with --mode=evaluate."
                )


def _results_table(report: dict[str, Any]) -> Table:
    rows = []
    probe_results = (report["teacher"] or {}).get("probe") or {}
    for split in report["intervals"]:
        for metric, value in sorted(report["results"].get(split, {}).items(), key=_by_metric):
            sides = report["intervals"][split].get(metric, {})
            probe_value = probe_results.get(split, {}).get(metric)
            student_side, probe_side = sides.get("student", {}), sides.get("probe", {})
            difference = sides.get("difference", {})
            rows.append(
                [
                    split,
                    metric,
                    numbers.with_interval(value, student_side.get("ci95")),
                    numbers.with_interval(probe_side.get("value", probe_value), probe_side.get("ci95")),
                    numbers.with_interval(difference.get("value"), difference.get("ci95"), signed=True),
                ]
            )
    return Table("Scores", ["split", "metric", "student" if report["student"] else report["method"], "teacher's probe", "difference"], rows, label_columns=2)


def _cost_table(report: dict[str, Any]) -> Table:
    sides = (report["student"] or {}, report["teacher"] or {})
    names = [side.get("name", numbers.ABSENT) for side in sides]
    rows = [
        ["parameters", *(numbers.count(side.get("parameters")) for side in sides)],
        ["MACs per clip", *(numbers.count(side.get("macs_per_example")) for side in sides)],
        ["clips per second", *(numbers.amount(side.get("examples_per_second")) for side in sides)],
    ]
    return Table("Cost", ["", f"student: {names[0]}", f"teacher: {names[1]}"], rows)


def origin_lines(report: dict[str, Any]) -> list[str]:
    """What must be said of clips that were rendered, beside any score on them; empty for others."""
    if report["config"]["data"]["source"] != "rendered_instruments":
        return []
    return [RENDERED, UNSEEN] if "unseen" in report["results"] else [RENDERED]


def _note_lines(report: dict[str, Any]) -> list[str]:
    return origin_lines(report) + [f"{name}: {text}" for name, text in numbers.flat_lines(report["notes"])]


def _by_metric(item: tuple[str, float]) -> int:
    return METRIC_ORDER.index(item[0]) if item[0] in METRIC_ORDER else len(METRIC_ORDER)


def _title(report: dict[str, Any]) -> str:
    return f"{report['name']}: {report['method']}, seed {report['seed']}"


def _subtitle(report: dict[str, Any]) -> str:
    clips = ", ".join(f"{split} {number}" for split, number in report["clips"].items())
    return f"run {report['fingerprint']}; {len(report['classes'])} classes; clips: {clips}"


def screen_table(report: dict[str, Any]) -> str:
    """The result of a run as plain text: scores with intervals, cost, notes."""
    tables = [to_screen(_results_table(report)), to_screen(_cost_table(report))]
    notes = "\n".join(["Notes", *(f"- {numbers.brief(line)}" for line in _note_lines(report))])
    return "\n\n".join([f"{_title(report)}\n{_subtitle(report)}", *tables, *([notes] if _note_lines(report) else [])]) + "\n"


def _document(report: dict[str, Any], student: dict[str, Predictions], curves: plots.Curves) -> Document:
    origin, notes, classes = origin_lines(report), _note_lines(report), report["classes"]
    final = {split: scores for split, scores in report["per_class"].items() if split.startswith(("test", "unseen"))} or report["per_class"]
    panels = {split: {side: np.array(list(scores.values()), float) for side, scores in sides.items()} for split, sides in final.items()}
    blocks: list[Table | Plot | Text] = [_results_table(report), *([Text("", [" ".join(origin)])] if origin else []), _cost_table(report)]
    if any(curves.values()):
        losses = "Left: training losses. Right: validation scores. Both over the steps of training."
        blocks.append(Plot("Training", "training_curves", losses, plots.training_curves(curves)))
    distance = plots.distance_curves(curves)
    if distance is not None:
        blocks.append(Plot("Distance over time", "distance", "Distance between student features and teacher embedding over the steps.", distance))
    blocks.append(
        Plot(
            "Average precision by class",
            "class_scores",
            f"Average precision of each class on {' and '.join(panels)}, the student's and the teacher's probe's; the numbers are in the table below.",
            plots.class_scores(classes, panels),
        )
    )
    blocks.append(_class_table(classes, final))
    for split in final:
        given = uncertainty.mean_score_given_class(student[split])
        description = f"Heat map on {split}: mean score of each predicted class in the columns, given each true class in the rows."
        blocks.append(Plot(f"Mean score given the true class, {split}", f"confusion_{split}", description, plots.confusion(classes, given, split)))
    blocks.append(Text("Notes", notes or ["none"]))
    blocks.append(Text("How to read this", HOW_TO_READ))
    blocks.append(Table("Time by stage", ["stage", "seconds"], [[stage, numbers.amount(value)] for stage, value in report["timings_s"].items()]))
    for title, key in (("Configuration", "config"), ("Environment", "environment")):
        lines = [list(pair) for pair in numbers.flat_lines(report[key])]
        blocks.append(Table(title, ["name", "value"], lines, label_columns=2, folded=True))
    return Document(_title(report), _subtitle(report), blocks)


def _class_table(classes: list[str], per_class: dict[str, dict[str, dict[str, float | None]]]) -> Table:
    header = ["class", *(f"{split}, {side}" for split, sides in per_class.items() for side in sides)]
    rows = [[name, *(numbers.score(scores[name]) for sides in per_class.values() for scores in sides.values())] for name in classes]
    return Table("Average precision by class, as numbers", header, rows, folded=True)
