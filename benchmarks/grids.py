"""Grids of configs/audio.py: run, and kept as a small table with the machine, the versions, the date and the settings that it came from."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.record import Figure, about, rounded
from benchmarks.tuning import applied
from configs.audio import get_config
from jaxkd import pipeline
from jaxkd.config import fingerprint, flatten
from jaxkd.files import default_cache_dir, read_json, write_json, write_text
from jaxkd.results import numbers
from jaxkd.results.document import Document, Table, to_markdown
from jaxkd.workdir import SOURCE

PIVOTS = ("baseline", "east", "compressed")
"""Rows that the others are compared with in the table."""
NOT_KEPT = "not kept"
CAUTION = (
    "Brackets: the 95 % interval, paired by clip and by seed, from 1,000 resamples, so that a bound within 0.002 of zero may fall on either side; a star: it "
    "leaves zero out. With few seeds what training adds to the spread is underestimated, and nothing is corrected for the number of comparisons."
)
MINUS = "A row whose name ends like that of another row of east, baseline or compressed is compared with that one."


def grid_config(grid: str, *, runlocal: bool = False, seeds: int | None = None) -> Any:
    """The config of a grid, in tiny sizes or with the first seeds only if asked."""
    config = get_config(f"grid={grid}" + (",runlocal" if runlocal else ""))
    if seeds is not None:
        config.compare.seeds = tuple(range(seeds))
    return config


def run_grid(config: Any, workdir: Path) -> dict[str, Any]:
    """Runs what is not done yet of a grid, with the settings that were chosen in the workdir; returns report.json of the comparison."""
    applied(config, workdir)
    pipeline.check(config)
    return pipeline.compare(config, workdir, default_cache_dir())


def write_results(config: Any, report: dict[str, Any], workdir: Path, name: str, doc: str, pivot: str, out: Path) -> list[dict[str, Any]]:
    """Keeps the rows of a grid as `out/NAME.json` and `out/NAME.md`; returns them: all splits but the validation split.

    Args:
      config: of the grid.
      report: report.json of its comparison.
      workdir: where it was run.
      name: of the files, which begins with that of the benchmark.
      doc: docstring of the benchmark.
      pivot: the row of PIVOTS that the figures of the others are compared with.
      out: folder of the results.
    """
    rows = [
        {key: row[key] for key in ("method", "split", "metric", "n", "mean", "std", "values")} | {"minus": _minus(row["method"], row["versus"])}
        for row in report["rows"]
        if row["split"] != "valid"
    ]
    environment = read_json(workdir / "environment.json")
    folders = {(run["method"], run["seed"]): workdir / config.compare.name / run["workdir"] for run in report["runs"]}
    begun = [read_json(folder / "environment.json") for folder in folders.values()]
    diagnostics = _mean_diagnostics({key: read_json(folder / "report.json")["diagnostics"] for key, folder in folders.items()})
    common = about("_".join(name.split("_")[:2]), doc, figures(rows, pivot))
    common |= {
        "config": f"configs/audio.py, fingerprint {fingerprint(config)}",
        "machine": common["machine"] | {"platform": environment["platform"], "python": environment["python"]},
        "versions": environment["versions"] | {SOURCE: distinct(run["versions"].get(SOURCE) for run in begun)},
        "runs begun on": distinct(run.get("date") for run in begun),
        "clips": report["clips"],
        "seeds": list(config.compare.seeds),
        "variants": list(config.compare.variants),
        "settings": list(config.compare.settings),
    }
    write_json(out / f"{name}.json", rounded({**common, "diagnostics": diagnostics, "rows": rows}))
    write_text(out / f"{name}.md", to_markdown(_document(name, common, diagnostics, rows)))
    return rows


def _mean_diagnostics(found: dict[tuple[str, int], dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The diagnostics of each row of a table that are one number a run, as means over its runs."""
    of_rows: dict[str, dict[str, list[float]]] = {}
    for (row, _), diagnostics in found.items():
        for name, value in flatten(diagnostics).items():
            if isinstance(value, float):
                of_rows.setdefault(row, {}).setdefault(name, []).append(value)
    return {row: {name: sum(values) / len(values) for name, values in names.items()} for row, names in of_rows.items()}


def distinct(values: Iterable[str | None]) -> list[str]:
    """What the runs of a table say of themselves, each once, in order; runs that were begun before that was kept say "not kept"."""
    return sorted({NOT_KEPT if value is None else value for value in values})


def figures(rows: list[dict[str, Any]], pivot: str) -> list[Figure]:
    """Mean average precision of each row and split, minus that of its pivot where it has one."""
    found = []
    for row in rows:
        if row["metric"] == "map" and (gap := row["minus"][pivot]):
            found.append(Figure(f"{row['split']}: {row['method']} minus its {pivot}", gap["difference"], "", *gap["ci95"]))
    return found


def _minus(row: str, versus: dict[str, Any]) -> dict[str, Any]:
    """What a row is above each of PIVOTS, or above the pivot with the longest ending that the grid has: `compressed_pca_aisfx` above `east_aisfx`."""
    words = row.split("_")
    endings = ["_".join(["", *words[start:]]) for start in range(1, len(words))]
    same = {pivot: next((pivot + ending for ending in endings if pivot + ending in versus), pivot) for pivot in PIVOTS}
    return {pivot: versus.get(name) for pivot, name in same.items()}


def _document(name: str, common: dict[str, Any], diagnostics: dict[str, dict[str, float]], rows: list[dict[str, Any]]) -> Document:
    blocks: list[Any] = []
    for split, metric in dict.fromkeys((row["split"], row["metric"]) for row in rows):
        of_table = [row for row in rows if (row["split"], row["metric"]) == (split, metric)]
        pivots = [pivot for pivot in PIVOTS if any(row["minus"][pivot] for row in of_table)]
        cells = [
            [row["method"], str(row["n"]), f"{numbers.score(row['mean'])} ± {numbers.score(row['std'])}", *(_gap(row["minus"][pivot]) for pivot in pivots)]
            for row in of_table
        ]
        blocks.append(Table(f"{metric} on {split}", ["row", "runs", "mean ± std", *(f"minus {pivot}" for pivot in pivots)], cells))
    names = list(dict.fromkeys(name for row in diagnostics.values() for name in row))
    cells = [[row, *(numbers.score(found[name]) if name in found else numbers.ABSENT for name in names)] for row, found in diagnostics.items()]
    if names:
        blocks.append(Table("What the features share with the embedding, on the validation split (docs/report.md)", ["row", *names], cells))
    kept = {key: value for key, value in common.items() if key not in ("figures", "claim", "benchmark")}
    blocks.append(Table("How it came about", ["name", "value"], [list(pair) for pair in numbers.flat_lines(kept)], label_columns=2))
    return Document(name, f"{common['date']}. {CAUTION} {MINUS}", blocks)


def _gap(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return numbers.ABSENT
    return numbers.with_interval(cell["difference"], cell["ci95"], signed=True) + (" *" if cell["ranked"] else "")
