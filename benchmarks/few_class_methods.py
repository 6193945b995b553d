"""LELP against the other methods of a few-class task: settings chosen on the validation split, then five seeds on test.

Command: python -m benchmarks.few_class_methods --config=text.py --workdir=runs/few_class --tune   (chooses; prints the settings for compare.settings)
         python -m benchmarks.few_class_methods --config=text.py --workdir=runs/few_class         (compares with the settings of the config file)

Every method has the same budget: TRIALS runs of one seed, the best by validation accuracy. Finished runs are kept, so the command can be stopped.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from jaxkd import config as configs
from jaxkd import methods, pipeline
from jaxkd.files import default_cache_dir, read_json

TRIALS = 6
TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
WEIGHTS = {"embedding_distillation": (0.1, 1.0, 10.0), "fitnet": (0.1, 1.0, 10.0), "vid": (0.01, 0.1, 1.0), "rkd": (0.01, 0.1, 1.0), "crd": (0.01, 0.1, 0.8)}


def trials(method: str) -> list[dict[str, float]]:
    """The settings that are tried for a method, TRIALS of them."""
    if method == "baseline":
        return [{"training.learning_rate": rate} for rate in (3e-3, 1e-2, 2e-2, 3e-2, 4e-2, 6e-2)]
    if method in WEIGHTS:
        return [{f"{method}.weight": weight, "distillation.temperature": t} for weight in WEIGHTS[method] for t in (1.0, 2.0)]
    if method in ("lelp", "random_directions", "permuted"):
        return [{"lelp.subclasses": s, "lelp.subclass_temperature": beta} for s in (5, 10) for beta in (0.5, 1.0, 2.0)]
    if method in ("kmeans", "agglomerative", "tsne_kmeans", "uniform", "outputs_only"):
        return [{"lelp.subclasses": s, "distillation.temperature": t} for s in (2, 5, 10) for t in (1.0, 2.0)]
    if method == "subclass_distillation":
        fields = ("lelp.subclasses", "subclass_distillation.auxiliary_weight", "distillation.temperature")
        return [dict(zip(fields, (10, w, t), strict=True)) for w in (0.1, 0.3, 1.0) for t in (1.0, 2.0)]
    return [{"distillation.temperature": t} for t in TEMPERATURES]


def tune(config: Any, workdir: Path, cache: Path) -> list[str]:
    """Trains each trial of each method once and returns the entries of `compare.settings` of the best."""
    chosen = []
    for method in (name for name in config.compare.methods if name not in methods.REFERENCES):
        scores = []
        for number, settings in enumerate(trials(method)):
            own = configs.member(config, method, config.compare.seeds[0])
            own.update_from_flattened_dict(settings)
            pipeline.check(own)
            folder = workdir / "trials" / f"{method}-{number}"
            pipeline.run(own, folder, cache, mode="train")
            lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            scores.append(max(line["values"]["accuracy"] for line in lines if line["split"] == "valid"))
        best = max(range(len(scores)), key=scores.__getitem__)
        entry = " ".join([method, *(f"{field}={value}" for field, value in trials(method)[best].items())])
        print(f"{entry:80} valid accuracy {scores[best]:.4f}   of {', '.join(f'{score:.4f}' for score in scores)}", flush=True)
        chosen.append(entry)
    return chosen


def main() -> None:
    """Tunes or compares, prints the table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a file of configs/ and its argument: text.py:data=rotten_tomatoes,labels=300")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--tune", action="store_true", help="choose the settings of each method on the validation split")
    parser.add_argument("--methods", nargs="*", help="instead of those of the config")
    arguments = parser.parse_args()
    file, _, argument = arguments.config.partition(":")
    config = importlib.import_module(f"configs.{file.removesuffix('.py')}").get_config(argument)
    if arguments.methods:
        config.compare.methods = tuple(arguments.methods)
        config.compare.settings = tuple(entry for entry in config.compare.settings if entry.split()[0] in arguments.methods)
    cache = default_cache_dir()
    if arguments.tune:
        config.compare.settings = ()
        print(json.dumps({"benchmark": "few_class_methods", "config": arguments.config, "settings": tune(config, arguments.workdir, cache)}))
        return
    pipeline.check(config)
    pipeline.compare(config, arguments.workdir / "compare", cache)
    rows = read_json(arguments.workdir / "compare" / "report.json")["rows"]
    kept = [row for row in rows if row["metric"] == "accuracy" and row["split"] in ("test", "unseen")]
    results = {f"{row['split']} {row['method']}": {"mean": row["mean"], "std": row["std"], "lelp": row["versus"].get("lelp")} for row in kept}
    print(json.dumps({"benchmark": "few_class_methods", "config": arguments.config, "accuracy": results}))


if __name__ == "__main__":
    main()
