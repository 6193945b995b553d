"""The house rules that can be read off the source: floors and rooms, file length, docstrings, no addresses, nothing heavy on import."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.start_up import COMMANDS, HEAVY, imported

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jaxkd"
MODULES = sorted(PACKAGE.rglob("*.py"))
FLOORS = (
    (
        "config",
        "recipes",
        "members",
        "validation",
        "workdir",
        "types",
        "errors",
        "plugins",
        "files",
        "progress",
        "parallel",
        "collectives",
        "hosts",
        "together",
        "watch",
        "memory",
        "xla_flags",
    ),
    ("losses", "metrics", "frontend", "torch_start"),
    ("lelp", "compression", "models", "data"),
    ("methods", "students", "teachers"),
    ("embeddings",),
    ("training",),
    ("results",),
    ("pipeline",),
    ("main",),
)
FLOOR_OF_ROOM = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MAX_LINES = 350


def room_of(path: Path) -> str | None:
    """The room that a module stands in: its folder or file directly below jaxkd; None for jaxkd/__init__.py."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if first == "__init__" else first


def imported_rooms(tree: ast.AST, path: Path) -> Iterator[str]:
    """The rooms of jaxkd that the import statements of a module name, at any depth of the module."""
    package = ["jaxkd", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        yield from (name[1] for name in names if name[0] == "jaxkd" and len(name) > 1)


def violations(tree: ast.AST, path: Path) -> list[str]:
    """The imports of a module that go up, or sideways into another room of the same floor (floor 0 may, without a circle)."""
    room = room_of(path)
    if room is None:
        return [f"jaxkd/__init__.py imports {other}" for other in imported_rooms(tree, path)]
    floor = FLOOR_OF_ROOM[room]
    found = []
    for other in imported_rooms(tree, path):
        other_floor = FLOOR_OF_ROOM.get(other)
        allowed = other == room or (other_floor is not None and (other_floor < floor or (other_floor == floor == 0)))
        if not allowed:
            found.append(f"{path.relative_to(ROOT)} (floor {floor}) imports jaxkd.{other} (floor {other_floor})")
    return found


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def test_every_module_stands_in_a_room_of_the_plan():
    rooms = {room_of(path) for path in MODULES} - {None}
    assert rooms <= FLOOR_OF_ROOM.keys(), f"no floor is planned for {sorted(rooms - FLOOR_OF_ROOM.keys())}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_lower_floors(path):
    assert not violations(parse(path), path)


@pytest.mark.parametrize(
    ("where", "statement"),
    [
        ("losses/features.py", "import jaxkd.metrics"),
        ("losses/features.py", "from jaxkd.training import loop"),
        ("losses/features.py", "from jaxkd import frontend"),
        ("losses/features.py", "from ..models import musicnn"),
        ("losses/features.py", "def f():\n    from jaxkd.results import report"),
        ("__init__.py", "from jaxkd import losses"),
        ("files.py", "import jaxkd.unplanned"),
    ],
)
def test_forbidden_imports_are_seen(where, statement):
    assert violations(ast.parse(statement), PACKAGE / where)


@pytest.mark.parametrize(
    ("where", "statement"),
    [
        ("losses/features.py", "from . import logits"),
        ("losses/features.py", "from jaxkd import errors"),
        ("files.py", "from jaxkd.errors import ArtefactError"),
    ],
)
def test_allowed_imports_pass(where, statement):
    assert not violations(ast.parse(statement), PACKAGE / where)


def test_the_guide_for_contributors_names_the_same_floors():
    rows = re.findall(r"^\| (\d) \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = {int(floor): sorted(re.findall(r"`(\w+)(?:\.py|/)`", rooms)) for floor, rooms in rows}
    assert named == {floor: sorted(rooms) for floor, rooms in enumerate(FLOORS)}


def test_floor_0_has_no_circle():
    graph = {path.stem: {room for room in imported_rooms(parse(path), path) if room != path.stem} for path in MODULES if room_of(path) in FLOORS[0]}
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short_and_public_names_have_docstrings(path):
    assert len(path.read_text().splitlines()) < MAX_LINES
    tree = parse(path)
    missing = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
            missing.append(node.name)
    assert not missing, f"no docstring: {missing}"


def source_files() -> list[Path]:
    """Every text file of the repository that people write."""
    folders = [ROOT / name for name in ("jaxkd", "tests", "configs", "benchmarks", ".ci")]
    files = [
        file for folder in folders for file in folder.rglob("*") if file.suffix in ("", ".py", ".md", ".txt", ".toml", ".json", ".yaml") and file.is_file()
    ]
    return [*files, *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob(".*.yaml")]


def test_no_machine_paths_and_no_addresses_but_those_of_papers():
    papers = ("arxiv.org", "doi.org", "www.w3.org")
    found = []
    for file in source_files():
        for number, line in enumerate(file.read_text().splitlines(), 1):
            hosts = re.findall(r"https?://([\w.-]+)", line)
            machine_path = re.search(r"(?<![\w.~}-])/(?:home|root|work|Users)/", line) if file.name != Path(__file__).name else None
            if machine_path or any(host not in papers for host in hosts):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_import_of_jaxkd_is_light():
    program = "import sys, jaxkd; print([name for name in ('jax', 'numpy', 'flax', 'tensorflow', 'tensorflow_datasets') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_the_checks_of_a_config_import_nothing_heavy(name):
    arguments, status, _ = COMMANDS[name]
    modules = {module.partition(".")[0] for module in imported(arguments, status)}
    assert "encodings" in modules and not modules & set(HEAVY)
