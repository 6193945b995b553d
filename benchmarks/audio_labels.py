"""How many labels does a distilled student save? mAP at 25, 50, 75 and 100 % of the labels of the audio task; the other clips become unlabelled.

Command: python -m benchmarks.audio_labels --workdir=runs/audio_grid   (2 cores: three hours, 2 GB of memory; 36 runs of 2 to 7 minutes; resumable)

The clips that keep their labels at 25 % are among those at 50 %, and so on. In the workdir of benchmarks.audio_grid the runs on all labels are shared with
it. Prints mean, spread and the paired difference from labels alone at the same share, and one JSON line; the table goes to
benchmarks/results/audio_labels.json and .md, the plot beside the comparison in the workdir.
"""

import argparse
import json
from pathlib import Path

from benchmarks.grids import grid_config, run_grid, write_results
from benchmarks.record import add_out
from configs.audio import LABEL_SHARES
from jaxkd import files
from jaxkd.results import numbers, plots

SHARES = {**{f"_{share * 100:.0f}": 100 * share for share in LABEL_SHARES}, "": 100.0}
"""Ending of a row's name -> share of the labels in percent."""


def main() -> None:
    """Runs the curve, prints a table and one JSON line, draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, help="instead of those of the grid: the first so many")
    parser.add_argument("--runlocal", action="store_true", help="tiny sizes, whose scores mean nothing")
    add_out(parser)
    arguments = parser.parse_args()
    config = grid_config("labels", runlocal=arguments.runlocal, seeds=arguments.seeds)
    report = run_grid(config, arguments.workdir)
    name = f"audio_labels{'_runlocal' if arguments.runlocal else ''}"
    write_results(config, report, arguments.workdir, name, __doc__ or "", "baseline", arguments.out)
    rows = {(row["split"], row["method"]): row for row in report["rows"] if row["metric"] == "map" and row["split"] != "valid"}
    panels: dict[str, dict[str, tuple[list[float], list[float], list[float]]]] = {}
    results = {}
    print(f"{'split':16}{'labels':>8}  {'method':12}{'runs':>5}  {'mAP ± std':15}   minus baseline at the same share")
    for split in dict.fromkeys(split for split, _ in rows):
        for ending, share in SHARES.items():
            for method in config.compare.methods:
                row = rows[split, method + ending]
                versus = row["versus"].get(f"baseline{ending}")
                gap = numbers.ABSENT if versus is None else numbers.with_interval(versus["difference"], versus["ci95"], signed=True)
                print(f"{split:16}{share:6.0f} %  {method:12}{row['n']:5}  {numbers.score(row['mean'])} ± {numbers.score(row['std'])}   {gap}")
                line = panels.setdefault(f"{split}, map", {}).setdefault(method, ([], [], []))
                for values, value in zip(line, (share, row["mean"], row["std"] or 0.0), strict=True):
                    values.append(value)
                results[f"{split}/{method}/{share:.0f}"] = {"mean": row["mean"], "std": row["std"], "n": row["n"], "minus_baseline": versus}
    plot = arguments.workdir / config.compare.name / "labels.png"
    files.write_bytes(plot, plots.to_png(plots.label_curves(panels)))
    print(f"Plot: {plot}")
    print(json.dumps({"benchmark": "audio_labels", "map": results}))


if __name__ == "__main__":
    main()
