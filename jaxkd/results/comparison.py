"""The comparison of methods over seeds: mean, standard deviation, paired differences with intervals, and who may be ranked above whom."""

import collections
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxkd import config as configs
from jaxkd import files
from jaxkd.errors import ArtefactError, unknown_name
from jaxkd.results import numbers, uncertainty
from jaxkd.results.beside import means_of_runs, training_costs
from jaxkd.results.comparison_document import comparison_document, screen_table
from jaxkd.results.document import write_document
from jaxkd.results.notes import note_lines
from jaxkd.results.predictions import Predictions, load_predictions, predictions_path, split_names
from jaxkd.results.room import room_of
from jaxkd.results.wording import origin_lines, task_of

__all__ = ["paired_difference", "screen_table", "write_comparison"]

ADVISED_SEEDS = 5


@dataclasses.dataclass(frozen=True)
class _Run:
    name: str
    workdir: Path
    report: dict[str, Any]
    splits: dict[str, Predictions]


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One row on one split: for each metric, [S, 1 + R]: a row a seed; the first column is the value, the others are resamples of the examples."""

    kind: str
    seeds: tuple[int, ...]
    samples: dict[str, np.ndarray]


def write_comparison(
    runs: Sequence[Path],
    out_dir: Path,
    *,
    names: Sequence[str] = (),
    reference: str = "baseline",
    variants: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Compares finished runs and writes report.json, report.md, report.html and plots/ into `out_dir`.

    A report of other rows or seeds that is there already is kept in `out_dir/earlier-HASH`.

    Args:
      runs: workdirs of finished runs, each with report.json and predictions/SPLIT.npz; one a row and seed.
      out_dir: where the report goes.
      names: the row of each run; its method where there are none.
      reference: the row that the tables show differences from; the JSON has the differences between all.
      variants: of the rows that are a method with settings of their own: name -> (method, "field=value", ..).

    Returns:
      report.json as written: {"schema": 1, "reference", "task", "modality", "classes", "fine_classes", "clips": {split: n}, "notes": [..],
      "room": {split: {"difference", "ci95"}} (oracle minus kd in accuracy; empty unless both are there),
      "beside": means over the runs, as `means_of_runs`, "cost": as `training_costs`,
      "runs": [{"method", "seed", "fingerprint", "workdir" (relative to out_dir)}],
      "variants": {name: {"method", "settings": ["field=value", ..]}},
      "rows": [{"method" (the row's name), "kind": "student" | "reference", "split", "metric", "n", "mean", "std" (None for one run), "seeds", "values",
      "versus": {method: {"difference", "ci95": [low, high], "ranked"}}}]}. `ranked` is False where the interval includes zero.

    Raises:
      ArtefactError: a run that is unfinished or damaged, two runs of the same row and seed, or runs on different examples, classes or tasks.
      ConfigError: a reference that is not among the runs.
    """
    loaded = [_load(Path(run), name) for run, name in zip(runs, names or [""] * len(runs), strict=True)]
    _check(loaded)
    methods = list(dict.fromkeys(run.name for run in loaded))
    if reference not in methods:
        raise unknown_name("reference method", reference, methods)
    first = loaded[0]
    evaluation = first.report["config"]["evaluation"]
    rows = []
    for split, predictions in first.splits.items():
        weights = uncertainty.bootstrap_weights(len(predictions.ids), evaluation["bootstrap_resamples"])
        entries = {method: _entry([run for run in loaded if run.name == method], split, weights, f1_threshold=evaluation["f1_threshold"]) for method in methods}
        for metric in uncertainty.metrics_of(predictions.task):
            rows.extend(_row(method, split, metric, entries) for method in methods)
    report = numbers.plain(
        {
            "schema": 1,
            "reference": reference,
            "task": task_of(first.report),
            "modality": first.report.get("modality", "audio"),
            "classes": first.report["classes"],
            "fine_classes": first.report.get("fine_classes", []),
            "clips": {split: len(predictions.ids) for split, predictions in first.splits.items()},
            "runs": [
                {"method": run.name, "seed": run.report["seed"], "fingerprint": run.report["fingerprint"], "workdir": os.path.relpath(run.workdir, out_dir)}
                for run in loaded
            ],
            "variants": {name: {"method": method, "settings": settings} for name, (method, *settings) in variants.items() if name in methods},
            "notes": _notes(loaded, variants),
            "room": room_of(rows),
            "beside": means_of_runs([(run.name, run.report) for run in loaded], list(first.splits)),
            "cost": training_costs([(run.name, run.report) for run in loaded]),
            "rows": rows,
        }
    )
    _keep_earlier(Path(out_dir), report["runs"])
    _write(report, Path(out_dir))
    return report


