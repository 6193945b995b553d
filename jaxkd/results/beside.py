"""What a comparison shows beside its ranked scores: calibration, agreement with the teacher, and how good the teacher of each method is."""

from typing import Any

import numpy as np

from jaxkd.results import numbers
from jaxkd.results.document import Table
from jaxkd.results.uncertainty import metrics_of
from jaxkd.results.wording import reference_side, task_of

TRAINING_COST = (
    ("seconds", "seconds of training", numbers.amount),
    ("peak_memory_bytes", "peak memory of training, MB", numbers.megabytes),
    ("trained_parameters", "parameters trained", numbers.count),
)
"""What `student.training` and `teacher.training` hold, as tables call and write it."""
METRICS = ("ece", "brier", "ece_scaled", "brier_scaled", "agreement")


def means_of_runs(runs: list[tuple[str, dict[str, Any]]], splits: list[str]) -> list[dict[str, Any]]:
    """Means over the runs of each row on each split.

    Args:
      runs: row and report.json of each run, all on the same data.
      splits: in the order of the rows.

    Returns:
      [{"method", "split", metric: mean or None for each of METRICS, "teacher": the first metric of the task, of the teacher that the runs had}].
    """
    first = metrics_of(task_of(runs[0][1]))[0]
    rows = []
    for split in splits:
        for method in dict.fromkeys(name for name, _ in runs):
            own = [report for name, report in runs if name == method]
            values = {metric: _mean([report["results"][split].get(metric) for report in own]) for metric in METRICS}
            rows.append({"method": method, "split": split, **values, "teacher": _mean([_of_teacher(report, split).get(first) for report in own])})
    return rows


def _of_teacher(report: dict[str, Any], split: str) -> dict[str, float]:
    teacher = report["teacher"] or {}
    return (teacher.get("predictions" if reference_side(report) == "teacher" else "probe") or {}).get(split, {})


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def beside_table(report: dict[str, Any]) -> Table | None:
    """The means of a comparison, without the columns that no method has; None where nothing is left."""
    rows = report["beside"]
    columns = [metric for metric in (*METRICS, "teacher") if any(row[metric] is not None for row in rows)]
    teacher = f"{metrics_of(task_of(report))[0]} of its teacher"
    header = ["split", "method", *(teacher if column == "teacher" else column for column in columns)]
    cells = [[row["split"], row["method"], *(numbers.score(row[column]) for column in columns)] for row in rows]
    return Table("Calibration, agreement, teachers: means over the runs", header, cells, label_columns=2) if columns else None


def training_costs(runs: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Means over the runs of each row of what training its student and its teacher's classifier cost; None for a side that was not trained.

    Args:
      runs: row and report.json of each run.

    Returns:
      [{"method", "student": {"seconds", "peak_memory_bytes", "trained_parameters"} or None, "teacher": the same}].
    """
    rows = []
    for method in dict.fromkeys(name for name, _ in runs):
        own = [report for name, report in runs if name == method]
        rows.append({"method": method, **{side: _mean_cost([(report[side] or {}).get("training") for report in own]) for side in ("student", "teacher")}})
    return rows


def _mean_cost(trainings: list[dict[str, float] | None]) -> dict[str, float | None] | None:
    present = [training for training in trainings if training]
    return {name: _mean([training[name] for training in present]) for name, *_ in TRAINING_COST} if present else None


def cost_table(report: dict[str, Any]) -> Table | None:
    """The costs of training of a comparison; None where nothing was trained."""
    header = ["method", *(f"{side}: {label}" for side in ("student", "teacher") for _, label, _ in TRAINING_COST)]
    cells = [
        [row["method"], *(write((row[side] or {}).get(name)) for side in ("student", "teacher") for name, _, write in TRAINING_COST)] for row in report["cost"]
    ]
    trained = any(row["student"] or row["teacher"] for row in report["cost"])
    return Table("Cost of training: means over the runs", header, cells) if trained else None
