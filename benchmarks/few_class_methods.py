"""LELP against the other methods of a few-class task: settings chosen on the validation split, then five seeds on test.

Command: python -m benchmarks.few_class_methods --config=text.py --workdir=runs/few_class   (2 cores: an hour and a half, 3 GB of memory; resumable)

With --tune before it chooses the settings of each method and keeps them in the workdir; without that, those of the config are taken.

Every method has the same budget: `--trials` runs of one seed, the best by validation accuracy. `--steps` shortens all runs, where the student is slow.
Finished runs are kept, so the command can be stopped.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.configs import named_config
from benchmarks.record import Figure, add_out, keep, slug
from benchmarks.tuning import applied, tune
from jaxkd import methods, pipeline
from jaxkd.files import default_cache_dir, read_json

TEMPERATURES = (1.0, 2.0, 4.0, 1.5, 3.0, 6.0)
WEIGHTS = {"embedding_distillation": (1.0, 0.1, 10.0), "fitnet": (1.0, 0.1, 10.0), "vid": (0.1, 0.01, 1.0), "rkd": (0.1, 0.01, 1.0), "crd": (0.1, 0.01, 0.8)}
# S, the distillation temperature, and which value of a third field, that depends on the method: the first, then each changed alone
SUBCLASS_TRIALS = ((10, 1.0, 0), (10, 2.0, 0), (5, 1.0, 0), (10, 1.0, 1), (5, 2.0, 0), (5, 1.0, 1))
THIRD = {"lelp.subclass_temperature": (1.0, 2.0), "subclass_distillation.auxiliary_weight": (0.3, 0.1)}


def trials(method: str) -> list[dict[str, float]]:
    """The settings that are tried for a method, the likeliest first; a method with subclasses tries their number and its temperatures."""
    if method == "baseline":
        return [{"training.learning_rate": rate} for rate in (1e-2, 3e-3, 2e-2, 5e-3, 3e-2, 1e-3)]
    if method in WEIGHTS:
        return [{f"{method}.weight": weight, "distillation.temperature": t} for t in (1.0, 2.0) for weight in WEIGHTS[method]]
    if method in ("kmeans", "agglomerative", "tsne_kmeans", "uniform", "outputs_only"):
        return [{"lelp.subclasses": s, "distillation.temperature": 4.0 if third else t} for s, t, third in SUBCLASS_TRIALS]
    if method in ("lelp", "random_directions", "permuted", "subclass_distillation"):
        field = "subclass_distillation.auxiliary_weight" if method == "subclass_distillation" else "lelp.subclass_temperature"
        return [{"lelp.subclasses": s, "distillation.temperature": t, field: THIRD[field][third]} for s, t, third in SUBCLASS_TRIALS]
    return [{"distillation.temperature": t} for t in TEMPERATURES]


def main() -> None:
    """Tunes, or compares and keeps the figures: accuracy, and differences with their intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a file of configs/ and its argument: text.py:data=rotten_tomatoes,labels=300")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--tune", action="store_true", help="choose the settings of each method on the validation split")
    parser.add_argument("--trials", type=int, default=4, help="runs for each method, at most 6")
    parser.add_argument("--steps", type=int, help="training steps of a student, instead of those of the config")
    parser.add_argument("--methods", nargs="*", help="instead of those of the config")
    add_out(parser)
    arguments = parser.parse_args()
    config = named_config(arguments.config)
    if arguments.methods:
        config.compare.methods = tuple(arguments.methods)
    if arguments.steps:
        config.training.steps = arguments.steps
    cache = default_cache_dir()
    if arguments.tune:
        config.compare.settings = ()
        rows = [name for name in config.compare.methods if name not in methods.REFERENCES]
        settings = tune(config, rows, arguments.workdir, cache, trials, arguments.trials, "multiclass")
        print(json.dumps({"benchmark": "few_class_methods", "config": arguments.config, "settings": settings}))
        return
    applied(config, arguments.workdir)
    pipeline.check(config)
    pipeline.compare(config, arguments.workdir / "compare", cache)
    rows = read_json(arguments.workdir / "compare" / "report.json")["rows"]
    shown = [row for row in rows if row["metric"] == "accuracy" and row["split"] in ("test", "unseen")]
    figures = []
    for row in shown:
        figures.append(Figure(f"{row['split']}: {row['method']}", row["mean"]))
        if versus := row["versus"].get("lelp"):
            figures.append(Figure(f"{row['split']}: {row['method']} minus lelp", versus["difference"], "", *versus["ci95"]))
    sys.exit(keep("few_class_methods", __doc__ or "", figures, {"rows": shown}, arguments.out, variant=slug(arguments.config)))


if __name__ == "__main__":
    main()
