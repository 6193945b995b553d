"""The frame of the benchmarks: what they keep, in which order they run, and the page of all results. What they measure is not judged here."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as runner
from benchmarks import pairs, record
from benchmarks.record import Figure
from jaxkd.files import read_json
from jaxkd.results.document import Table

SCRIPT = '''"""{claim}

Command: python -m benchmarks.{name}{arguments}   (a second, no memory)
"""
import pathlib, sys
print("{name}", *(argument for argument in sys.argv[1:] if not argument.startswith("--out")), flush=True)
{body}
'''


@pytest.mark.parametrize(
    ("figure", "asked", "reached"),
    [
        (Figure("time", 1.0), "", None),
        (Figure("time", 1.0, at_most=1.0), "at most 1", True),
        (Figure("time", 1.1, at_most=1.0), "at most 1", False),
        (Figure("speed", 19.0, at_least=20.0), "at least 20", False),
        (Figure("speed", 20.0, at_least=20.0), "at least 20", True),
        (Figure("share", 0.2, at_most=0.1, at_least=0.1), "at most 0.1 and at least 0.1", False),
    ],
)
def test_what_is_asked_and_reached(figure, asked, reached):
    assert (figure.asked, figure.reached) == (asked, reached)


def test_repeats_are_their_median_and_range():
    assert record.of_repeats("time", [3.0, 1.0, 2.0, 9.0], "ms", at_most=2.6) == Figure("time", 2.5, "ms", 1.0, 9.0, at_most=2.6)


@pytest.mark.parametrize("arguments", [["--peer-python=/some/python", "--workdir", "/some/where", "--out=/else", "--sizes", "1", "2"]])
def test_a_command_names_no_place_of_this_machine(arguments):
    assert record.command("one", arguments) == "python -m benchmarks.one --peer-python=PYTHON --workdir=DIR --sizes 1 2"


def test_kept_as_json_and_markdown_with_the_exit_status(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["one", f"--out={tmp_path}"])
    doc = "A claim\nof two lines.\n\nMore."
    table = Table("Seconds", ["part", "s"], [["all", "1.5"]])
    figures = [Figure("ratio", 1.23456789, low=1.0, high=2.0, at_most=1.3), Figure("seconds", 1.5, "s")]
    assert record.keep("one", doc, figures, {"rows": 3}, tmp_path, blocks=[table], versions={"peer": "1.0"}) == 0
    kept = read_json(tmp_path / "one.json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == kept
    assert (kept["claim"], kept["command"], kept["rows"]) == ("A claim of two lines.", "python -m benchmarks.one", 3)
    assert kept["figures"][0] == {"name": "ratio", "value": 1.234568, "unit": "", "low": 1.0, "high": 2.0, "at_most": 1.3, "at_least": None, "reached": True}
    assert (
        kept["versions"]["peer"] == "1.0"
        and kept["versions"].keys() > {"jax", "numpy"}
        and kept["machine"].keys() == {"processor", "cores", "load before", "platform"}
    )
    text = (tmp_path / "one.md").read_text()
    assert "| ratio | 1.23 | 1 | 2 | at most 1.3 | yes |" in text and "| seconds | 1.5 s | - | - | - | - |" in text and "| all | 1.5 |" in text
    assert record.keep("one", doc, [*figures, Figure("speed", 1.0, at_least=2.0)], {}, tmp_path, variant="small") == 1
    assert "| speed | 1 | - | - | at least 2 | no |" in (tmp_path / "one_small.md").read_text()


def test_every_benchmark_names_its_command_and_takes_a_folder_for_its_results():
    known = runner.benchmarks()
    for file in Path(runner.__file__).parent.glob("*.py"):
        if file.stem != "__main__":
            takes_one = any(option in file.read_text() for option in ("add_out(", "chosen(__doc__", '"--out"'))
            assert takes_one == (file.stem in known or file.stem == "record"), file.name
    assert {name for name, benchmark in known.items() if "--peer-python=PYTHON" in benchmark.arguments} >= {"east_step", "front_end"}


def test_runs_one_after_the_other_goes_on_after_a_miss_and_writes_the_page(tmp_path, monkeypatch, capfd):
    folder, out = tmp_path / "benchmarks", tmp_path / "results"
    folder.mkdir()
    bodies = {"awkward": "sys.exit(1)", "broken": "raise ValueError", "peered": "", "sound": ""}
    for name, body in bodies.items():
        arguments = " --peer-python=PYTHON --size=3" if name == "peered" else ""
        (folder / f"{name}.py").write_text(SCRIPT.format(claim=f"Claim of {name}.", name=name, arguments=arguments, body=body))
    (folder / "__init__.py").touch()
    (folder / "helper.py").write_text('"""No command."""\n')
    monkeypatch.setattr(sys, "argv", ["one"])
    record.keep("sound", "Claim of sound.", [Figure("ratio", 0.5, at_most=1.0), Figure("other", 3.0, at_most=1.0)], {}, out)
    (out / "strange.json").write_text("{}")
    monkeypatch.setattr(runner, "FOLDER", folder)
    monkeypatch.setattr(runner.benchmarks, "__defaults__", (folder,))

    def ended(*arguments):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["benchmarks", f"--out={out}", *arguments])
        with pytest.raises(SystemExit) as caught:
            runner.main()
        return caught.value.code, capfd.readouterr().out.splitlines()

    status, lines = ended("--peer-python=/some/python")
    assert status == 1
    assert [line for line in lines if line.partition(" ")[0] in bodies][:4] == ["awkward", "broken", "peered --peer-python=/some/python --size=3", "sound"]
    assert [line for line in lines if "min)" in line] == [
        "awkward             a claim is missed, or it failed: see above (0.0 min)",
        "broken              a claim is missed, or it failed: see above (0.0 min)",
        "peered              as asked (0.0 min)",
        "sound               as asked (0.0 min)",
    ]
    page = (out / "README.md").read_text()
    assert "| sound | 2 | 1 | 2" in page and "## sound" in page and "| ratio | 0.5 | - | - | at most 1 | yes |" in page
    assert "[All tables](sound.md)" in page and "[strange](strange.json)" in page
    status, lines = ended("--only", "peered", "sound")
    assert status == 0 and any(line.startswith("peered") and line.endswith("not run: it needs --peer-python") for line in lines)


ECHO = [
    sys.executable,
    "-uc",
    "import sys\nfor line in sys.stdin:\n    sys.exit('damaged') if line == 'end\\n' else print('[\"' + sys.argv[1] + line.strip() + '\"]')",
]


def test_sides_answer_by_turns_and_a_round_before_the_first_is_not_counted():
    with pairs.sides({"one": [*ECHO, "1 "], "two": [*ECHO, "2 "]}) as ask:
        found = pairs.by_turns(ask, ["a", "b"], 2, {"b": 5})
    assert found == {"a": {"one": [["1 a 1"]] * 2, "two": [["2 a 1"]] * 2}, "b": {"one": [["1 b 5"]] * 2, "two": [["2 b 5"]] * 2}}


def test_a_side_that_ends_is_named_and_the_other_does_not_stay(capfd):
    with pytest.raises(SystemExit, match="the side one ended before it answered 'end'"), pairs.sides({"one": [*ECHO, ""], "two": [*ECHO, ""]}) as ask:
        ask["two"]("first")
        two: Any = ask["two"]
        ask["one"]("end")
    assert two.args[1].poll() is not None
    assert "damaged" in capfd.readouterr().err


def test_the_ratio_is_that_of_each_repeat():
    answers = {"jaxkd": [{"wall_s": seconds} for seconds in (1.0, 4.0, 9.0)], "torch": [{"wall_s": seconds} for seconds in (2.0, 2.0, 3.0)]}
    assert pairs.compared(answers, "wall_s") == {"jaxkd": 4.0, "torch": 2.0, "ratio": 2.0, "low": 0.5, "high": 3.0}
