"""The room for methods that invent subclasses: what a student gains when it is taught the true ones, measured first of all."""

from typing import Any

from jaxkd.results import numbers
from jaxkd.results.document import Table

TAUGHT, UNTAUGHT, METRIC = "oracle", "kd", "accuracy"
HOW_TO_READ = (
    f"{TAUGHT} teaches the student the true hidden class of every training row, labelled or not, {UNTAUGHT} the teacher's outputs alone. Their difference "
    "is the room that a subclass method has. "
    "Where its interval includes zero or lies below it, there is no room to be seen: there the subclass methods cannot be expected to show a gain, and "
    "differences among them say little."
)

_UNMEASURED = f"Room for methods that invent subclasses ({TAUGHT} minus {UNTAUGHT}): this task has {{groups}} hidden classes, and "
UNMEASURED = (
    f"{_UNMEASURED}one run does not measure it. "
    f"The same command does with --mode=compare --config.compare.methods=\"('{UNTAUGHT}','{TAUGHT}')\" added, without --workdir."
)


def room_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The accuracy of `oracle` minus that of `kd`, from the rows of a comparison.

    Args:
      rows: as in report.json of a comparison.

    Returns:
      {split: {"difference", "ci95": [low, high]}}; empty unless both methods and their accuracies are there.
    """
    return {
        row["split"]: {key: row["versus"][UNTAUGHT][key] for key in ("difference", "ci95")}
        for row in rows
        if (row["method"], row["metric"]) == (TAUGHT, METRIC) and UNTAUGHT in row["versus"]
    }


def unmeasured(comparison: dict[str, Any]) -> str:
    """What a comparison on data with hidden classes says where one of the two methods is missing; "" where it measures the room, or there is none."""
    rows = list(dict.fromkeys(row["method"] for row in comparison["rows"]))
    missing = [method for method in (UNTAUGHT, TAUGHT) if method not in rows]
    if not missing or not comparison["fine_classes"]:
        return ""
    methods = ",".join(f"'{method}'" for method in [*(row for row in rows if row not in comparison["variants"]), *missing])
    return (
        f"{_UNMEASURED.format(groups=len(comparison['fine_classes']))}this comparison does not measure it. Add {' and '.join(missing)} to "
        "config.compare.methods: "
        f'the same command with --config.compare.methods="({methods})" keeps the runs that are finished.'
    )


def room_table(report: dict[str, Any]) -> Table | None:
    """The room of a comparison, a row a split; None where it has none of the two methods."""
    means = {(row["split"], row["method"]): row["mean"] for row in report["rows"] if row["metric"] == METRIC}
    rows = [
        [
            split,
            numbers.score(means[split, TAUGHT]),
            numbers.score(means[split, UNTAUGHT]),
            numbers.with_interval(room["difference"], room["ci95"], signed=True),
            "room" if room["ci95"][0] > 0 else "no room to be seen",
        ]
        for split, room in report["room"].items()
    ]
    header = ["split", f"{METRIC} of {TAUGHT}", f"of {UNTAUGHT}", "room", "verdict"]
    return Table(f"Room: {TAUGHT} minus {UNTAUGHT}", header, rows) if rows else None
