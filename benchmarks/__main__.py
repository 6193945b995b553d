"""Runs the benchmarks, each in a process of its own, one after the other, and writes one page of all results that are kept: benchmarks/results/README.md.

    python -m benchmarks --list                                          what there is, with minutes and memory
    python -m benchmarks --peer-python=PYTHON                            all of them, then the page
    python -m benchmarks --only start_up front_end --peer-python=PYTHON  these, then the page
    python -m benchmarks --only                                          the page alone

What is run is the command in the docstring of each. One that misses a claim or fails does not keep the others from running; the exit status is 1 then. Those
with peers take the Python of an environment with benchmarks/requirements-peers.txt. The machine should have nothing else to do.
"""

import argparse
import ast
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.record import HEADER, add_out, row
from jaxkd.files import read_json, write_text
from jaxkd.results.document import Document, Table, Text, to_markdown
from jaxkd.results.numbers import flat_lines

FOLDER = Path(__file__).parent
COMMAND = re.compile(r"^Command: python -m benchmarks\.(\w+)((?: -\S+)*) +\((.+)\)$", re.MULTILINE)


class Benchmark(NamedTuple):
    """What the docstring of a benchmark says.

    Attributes:
      claim: its first paragraph.
      arguments: of the command.
      costs: minutes and memory, in words.
    """

    claim: str
    arguments: list[str]
    costs: str


def benchmarks(folder: Path = FOLDER) -> dict[str, Benchmark]:
    """All that have a command, by name."""
    found = {}
    for file in sorted(folder.glob("*.py")):
        doc = ast.get_docstring(ast.parse(file.read_text())) or ""
        if command := COMMAND.search(doc):
            found[command[1]] = Benchmark(" ".join(doc.partition("\n\n")[0].split()), command[2].split(), command[3])
    return found


def run(name: str, benchmark: Benchmark, peer_python: str, out: Path) -> str:
    """Runs one, and says how it ended."""
    arguments = [peer_python.join(argument.split("PYTHON")) for argument in benchmark.arguments]
    if arguments != benchmark.arguments and not peer_python:
        return "not run: it needs --peer-python"
    started = time.perf_counter()
    status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments, f"--out={out}"], cwd=FOLDER.parent).returncode
    words = {0: "as asked", 1: "a claim is missed, or it failed: see above"}
    return f"{words.get(status, f'ended with status {status}')} ({(time.perf_counter() - started) / 60:.1f} min)"


def page(folder: Path) -> str:
    """One Markdown page of the results in a folder, of those without figures their name alone."""
    kept = {file.stem: read_json(file) for file in sorted(folder.glob("*.json"))}
    rows = [[stem, *_counts(content["figures"]), content["date"]] for stem, content in kept.items() if "figures" in content]
    summary = Table("", ["benchmark", "asked", "reached", "date"], rows)
    words = "Of each benchmark what is claimed, the figures, what is asked of them, the command and the machine; written by python -m benchmarks."
    parts = [to_markdown(Document("Benchmarks", words, [summary]))]
    parts += [_section(folder, stem, content) for stem, content in kept.items() if "figures" in content]
    if others := [f"[{stem}]({stem}.json)" for stem, content in kept.items() if "figures" not in content]:
        parts.append(f"Without figures: {', '.join(others)}\n")
    return "\n".join(parts)


def _counts(figures: list[dict[str, Any]]) -> list[str]:
    judged = [figure["reached"] for figure in figures if figure["reached"] is not None]
    return [str(len(judged)), str(sum(judged))]


def _section(folder: Path, stem: str, content: dict[str, Any]) -> str:
    origin = [f"{content['command']}; {content['date']}; {', '.join(' '.join(pair) for pair in flat_lines(content['machine']))}"]
    origin.append(", ".join(" ".join(pair) for pair in flat_lines(content["versions"])))
    blocks = [Table("", HEADER, [row(figure) for figure in content["figures"]]), Text("", origin)]
    parts = ["#" + to_markdown(Document(stem, content["claim"], blocks))]
    parts += [f"![{description}](plots/{name}.png)\n" for name, description in content.get("plots", {}).items()]
    if (folder / f"{stem}.md").is_file():
        parts.append(f"[All tables]({stem}.md)\n")
    return "\n".join(parts)


def main() -> None:
    """Lists, or runs and writes the page."""
    known = benchmarks()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="what there is, with minutes and memory")
    parser.add_argument("--only", nargs="*", default=list(known), choices=list(known), metavar="NAME")
    parser.add_argument("--peer-python", default="", metavar="PYTHON", help="Python of an environment with benchmarks/requirements-peers.txt")
    add_out(parser)
    settings = parser.parse_args()
    if settings.list:
        for name, benchmark in known.items():
            print(f"{name:20}{' '.join([*benchmark.arguments, f'({benchmark.costs})'])}\n{'':20}{benchmark.claim}")
        return
    ended = {}
    for name in settings.only:
        print(f"=== {name}: {known[name].costs}", flush=True)
        ended[name] = run(name, known[name], settings.peer_python, settings.out)
    write_text(settings.out / "README.md", page(settings.out))
    for name, words in ended.items():
        print(f"{name:20}{words}")
    print(f"Page: {settings.out / 'README.md'}")
    sys.exit(any(not words.startswith(("as asked", "not run")) for words in ended.values()))


if __name__ == "__main__":
    main()
