"""The teacher itself fine-tuned end to end on the labelled examples: what it scores and costs beside compression, and what is distilled from it.

Command: python -m benchmarks.fine_tuning --config=audio.py --workdir=runs/fine_tuning   (2 cores: half an hour a seed, 5 GB of memory; resumable)

The comparison of a config with `classifier=finetuned`: the fine-tuned teacher and the probe of the frozen one as reference rows, students taught by either.
Finished runs are kept, so the command can be stopped; a workdir of the same comparison by `jaxkd.main --mode=compare` is gone on with.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.configs import named_config
from benchmarks.grids import distinct
from benchmarks.record import Figure, add_out, keep, slug
from jaxkd import pipeline
from jaxkd.files import default_cache_dir, read_json
from jaxkd.results import numbers
from jaxkd.results.document import Table
from jaxkd.training.experiment import SELECTION_METRIC
from jaxkd.workdir import SOURCE

PIVOTS = ("teacher", "compressed")
"""Rows that the others are compared with in the figures."""


def cost_table(report: dict[str, Any]) -> Table:
    """What training cost: the teacher's in its own row, in the others the student's."""
    cells = []
    for row in report["cost"]:
        if cost := row["teacher" if row["method"] == "teacher" else "student"]:
            megabytes = f"{cost['peak_memory_bytes'] / 1e6:,.0f}"
            cells.append([row["method"], numbers.amount(cost["seconds"]), megabytes, f"{cost['trained_parameters']:,.0f}"])
    return Table("Cost of training", ["row", "seconds", "peak memory, MB", "parameters trained"], cells)


def main() -> None:
    """Runs the comparison, and keeps scores, differences with their intervals, and costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a file of configs/ and its argument: audio.py:teacher=MSD_musicnn")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1, help="the first so many")
    add_out(parser)
    arguments = parser.parse_args()
    config = named_config(arguments.config, "classifier=finetuned")
    config.compare.seeds = tuple(range(arguments.seeds))
    pipeline.check(config)
    report = pipeline.compare(config, arguments.workdir, default_cache_dir())
    metric = SELECTION_METRIC[report["task"]]
    shown = [row for row in report["rows"] if row["metric"] == metric and row["split"] != "valid"]
    figures = []
    for row in shown:
        figures.append(Figure(f"{row['split']}: {row['method']}", row["mean"], metric))
        for pivot in PIVOTS:
            if versus := row["versus"].get(pivot):
                figures.append(Figure(f"{row['split']}: {row['method']} minus {pivot}", versus["difference"], metric, *versus["ci95"]))
    begun = [read_json(arguments.workdir / run["workdir"] / "environment.json") for run in report["runs"]]
    versions = {
        SOURCE: ", ".join(distinct(run["versions"].get(SOURCE) for run in begun)),
        "runs begun on": ", ".join(distinct(run.get("date") for run in begun)),
    }
    details = {"rows": shown, "cost": report["cost"], "seeds": list(config.compare.seeds)}
    blocks, variant = [cost_table(report)], slug(arguments.config)
    sys.exit(keep("fine_tuning", __doc__ or "", figures, details, arguments.out, blocks=blocks, versions=versions, variant=variant))


if __name__ == "__main__":
    main()
