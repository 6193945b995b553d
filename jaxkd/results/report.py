"""The report of one finished run: report.json (schema 1), report.md and report.html, and the table for the screen."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd import files, metrics
from jaxkd.errors import ArtefactError
from jaxkd.results import numbers, plots, room, uncertainty
from jaxkd.results.beside import TRAINING_COST
from jaxkd.results.document import Document, Plot, Table, Text, to_screen, write_document
from jaxkd.results.notes import brief, note_lines
from jaxkd.results.predictions import PROBE_SUFFIX, SIDES, Predictions, load_predictions, predictions_path, read_curves, split_names
from jaxkd.results.wording import KEPT, classes_of, how_to_read_run, origin_lines, reference_side, task_of, unit_of

LOWER_IS_BETTER = ("ece", "brier", "nll", "ece_scaled", "brier_scaled")


def write_report(workdir: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Adds per-class scores and intervals to the summary of a finished run and writes report.json, report.md, report.html and plots/.

    Args:
      workdir: the run's folder, with predictions/SPLIT.npz, predictions/probe_SPLIT.npz or teacher_SPLIT.npz (where there is one) and metrics.jsonl.
      summary: every key of report.json but those added here: schema, name, config, fingerprint, environment, method, seed, task ("multilabel" if absent),
        modality ("audio" if absent), classes, split_classes (of the splits that have others; none if absent), student (None for a
        reference without a student), teacher (its key reference, "probe" if absent, says what the student is measured against), results, timings_s, notes.

    Returns:
      report.json as written: the summary, and
        clips: {split: number of examples};
        per_class: {split: {"student" | "probe" | "teacher": {class: average precision, None where undefined}}};
        intervals: {split: {metric: {"student" | "probe" | "teacher" | "difference": {"value", "ci95"}}}} for the metrics of the task.

    Raises:
      ArtefactError: predictions that are missing, damaged, of other examples, classes or another task, or that do not give the summary's results.
    """
    workdir = Path(workdir)
    sides = _load(workdir, summary)
    student = sides["student"]
    by_split = {split: {side: table[split] for side, table in sides.items() if split in table} for split in student}
    intervals = {split: _intervals(of_split, summary["config"]["evaluation"]) for split, of_split in by_split.items()}
    _check_results(summary["results"], intervals, workdir)
    per_class = {
        split: {side: dict(zip(classes_of(summary, split), _average_precision(predictions), strict=True)) for side, predictions in of_split.items()}
        for split, of_split in by_split.items()
    }
    clips = {split: len(predictions.ids) for split, predictions in student.items()}
    report = numbers.plain({**summary, "schema": 1, "clips": clips, "per_class": per_class, "intervals": intervals})
    write_document(_document(report, student, read_curves(workdir)), workdir)
    files.write_json(workdir / "report.json", report)
    return report


def _load(workdir: Path, summary: dict[str, Any]) -> dict[str, dict[str, Predictions]]:
    """Predictions by side, "student" and what it is measured against, then by split."""
    task, other = task_of(summary), reference_side(summary)
    sides: dict[str, dict[str, Predictions]] = {"student": {}, other: {}}
    for split in split_names(workdir):
        path, classes = predictions_path(workdir, split), classes_of(summary, split)
        student = sides["student"][split] = load_predictions(path)
        if student.scores.shape[1] != len(classes):
            raise ArtefactError(f"{path} has {student.scores.shape[1]} classes, but the run has {len(classes)} there: run with --mode=evaluate.")
        if student.task != task:
            raise ArtefactError(f"{path} is of the task {student.task!r}, but the run of {task!r}: run with --mode=evaluate.")
        path = predictions_path(workdir, split, side=other)
        if path.exists():
            sides[other][split] = load_predictions(path)
            if not sides[other][split].same_examples(student):
                raise ArtefactError(f"{path} is about other examples or labels than the student's predictions: remove it and run with --mode=evaluate.")
    if not sides["student"]:
        raise ArtefactError(f"{workdir / 'predictions'} holds no predictions: run with --mode=evaluate.")
    return sides


def _average_precision(predictions: Predictions) -> list[float]:
    return metrics.average_precision(predictions.labels, predictions.scores, predictions.label_mask).tolist()


