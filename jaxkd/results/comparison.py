"""The comparison of methods over seeds: mean, standard deviation, paired differences with intervals, and who may be ranked above whom."""

import collections
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd import config as configs
from jaxkd import files
from jaxkd.errors import ArtefactError, unknown_name
from jaxkd.results import numbers, plots, uncertainty
from jaxkd.results.document import Document, Plot, Table, Text, to_screen, write_document
from jaxkd.results.predictions import Predictions, load_predictions, predictions_path, split_names
from jaxkd.results.report import origin_lines

ADVISED_SEEDS = 5
HOW_TO_READ = [
    "Each method was trained once a seed; mean and std (the sample standard deviation) are over those runs. kind is reference for a row without a "
    "student, such as the teacher's probe.",
    "The difference is the method's mean minus that of the method it is compared with. Its 95 % interval comes from a bootstrap that resamples clips and, "
    "independently, seeds, with the same draws on both sides: paired by clip, and by seed (a reference counts as the mean of its runs). With few seeds "
    "the part of the spread that comes from training is underestimated.",
    "Two methods whose interval of the difference includes zero are not ranked: the order of their means says nothing. Differences are not corrected for "
    "the number of comparisons.",
]


@dataclasses.dataclass(frozen=True)
class _Run:
    workdir: Path
    report: dict[str, Any]
    splits: dict[str, Predictions]


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One method on one split: for each metric, [S, 1 + R]: a row a seed; the first column is the value, the others are resamples of the clips."""

    kind: str
    seeds: tuple[int, ...]
    samples: dict[str, np.ndarray]


def write_comparison(runs: list[Path], out_dir: Path, *, reference: str = "baseline") -> dict[str, Any]:
    """Compares finished runs and writes report.json, report.md, report.html and plots/ into `out_dir`.

    Args:
      runs: workdirs of finished runs, each with report.json and predictions/SPLIT.npz; one a method and seed.
      out_dir: where the report goes.
      reference: the method that the tables show differences from; the JSON has the differences between all.

    Returns:
      report.json as written: {"schema": 1, "reference", "classes", "clips": {split: n}, "notes": [..],
      "runs": [{"method", "seed", "fingerprint", "workdir" (relative to out_dir)}],
      "rows": [{"method", "kind": "student" | "reference", "split", "metric", "n", "mean", "std" (None for one run), "seeds", "values",
      "versus": {method: {"difference", "ci95": [low, high], "ranked"}}}]}. `ranked` is False where the interval includes zero.

    Raises:
      ArtefactError: a run that is unfinished or damaged, two runs of the same method and seed, or runs on different examples or classes.
      ConfigError: a reference that is not among the runs.
    """
    loaded = [_load(Path(run)) for run in runs]
    _check(loaded)
    methods = list(dict.fromkeys(run.report["method"] for run in loaded))
    if reference not in methods:
        raise unknown_name("reference method", reference, methods)
    evaluation = loaded[0].report["config"]["evaluation"]
    rows = []
    for split in loaded[0].splits:
        entries = {method: _entry([run for run in loaded if run.report["method"] == method], split, evaluation) for method in methods}
        for metric in uncertainty.METRICS:
            rows.extend(_row(method, split, metric, entries) for method in methods)
    report = numbers.plain(
        {
            "schema": 1,
            "reference": reference,
            "classes": loaded[0].report["classes"],
            "clips": {split: len(predictions.ids) for split, predictions in loaded[0].splits.items()},
            "runs": [
                {**{key: run.report[key] for key in ("method", "seed", "fingerprint")}, "workdir": os.path.relpath(run.workdir, out_dir)} for run in loaded
            ],
            "notes": _notes(loaded),
            "rows": rows,
        }
    )
    write_document(_document(report), Path(out_dir))
    files.write_json(Path(out_dir) / "report.json", report)
    return report


def _load(workdir: Path) -> _Run:
    report = files.read_json(workdir / "report.json")
    splits = {split: load_predictions(predictions_path(workdir, split)) for split in split_names(workdir)}
    if not splits:
        raise ArtefactError(f"{workdir / 'predictions'} holds no predictions: finish that run first.")
    return _Run(workdir, report, splits)


def _check(runs: list[_Run]) -> None:
    if not runs:
        raise ArtefactError("there is no finished run to compare.")
    first, seen = runs[0], {}
    for run in runs:
        key = (run.report["method"], run.report["seed"])
        if key in seen:
            raise ArtefactError(f"{run.workdir} and {seen[key]} are both method {key[0]!r} with seed {key[1]}: keep one.")
        seen[key] = run.workdir
        if run.report["classes"] != first.report["classes"] or run.splits.keys() != first.splits.keys():
            raise ArtefactError(f"{run.workdir} has other classes or splits than {first.workdir}: only runs on the same data can be compared.")
        for split, predictions in run.splits.items():
            if not predictions.same_examples(first.splits[split]):
                raise ArtefactError(f"{run.workdir} has other examples or labels on {split} than {first.workdir}: only runs on the same data can be compared.")


def _entry(runs: list[_Run], split: str, evaluation: dict[str, Any]) -> _Entry:
    runs = sorted(runs, key=lambda run: run.report["seed"])
    clips = len(runs[0].splits[split].ids)
    weights = np.concatenate([np.ones((1, clips)), uncertainty.draw_counts(clips, evaluation["bootstrap_resamples"], seed=0)])
    sampled = [uncertainty.resampled_metrics(run.splits[split], weights, f1_threshold=evaluation["f1_threshold"]) for run in runs]
    kind = "student" if runs[0].report["student"] else "reference"
    return _Entry(kind, tuple(run.report["seed"] for run in runs), {metric: np.stack([values[metric] for values in sampled]) for metric in uncertainty.METRICS})


def paired_difference(
    ours: np.ndarray, theirs: np.ndarray, our_seeds: tuple[int, ...], their_seeds: tuple[int, ...], *, by_seed: bool
) -> tuple[float, list[float]]:
    """The mean difference of two methods with its 95 % interval over clips and seeds.

    Args:
      ours: a metric of each run, float [S, 1 + R]: the value, then its R resamples of the clips.
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