def _write(report: dict[str, Any], folder: Path) -> None:
    write_document(comparison_document(report), folder)
    files.write_json(folder / "report.json", report)


def _keep_earlier(out_dir: Path, runs: list[dict[str, Any]]) -> None:
    """Keeps the report of other rows or seeds that is in `out_dir`, in a folder of its own below it."""

    def compared(of: list[dict[str, Any]]) -> list[list[Any]]:
        return sorted([run["method"], run["seed"]] for run in of)

    earlier = files.read_json(out_dir / "report.json") if (out_dir / "report.json").exists() else {"runs": runs}
    if compared(earlier["runs"]) == compared(runs):
        return
    folder = out_dir / f"earlier-{files.sha256_json(compared(earlier['runs']))[:8]}"
    moved = [{**run, "workdir": os.path.relpath(out_dir / run["workdir"], folder)} for run in earlier["runs"]]
    with files.atomic_directory(folder) as temporary:
        _write({**earlier, "runs": moved}, temporary)
    print(f"The earlier comparison in {out_dir} has other rows or seeds: its report is kept in {folder}", file=sys.stderr)


def _load(workdir: Path, name: str) -> _Run:
    report = files.read_json(workdir / "report.json")
    splits = {split: load_predictions(predictions_path(workdir, split)) for split in split_names(workdir)}
    if not splits:
        raise ArtefactError(f"{workdir / 'predictions'} holds no predictions: finish that run first.")
    for split, predictions in splits.items():
        if predictions.task != task_of(report):
            raise ArtefactError(
                f"{predictions_path(workdir, split)} is of the task {predictions.task!r}, but the run of {task_of(report)!r}: run it with --mode=evaluate."
            )
    return _Run(name or report["method"], workdir, report, splits)


def _check(runs: list[_Run]) -> None:
    if not runs:
        raise ArtefactError("there is no finished run to compare.")
    first, seen = runs[0], {}
    for run in runs:
        key = (run.name, run.report["seed"])
        if key in seen:
            raise ArtefactError(f"{run.workdir} and {seen[key]} are both method {key[0]!r} with seed {key[1]}: keep one.")
        seen[key] = run.workdir
        same_task = task_of(run.report) == task_of(first.report) and run.report["classes"] == first.report["classes"]
        if not same_task or run.splits.keys() != first.splits.keys():
            raise ArtefactError(f"{run.workdir} has another task, other classes or splits than {first.workdir}: only runs on the same data can be compared.")
        for split, predictions in run.splits.items():
            if not predictions.same_examples(first.splits[split]):
                raise ArtefactError(f"{run.workdir} has other examples or labels on {split} than {first.workdir}: only runs on the same data can be compared.")


def _entry(runs: list[_Run], split: str, weights: np.ndarray, *, f1_threshold: float) -> _Entry:
    runs = sorted(runs, key=lambda run: run.report["seed"])
    sampled = [uncertainty.resampled_metrics(run.splits[split], weights, f1_threshold=f1_threshold) for run in runs]
    kind = "student" if runs[0].report["student"] else "reference"
    return _Entry(kind, tuple(run.report["seed"] for run in runs), {metric: np.stack([values[metric] for values in sampled]) for metric in sampled[0]})


