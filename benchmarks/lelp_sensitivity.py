"""LELP minus KD in accuracy on test, over the number of subclasses S and both temperatures: where the gain holds and where it fails.

Command: python -m benchmarks.lelp_sensitivity --config=text.py --workdir=runs/sensitivity   (2 cores: an hour, 3 GB of memory; resumable)

Every cell is trained with the same seeds as KD at its own temperature in the config; the interval is over examples and seeds. Nothing is chosen here: these
are test scores, to be read as a map. Finished runs are kept, so the command can be stopped.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.configs import named_config
from benchmarks.record import Figure, add_out, keep, slug
from jaxkd import members, pipeline
from jaxkd.files import default_cache_dir
from jaxkd.results.comparison import paired_difference
from jaxkd.results.predictions import load_predictions, predictions_path
from jaxkd.results.uncertainty import bootstrap_weights, includes_zero, resampled_metrics

SUBCLASSES = (2, 5, 10, 20)
SUBCLASS_TEMPERATURES = (0.3, 1.0, 3.0)
TEMPERATURES = (1.0, 2.0)
RESAMPLES = 1000


def accuracy(config: Any, method: str, seeds: tuple[int, ...], settings: dict[str, Any], workdir: Path) -> np.ndarray:
    """Test accuracy of a method with each seed, and its resamples over examples: [seeds, 1 + RESAMPLES]."""
    name = "-".join([method, *(f"{field.rpartition('.')[2]}{value}" for field, value in settings.items())])
    samples = []
    for seed in seeds:
        own = members.member(config, method, seed)
        own.update_from_flattened_dict(settings)
        pipeline.check(own)
        folder = workdir / f"{name}-seed{seed}"
        for mode in ("train", "evaluate"):
            pipeline.run(own, folder, default_cache_dir(), mode=mode)
        predictions = load_predictions(predictions_path(folder, "test"))
        samples.append(resampled_metrics(predictions, bootstrap_weights(len(predictions.ids), RESAMPLES), f1_threshold=0.5)["accuracy"])
    return np.stack(samples)


def main() -> None:
    """Trains the grid, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a file of configs/ and its argument: text.py:student=bag_of_embeddings")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    add_out(parser)
    arguments = parser.parse_args()
    config = named_config(arguments.config)
    config.compare.settings = ()
    seeds = tuple(range(arguments.seeds))
    kd = accuracy(config, "kd", seeds, {}, arguments.workdir)
    print(f"kd {kd[:, 0].mean():.4f}\n{'S':>3} {'subclass temperature':>21} {'temperature':>12}   lelp   minus kd")
    results = []
    for temperature in TEMPERATURES:
        for beta in SUBCLASS_TEMPERATURES:
            for subclasses in SUBCLASSES:
                settings = {"lelp.subclasses": subclasses, "lelp.subclass_temperature": beta, "distillation.temperature": temperature}
                ours = accuracy(config, "lelp", seeds, settings, arguments.workdir)
                difference, ci95 = paired_difference(ours, kd, seeds, seeds, by_seed=True)
                verdict = "not ranked" if includes_zero(ci95) else "above" if difference > 0 else "below"
                print(
                    f"{subclasses:3} {beta:21} {temperature:12}   {ours[:, 0].mean():.4f}   {difference:+.3f} [{ci95[0]:+.3f}, {ci95[1]:+.3f}] {verdict}",
                    flush=True,
                )
                results.append({**settings, "difference": difference, "ci95": ci95})
    figures = []
    for one in results:
        cell = f"S = {one['lelp.subclasses']}, temperatures {one['lelp.subclass_temperature']} and {one['distillation.temperature']}: lelp minus kd"
        figures.append(Figure(cell, one["difference"], "", *one["ci95"]))
    keep("lelp_sensitivity", __doc__ or "", figures, {"kd": kd[:, 0].tolist(), "lelp": results}, arguments.out, variant=slug(arguments.config))


if __name__ == "__main__":
    main()
