"""How a comparison is shown: the room (or how to measure it) first, then the method in question against all others, then every method split by split."""

from typing import Any

from jaxkd.results import numbers, plots
from jaxkd.results.beside import beside_table, cost_table
from jaxkd.results.document import Document, Plot, Table, Text, to_screen
from jaxkd.results.notes import brief
from jaxkd.results.room import HOW_TO_READ as ROOM_TEXT
from jaxkd.results.room import room_table, unmeasured
from jaxkd.results.uncertainty import metrics_of
from jaxkd.results.wording import how_to_read_comparison, task_of, unit_of

IN_QUESTION = "lelp"
MOST_NAMES = 3


def _verdict(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "reference point"
    return "not ranked" if not cell["ranked"] else "above" if cell["difference"] > 0 else "below"


def _versus_table(report: dict[str, Any]) -> Table | None:
    """The method in question minus every other, a row a method and two columns a split; None where it is not among the methods."""
    metric = metrics_of(task_of(report))[0]
    versus = {row["split"]: row["versus"] for row in report["rows"] if (row["method"], row["metric"]) == (IN_QUESTION, metric)}
    if not versus:
        return None
    rows = []
    for other in next(iter(versus.values())):
        cells = [of_split[other] for of_split in versus.values()]
        texts = [(numbers.with_interval(cell["difference"], cell["ci95"], signed=True), _verdict(cell)) for cell in cells]
        rows.append([other, *(text for pair in texts for text in pair)])
    header = ["method", *(text for split in versus for text in (split, "verdict"))]
    return Table(f"{IN_QUESTION} minus each other method: {metric}", header, rows)


def _first_blocks(report: dict[str, Any]) -> list[Table | Text]:
    room, versus = room_table(report), _versus_table(report)
    missing = unmeasured(report)
    first = [room, Text("", [ROOM_TEXT])] if room else [Text("", [missing])] if missing else []
    return [*first, *([versus] if versus else [])]


def _tables(report: dict[str, Any]) -> list[Table]:
    """One table a split: means, spread, and the difference from the reference; then what stands beside."""
    header = ["metric", "method", "kind", "runs", "mean ± std", f"difference from {report['reference']}", "verdict", "not ranked against"]
    tables = []
    for split, number in report["clips"].items():
        rows = []
        for row in (row for row in report["rows"] if row["split"] == split):
            cell = row["versus"].get(report["reference"])
            spread = f"{numbers.score(row['mean'])} ± {numbers.score(row['std'])}"
            gap = numbers.with_interval(cell["difference"], cell["ci95"], signed=True) if cell else numbers.ABSENT
            rows.append([row["metric"], row["method"], row["kind"], str(row["n"]), spread, gap, _verdict(cell), _not_ranked_against(row["versus"])])
        tables.append(Table(f"{split} ({number} {unit_of(report)}s)", header, rows, label_columns=3))
    return [*_variants_table(report), *tables, *(table for table in (beside_table(report), cost_table(report)) if table)]


def _variants_table(report: dict[str, Any]) -> list[Table]:
    """What the rows are that carry a name of their own."""
    rows = [[name, variant["method"], ", ".join(variant["settings"])] for name, variant in report["variants"].items()]
    return [Table("Variants", ["row", "method", "settings"], rows, label_columns=3)] if rows else []


def _not_ranked_against(versus: dict[str, dict[str, Any]]) -> str:
    """Their names, or how many there are where the names would make the table too wide; all pairs stand in a table of their own."""
    others = [other for other, cell in versus.items() if not cell["ranked"]]
    return f"{len(others)} of {len(versus)}" if len(others) > MOST_NAMES else ", ".join(others) or numbers.ABSENT


def screen_table(report: dict[str, Any]) -> str:
    """The comparison as plain text: the room (or how to measure it) and the method in question, a table a split, calibration and agreement, then the notes."""
    first = [to_screen(block) if isinstance(block, Table) else "\n".join(block.paragraphs) for block in _first_blocks(report)]
    notes = [f"- {brief(note)}" for note in report["notes"]]
    return "\n\n".join([*first, *map(to_screen, _tables(report)), *(["\n".join(["Notes", *notes])] if notes else [])]) + "\n"


def comparison_document(report: dict[str, Any]) -> Document:
    """The whole comparison, from its report.json."""
    methods = list(dict.fromkeys(row["method"] for row in report["rows"]))
    panels: dict[str, list[tuple[str, str, list[float]]]] = {}
    for row in report["rows"]:
        if row["split"] != "valid":
            panels.setdefault(f"{row['split']}, {row['metric']}", []).append((row["method"], row["kind"], row["values"]))
    blocks: list[Table | Plot | Text] = [*_first_blocks(report), *_tables(report)]
    if panels:
        description = "Score of each method on each split and metric: a dot a seed, a tick at the mean, a line of one standard deviation to each side."
        blocks.append(Plot("Scores by method", "methods", description, plots.method_scores(panels)))
    blocks.append(_pairs_table(report))
    blocks.append(Text("Notes", report["notes"] or ["none"]))
    blocks.append(Text("How to read this", how_to_read_comparison(report)))
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