def _notes(runs: list[_Run]) -> list[str]:
    """What a reader of the tables must know: how the clips came about, what differs between the runs, what was not run."""
    first = runs[0]
    notes = origin_lines(first.report)
    seeds = collections.Counter(run.report["method"] for run in runs if run.report["student"])
    if seeds and min(seeds.values()) < ADVISED_SEEDS:
        notes.append(f"{min(seeds.values())} seed(s) a method: a standard deviation of so few is itself uncertain; {ADVISED_SEEDS} or more are advised.")
    differing = set()
    for run in runs[1:]:
        ours, theirs = configs.result_fields(first.report["config"]), configs.result_fields(run.report["config"])
        differing |= {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    differing -= {"method", "seed"}
    if differing:
        notes.append(f"The runs differ not only in method and seed, but in {', '.join(sorted(differing))}.")
    return notes + [f"{name}: {text}" for name, text in numbers.flat_lines(first.report["notes"])]


def _verdict(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "reference point"
    return "not ranked" if not cell["ranked"] else "above" if cell["difference"] > 0 else "below"


def _tables(report: dict[str, Any]) -> list[Table]:
    """One table a split: means, spread, and the difference from the reference."""
    header = ["metric", "method", "kind", "runs", "mean ± std", f"difference from {report['reference']}", "verdict", "not ranked against"]
    tables = []
    for split, clips in report["clips"].items():
        rows = []
        for row in (row for row in report["rows"] if row["split"] == split):
            cell = row["versus"].get(report["reference"])
            spread = f"{numbers.score(row['mean'])} ± {numbers.score(row['std'])}"
            gap = numbers.with_interval(cell["difference"], cell["ci95"], signed=True) if cell else numbers.ABSENT
            open_against = ", ".join(other for other, versus in row["versus"].items() if not versus["ranked"]) or numbers.ABSENT
            rows.append([row["metric"], row["method"], row["kind"], str(row["n"]), spread, gap, _verdict(cell), open_against])
        tables.append(Table(f"{split} ({clips} clips)", header, rows, label_columns=3))
    return tables


def screen_table(report: dict[str, Any]) -> str:
    """The comparison as plain text: a table a split, then the notes."""
    notes = [f"- {numbers.brief(note)}" for note in report["notes"]]
    return "\n\n".join([*map(to_screen, _tables(report)), *(["\n".join(["Notes", *notes])] if notes else [])]) + "\n"


def _document(report: dict[str, Any]) -> Document:
    methods = list(dict.fromkeys(row["method"] for row in report["rows"]))
    panels: dict[str, list[tuple[str, str, list[float]]]] = {}
    for row in report["rows"]:
        if row["split"] != "valid":
            panels.setdefault(f"{row['split']}, {row['metric']}", []).append((row["method"], row["kind"], row["values"]))
    blocks: list[Table | Plot | Text] = [*_tables(report)]
    if panels:
        description = "Score of each method on each split and metric: a dot a seed, a tick at the mean, a line of one standard deviation to each side."
        blocks.append(Plot("Scores by method", "methods", description, plots.method_scores(panels)))
    blocks.append(_pairs_table(report))
    blocks.append(Text("Notes", report["notes"] or ["none"]))
    blocks.append(Text("How to read this", HOW_TO_READ))
    runs = [[run["method"], str(run["seed"]), run["fingerprint"], run["workdir"]] for run in report["runs"]]
    blocks.append(Table("Runs", ["method", "seed", "run", "folder"], runs, label_columns=4, folded=True))
    return Document("Comparison of methods", f"{', '.join(methods)}; {len(report['runs'])} runs", blocks)


def _pairs_table(report: dict[str, Any]) -> Table:
    rows = []
    for row in report["rows"]:
        for other, cell in row["versus"].items():
            gap = numbers.with_interval(cell["difference"], cell["ci95"], signed=True)
            rows.append([row["split"], row["metric"], row["method"], other, gap, _verdict(cell)])
    return Table("All paired differences", ["split", "metric", "method", "minus", "difference", "verdict"], rows, label_columns=4, folded=True)