def _intervals(sides: dict[str, Predictions], evaluation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Value and interval of each metric for the student, for what it is measured against, and of their difference."""
    student = sides["student"]
    weights = uncertainty.bootstrap_weights(len(student.ids), evaluation["bootstrap_resamples"])
    samples = {side: uncertainty.resampled_metrics(predictions, weights, f1_threshold=evaluation["f1_threshold"]) for side, predictions in sides.items()}
    names = uncertainty.metrics_of(student.task)
    for other in samples.keys() - {"student"}:
        samples["difference"] = {metric: samples["student"][metric] - samples[other][metric] for metric in names}
    return {
        metric: {side: {"value": float(values[metric][0]), "ci95": uncertainty.interval(values[metric][1:])} for side, values in samples.items()}
        for metric in names
    }


def _check_results(results: dict[str, dict[str, float]], intervals: dict[str, dict[str, Any]], workdir: Path) -> None:
    for split, by_metric in intervals.items():
        for metric, sides in by_metric.items():
            stated, computed = results.get(split, {}).get(metric), sides["student"]["value"]
            if stated is not None and not math.isclose(stated, computed, abs_tol=1e-4) and not math.isnan(computed):
                raise ArtefactError(
                    f"{metric} on {split} is {stated:.6f} in the results but {computed:.6f} from the predictions in {workdir}: "
                    "they are of different runs; run with --mode=evaluate."
                )


def _results_table(report: dict[str, Any]) -> Table:
    rows, other = [], reference_side(report)
    other_results = (report["teacher"] or {}).get("predictions" if other == "teacher" else "probe") or {}
    for split in report["intervals"]:
        values = report["results"].get(split, {})
        for metric in sorted(values, key=lambda name: _place(name, task_of(report))):
            sides = report["intervals"][split].get(metric, {})
            of_student, of_other, difference = (sides.get(side, {}) for side in ("student", other, "difference"))
            rows.append(
                [
                    split,
                    metric,
                    numbers.with_interval(values[metric], of_student.get("ci95")),
                    numbers.with_interval(of_other.get("value", other_results.get(split, {}).get(metric)), of_other.get("ci95")),
                    numbers.with_interval(difference.get("value"), difference.get("ci95"), signed=True),
                ]
            )
    return Table("Scores", ["split", "metric", "student" if report["student"] else report["method"], SIDES[other], "difference"], rows, label_columns=2)


def _place(metric: str, task: str) -> int:
    order = (*uncertainty.metrics_of(task), "agreement", *LOWER_IS_BETTER)
    return order.index(metric) if metric in order else len(order)


def _cost_table(report: dict[str, Any]) -> Table:
    sides, unit = (report["student"] or {}, report["teacher"] or {}), unit_of(report)
    names = [side.get("name", numbers.ABSENT) for side in sides]
    rows = [
        ["parameters", *(numbers.count(side.get("parameters")) for side in sides)],
        [f"MACs per {unit}", *(numbers.count(side.get("macs_per_example")) for side in sides)],
        [f"{unit}s per second", *(numbers.amount(side.get("examples_per_second")) for side in sides)],
    ]
    trainings = [side.get("training") or {} for side in sides]
    if any(trainings):
        rows += [[label, *(write(training.get(name)) for training in trainings)] for name, label, write in TRAINING_COST]
    return Table("Cost", ["", f"student: {names[0]}", f"teacher: {names[1]}"], rows)


def _diagnostics_table(report: dict[str, Any]) -> list[Table]:
    found = report.get("diagnostics")
    if not found:
        return []
    names = {"raw": "the raw embedding", "compact": "the compact embedding"}
    rows = [
        [f"bias-corrected distance correlation of student features and {name}", numbers.score(found["distance_correlation"][side]), numbers.score(0.0)]
        for side, name in names.items()
        if side in found["distance_correlation"]
    ]
    if "label_share" in found:
        share = "share of the compact embedding's distance variance that its label directions explain"
        rows.append([share, numbers.score(found["label_share"]), numbers.score(found["chance_share"])])
    rows += [[f"{metric} of the head on the compact embedding", numbers.score(value), numbers.ABSENT] for metric, value in found.get("head", {}).items()]
    for layer, values in found.get("singular_values", {}).items():
        three = ", ".join(f"{value:.3g}" for value in (values[0], values[len(values) // 2], values[-1]))
        rows.append([f"singular values of the transformation ({layer}): largest, median, smallest of {len(values)}", three, numbers.ABSENT])
    return [Table(f"Diagnostics ({found['split']}, {found['rows']} {unit_of(report)}s)", ["quantity", "value", "by chance"], rows)]


def _note_lines(report: dict[str, Any]) -> list[str]:
    step = (report["student"] or {}).get("best_step")
    return [*([] if step is None else [KEPT.format(step=step)]), *origin_lines(report), *note_lines(report["notes"])]


def _title(report: dict[str, Any]) -> str:
    return f"{report['name']}: {report['method']}, seed {report['seed']}"


def _subtitle(report: dict[str, Any]) -> str:
    counts = ", ".join(f"{split} {number}" for split, number in report["clips"].items())
    return f"run {report['fingerprint']}; {len(report['classes'])} classes; {unit_of(report)}s: {counts}"


def _room(report: dict[str, Any]) -> list[str]:
    """What a task with hidden classes asks for before subclass methods are judged on it."""
    groups = report.get("fine_classes")
    return [room.UNMEASURED.format(groups=len(groups))] if groups else []


def screen_table(report: dict[str, Any]) -> str:
    """The result of a run as plain text: scores with intervals, cost, notes."""
    tables = [to_screen(_results_table(report)), to_screen(_cost_table(report))]
    notes = "\n".join(["Notes", *(f"- {brief(line)}" for line in _note_lines(report))])
    return "\n\n".join([f"{_title(report)}\n{_subtitle(report)}", *_room(report), *tables, *([notes] if _note_lines(report) else [])]) + "\n"


def _document(report: dict[str, Any], student: dict[str, Predictions], curves: plots.Curves) -> Document:
    origin, notes, classes = origin_lines(report), _note_lines(report), report["classes"]
    final = {split: scores for split, scores in report["per_class"].items() if split.startswith(("test", "unseen"))} or report["per_class"]
    drawn = [split for split in final if not split.endswith(PROBE_SUFFIX)]
    panels = {split: {side: np.array(list(scores.values()), float) for side, scores in final[split].items()} for split in drawn}
    blocks: list[Table | Plot | Text] = [
        *([Text("", _room(report))] if _room(report) else []),
        _results_table(report),
        *([Text("", [" ".join(origin)])] if origin else []),
        _cost_table(report),
    ]
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
            f"Average precision of each class on {' and '.join(panels)}: student and {SIDES[reference_side(report)]}. The numbers are in the table below.",
            plots.class_scores(classes, panels),
        )
    )
    blocks.extend(_class_tables(report, final))
    for split in drawn:
        given = uncertainty.mean_score_given_class(student[split])
        description = f"Heat map on {split}: mean score of each predicted class in the columns, given each true class in the rows."
        blocks.append(Plot(f"Mean score given the true class, {split}", f"confusion_{split}", description, plots.confusion(classes, given, split)))
    blocks.extend(_diagnostics_table(report))
    if layers := (report.get("diagnostics") or {}).get("singular_values"):
        spectrum = "The singular values of each matrix of the transformation by their rank, on a logarithmic axis."
        blocks.append(Plot("What the transformation passes on", "singular_values", spectrum, plots.singular_values(layers)))
    blocks.append(Text("Notes", notes or ["none"]))
    blocks.append(Text("How to read this", how_to_read_run(report)))
    blocks.append(Table("Time by stage", ["stage", "seconds"], [[stage, numbers.amount(value)] for stage, value in report["timings_s"].items()]))
    for title, key in (("Configuration", "config"), ("Environment", "environment")):
        lines = [list(pair) for pair in numbers.flat_lines(report[key])]
        blocks.append(Table(title, ["name", "value"], lines, label_columns=2, folded=True))
    return Document(_title(report), _subtitle(report), blocks)


def _class_tables(report: dict[str, Any], per_class: dict[str, dict[str, dict[str, float | None]]]) -> list[Table]:
    """One for the splits in the classes of the run, and one for each split that has classes of its own."""
    own = report.get("split_classes", {})
    groups = [("", report["classes"], [split for split in per_class if split not in own])]
    groups += [(f": {split}, classes of its own", classes, [split]) for split, classes in own.items() if split in per_class]
    tables = []
    for title, classes, splits in groups:
        columns = {f"{split}, {side}": scores for split in splits for side, scores in per_class[split].items()}
        rows = [[name, *(numbers.score(scores[name]) for scores in columns.values())] for name in classes]
        tables.append(Table(f"Average precision by class, as numbers{title}", ["class", *columns], rows, folded=True))
    return tables
