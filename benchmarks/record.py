"""The common form of what a benchmark keeps: its figures beside what is asked of them, the command, the machine, the versions and the date."""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxkd.files import write_bytes, write_json, write_text
from jaxkd.results import numbers, plots
from jaxkd.results.document import Document, Plot, Table, Text, to_markdown, to_screen
from jaxkd.workdir import code

RESULTS = Path(__file__).parent / "results"
LOAD = round(os.getloadavg()[0], 1)
"""Processes that were running in the minute before the benchmark began: near 0 on a quiet machine."""
PLACES = {"--peer-python": "PYTHON", "--workdir": "DIR", "--out": ""}
"""Options that name places of this machine, and what stands for these in a command."""


class Figure(NamedTuple):
    """One figure.

    Attributes:
      name: what was measured.
      value: the median of the repeats, or the mean of a score.
      unit: of the value; "" for a ratio or a count.
      low: the smallest of the repeats, or the lower end of an interval; None for one measurement.
      high: the largest, or the upper end.
      at_most: what is asked of the value, or None.
      at_least: the same, from below.
    """

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def asked(self) -> str:
        """What is asked, in words; "" for nothing."""
        limits = (("at most", self.at_most), ("at least", self.at_least))
        return " and ".join(f"{word} {numbers.amount(limit)}" for word, limit in limits if limit is not None)

    @property
    def reached(self) -> bool | None:
        """Whether it is so; None where nothing is asked."""
        if self.at_most is None and self.at_least is None:
            return None
        return (self.at_most is None or self.value <= self.at_most) and (self.at_least is None or self.value >= self.at_least)


def of_repeats(name: str, values: Sequence[float], unit: str = "", **asked: float) -> Figure:
    """The median of repeats, with the smallest and the largest."""
    return Figure(name, statistics.median(values), unit, min(values), max(values), **asked)


def add_out(parser: argparse.ArgumentParser) -> None:
    """The option that says where the results go."""
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")


def chosen(doc: str | None, what: str, names: Sequence[str], repeats: int) -> argparse.Namespace:
    """The options of a benchmark of parts: `--WHAT NAME ...`, all of them by default, `--repeats` and `--out`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(f"--{what}", nargs="+", default=list(names), choices=list(names))
    parser.add_argument("--repeats", type=int, default=repeats)
    add_out(parser)
    return parser.parse_args()


def about(name: str, doc: str, figures: Sequence[Figure], versions: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """The part of a JSON file that all benchmarks have in common.

    Args:
      name: of the module in `benchmarks`.
      doc: its docstring; what stands before the first empty line is the claim.
      figures: what was measured.
      versions: of peers.
    """
    return {
        "benchmark": name,
        "claim": " ".join(doc.partition("\n\n")[0].split()),
        "command": command(name, sys.argv[1:]),
        "date": datetime.date.today().isoformat(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "load before": LOAD, "platform": platform.platform()},
        "versions": {**code(), **versions},
        "figures": [figure._asdict() | {"reached": figure.reached} for figure in figures],
    }


def keep(
    name: str,
    doc: str,
    figures: Sequence[Figure],
    details: dict[str, Any],
    out: Path,
    *,
    blocks: Sequence[Table | Plot | Text] = (),
    versions: Mapping[str, str] = MappingProxyType({}),
    variant: str = "",
) -> int:
    """Prints the figures and one JSON line, and keeps both as `out/NAME.json`, `out/NAME.md` and `out/plots/`; of a variant as `NAME_VARIANT`.

    Args:
      name: of the module in `benchmarks`.
      doc: its docstring.
      figures: what was measured.
      details: whatever else belongs into the JSON file.
      out: folder of the results.
      blocks: tables and plots beside that of the figures.
      versions: of peers.
      variant: which of several things that one benchmark measures.

    Returns:
      The exit status: 1 if a figure is not as asked.
    """
    common = about(name, doc, figures, versions)
    table = Table("Figures", HEADER, [row(figure) for figure in common["figures"]])
    print("\n\n".join(to_screen(block) for block in (table, *blocks) if isinstance(block, Table)))
    content = rounded({**details, **common, "plots": {block.name: block.description for block in blocks if isinstance(block, Plot)}})
    for block in blocks:
        if isinstance(block, Plot):
            write_bytes(out / "plots" / f"{block.name}.png", plots.to_png(block.figure))
    stem = f"{name}_{variant}" if variant else name
    write_json(out / f"{stem}.json", content)
    write_text(out / f"{stem}.md", to_markdown(Document(stem, common["claim"], [table, *blocks, origin(common)])))
    print(json.dumps(content))
    return int(any(figure.reached is False for figure in figures))


HEADER = ["figure", "value", "lowest", "highest", "asked", "reached"]


def row(figure: dict[str, Any]) -> list[str]:
    """A figure, as it stands in a JSON file, as a row of a table."""
    own = Figure(**{name: figure[name] for name in Figure._fields})
    values = [numbers.ABSENT if value is None else f"{numbers.amount(value)} {own.unit}".strip() for value in (own.value, own.low, own.high)]
    return [own.name, *values, own.asked or numbers.ABSENT, {True: "yes", False: "no", None: numbers.ABSENT}[own.reached]]


def origin(common: dict[str, Any]) -> Table:
    """What `about` says beside the figures, as a table."""
    kept = {name: common[name] for name in ("command", "date", "machine", "versions")}
    return Table("How it came about", ["name", "value"], [list(pair) for pair in numbers.flat_lines(kept)], label_columns=2)


def command(name: str, arguments: Sequence[str]) -> str:
    """The command line of a benchmark, without the places of this machine."""
    words, left = [f"python -m benchmarks.{name}"], list(arguments)
    while left:
        option, equals, value = left.pop(0).partition("=")
        if option in PLACES:
            if not equals:
                left.pop(0)
            words += [f"{option}={PLACES[option]}"] if PLACES[option] else []
        else:
            words.append(option + equals + value)
    return " ".join(words)


def slug(config: str) -> str:
    """A config and its argument as part of a file's name: text.py:teacher=minilm -> text_teacher_minilm."""
    return re.sub(r"\W+", "_", config.replace(".py", ""))


def peer_versions(python: str, *packages: str) -> dict[str, str]:
    """Versions of packages in the environment of another Python."""
    program = "import importlib.metadata, json, sys; print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))"
    return json.loads(subprocess.run([python, "-c", program, *packages], capture_output=True, text=True, check=True).stdout)


def processor() -> str:
    """The name of the processor, as Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor() or platform.machine())


def rounded(value: Any) -> Any:
    """The value with floats to six decimals; below one, to six digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return (float(f"{value:.6g}") if abs(value) < 1 else round(value, 6)) if isinstance(value, float) else value