def paired_difference(
    ours: np.ndarray, theirs: np.ndarray, our_seeds: tuple[int, ...], their_seeds: tuple[int, ...], *, by_seed: bool
) -> tuple[float, list[float]]:
    """The mean difference of two methods with its 95 % interval over examples and seeds.

    Args:
      ours: a metric of each run, float [S, 1 + R]: the value, then its R resamples of the examples.
      theirs: the same of the other method, [S', 1 + R], on the same resamples.
      our_seeds: the seeds of the rows of `ours`.
      their_seeds: the seeds of the rows of `theirs`.
      by_seed: pair the seeds that both have; else each side is the mean over draws of its own seeds.

    Returns:
      The difference (ours minus theirs) and [low, high].

    Raises:
      ArtefactError: `by_seed`, and no seed is in both.
    """
    resamples = ours.shape[1] - 1
    if by_seed:
        common = sorted(set(our_seeds) & set(their_seeds))
        if not common:
            raise ArtefactError(f"the methods have no seed in common ({our_seeds} and {their_seeds}), so they cannot be paired: run both with the same seeds.")
        ours = ours[[our_seeds.index(seed) for seed in common]]
        theirs = theirs[[their_seeds.index(seed) for seed in common]]
        samples = _mean_over_drawn_seeds(ours - theirs, resamples, seed=1)
    else:
        samples = _mean_over_drawn_seeds(ours, resamples, seed=1) - _mean_over_drawn_seeds(theirs, resamples, seed=2)
    return float(samples[0]), uncertainty.interval(samples[1:])


def _mean_over_drawn_seeds(values: np.ndarray, resamples: int, *, seed: int) -> np.ndarray:
    """Mean over the runs [S, 1 + R] -> [1 + R]; in each resample over runs drawn with replacement."""
    counts = np.concatenate([np.ones((1, len(values))), uncertainty.draw_counts(len(values), resamples, seed=seed)])
    return (counts.T * values).sum(axis=0) / len(values)


def _row(method: str, split: str, metric: str, entries: dict[str, _Entry]) -> dict[str, Any]:
    own = entries[method]
    values = own.samples[metric][:, 0]
    versus = {}
    for other, entry in entries.items():
        if other != method:
            by_seed = own.kind == entry.kind == "student"
            difference, ci95 = paired_difference(own.samples[metric], entry.samples[metric], own.seeds, entry.seeds, by_seed=by_seed)
            versus[other] = {"difference": difference, "ci95": ci95, "ranked": not uncertainty.includes_zero(ci95)}
    return {
        "method": method,
        "kind": own.kind,
        "split": split,
        "metric": metric,
        "n": len(values),
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else None,
        "seeds": list(own.seeds),
        "values": values.tolist(),
        "versus": versus,
    }


def _notes(runs: list[_Run], variants: Mapping[str, Sequence[str]]) -> list[str]:
    """What a reader of the tables must know: how the examples came about, what differs between the runs, what was not run."""
    first = runs[0]
    notes = origin_lines(first.report)
    seeds = collections.Counter(run.name for run in runs if run.report["student"])
    if seeds and min(seeds.values()) < ADVISED_SEEDS:
        notes.append(f"{min(seeds.values())} seed(s) a method: a standard deviation of so few is itself uncertain; {ADVISED_SEEDS} or more are advised.")
    differing = set()
    for run in runs[1:]:
        ours, theirs = configs.result_fields(first.report["config"]), configs.result_fields(run.report["config"])
        differing |= {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    differing -= {"method", "seed", *(pair.partition("=")[0] for _, *settings in variants.values() for pair in settings)}
    if differing:
        notes.append(f"The runs differ not only in method and seed, but in {', '.join(sorted(differing))}.")
    return notes + note_lines(first.report["notes"])
