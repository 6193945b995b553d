"""Settings for the rows of a comparison, chosen on the validation split alone, with the same number of trials for each row."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxkd import members, pipeline
from jaxkd.files import read_json, write_json
from jaxkd.training.experiment import SELECTION_METRIC

SETTINGS = "settings.json"


def tune(config: Any, rows: Sequence[str], workdir: Path, cache: Path, trials: Callable[[str], list[dict[str, float]]], budget: int, task: str) -> list[str]:
    """Trains the first trials of each row once, and keeps the best.

    Args:
      config: of the comparison.
      rows: methods and variants.
      workdir: the runs go to `workdir/trials`, what is chosen to `workdir/settings.json`, beside what was chosen for other rows before.
      cache: shared by runs.
      trials: method -> settings that are tried for it, the likeliest first.
      budget: trials of each row.
      task: whose selection metric decides.

    Returns:
      Entries of `compare.settings`, one a row.
    """
    metric, chosen = SELECTION_METRIC[task], []
    for row in rows:
        scores = []
        own = members.member(config, row, config.compare.seeds[0])
        tried = trials(own.method)[:budget]
        for number, settings in enumerate(tried):
            own.update_from_flattened_dict(settings)
            pipeline.check(own)
            folder = workdir / "trials" / f"{row}-{number}"
            pipeline.run(own, folder, cache, mode="train")
            lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            scores.append(max(line["values"][metric] for line in lines if line["split"] == "valid"))
        best = max(range(len(scores)), key=scores.__getitem__)
        entry = " ".join([row, *(f"{field}={value}" for field, value in tried[best].items())])
        print(f"{entry:80} valid {metric} {scores[best]:.4f}   of {', '.join(f'{score:.4f}' for score in scores)}", flush=True)
        chosen.append(entry)
    before = [entry for entry in chosen_settings(workdir) if entry.split()[0] not in rows]
    write_json(workdir / SETTINGS, {"settings": [*before, *chosen]})
    return chosen


def chosen_settings(workdir: Path) -> list[str]:
    """The entries that `tune` kept in a workdir; none if it was not run there."""
    return read_json(workdir / SETTINGS)["settings"] if (workdir / SETTINGS).is_file() else []


def applied(config: Any, workdir: Path) -> None:
    """Sets `compare.settings` to what was chosen in a workdir, as far as it is about the rows of the config; leaves it where nothing was chosen."""
    rows = members.rows(config)
    settings = chosen_settings(workdir) or config.compare.settings
    config.compare.settings = tuple(entry for entry in settings if entry.split()[0] in {*rows, *rows.values()})
