"""Embedding compression on the audio task, row by row: which transformation, which gradient, which teacher.

Command: python -m benchmarks.audio_grid --grid=compression --workdir=runs/audio_grid   (2 cores: two hours and a half, 2 GB of memory; resumable)

With --tune before it chooses weight and learning rate and keeps them in the workdir; without that, those of the config are taken.
The grids are those of configs/audio.py. Raw and compressed teachers have the same number of trials, each of one seed, the best by validation mAP; variants
take what was chosen for their method, unless --rows names them. Finished runs are kept, and grids in one workdir share theirs, so that the command can be
stopped. The table goes to benchmarks/results/audio_grid_GRID.json and .md. 3 to 11 minutes a run on one core.
"""

import argparse
import json
from pathlib import Path

from benchmarks.grids import grid_config, run_grid, write_results
from benchmarks.record import add_out
from benchmarks.tuning import tune
from configs.audio import GRIDS
from jaxkd import methods
from jaxkd.files import default_cache_dir

WEIGHTS = (0.5, 0.8, 0.3, 0.9)
RATES = (1e-3, 2e-3, 5e-4, 3e-3, 3e-4, 5e-3)


def trials(method: str) -> list[dict[str, float]]:
    """The settings that are tried for a method, the likeliest first."""
    if method == "baseline":
        return [{"training.learning_rate": rate} for rate in RATES]
    return [{f"{method}.weight": weight, "training.learning_rate": rate} for rate in RATES[:2] for weight in WEIGHTS]


def main() -> None:
    """Tunes, or runs the grid and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", required=True, choices=sorted(GRIDS))
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--tune", action="store_true", help="choose weight and learning rate on the validation split")
    parser.add_argument("--trials", type=int, default=8, help="runs for each tuned row, at most 8")
    parser.add_argument("--rows", nargs="*", help="with --tune: rows to tune, variants too (default: the methods of the grid)")
    parser.add_argument("--seeds", type=int, help="instead of those of the grid: the first so many")
    parser.add_argument("--runlocal", action="store_true", help="tiny sizes, whose scores mean nothing")
    add_out(parser)
    arguments = parser.parse_args()
    config = grid_config(arguments.grid, runlocal=arguments.runlocal, seeds=arguments.seeds)
    if arguments.tune:
        rows = arguments.rows or [name for name in config.compare.methods if name not in methods.REFERENCES]
        settings = tune(config, rows, arguments.workdir, default_cache_dir(), trials, arguments.trials, "multilabel")
        print(json.dumps({"benchmark": "audio_grid", "grid": arguments.grid, "settings": settings}))
        return
    report = run_grid(config, arguments.workdir)
    name = f"audio_grid_{arguments.grid}{'_runlocal' if arguments.runlocal else ''}"
    rows = write_results(config, report, arguments.workdir, name, __doc__ or "", "east", arguments.out)
    results = {f"{row['split']}/{row['method']}": {"mean": row["mean"], "n": row["n"], "minus": row["minus"]} for row in rows if row["metric"] == "map"}
    print(json.dumps({"benchmark": "audio_grid", "grid": arguments.grid, "map": results}))


if __name__ == "__main__":
    main()
