import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from jaxkd.errors import ArtefactError
from jaxkd.results import numbers
from jaxkd.results.notes import brief, note_lines
from jaxkd.results.report import screen_table, write_report
from jaxkd.results.wording import RENDERED, TRIAL, origin_lines
from tests.small import load_config

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(html.parser.HTMLParser):
    """Reads a page strictly: every element closed in order, every id used once, nothing loaded from elsewhere."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.text, self.references = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href"):
                self.references.append(value)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def written(finished):
    workdir, summary = finished
    return workdir, write_report(workdir, summary)


def printed_numbers(report) -> set[str]:
    """Every number of report.json as the report must print it."""
    found = set()
    for split, metrics in report["results"].items():
        found |= {numbers.score(value) for value in metrics.values()}
        found |= {numbers.score(value) for value in report["teacher"]["probe"][split].values()}
    for metrics in report["intervals"].values():
        for sides in metrics.values():
            found |= {numbers.with_interval(**side, signed=name == "difference") for name, side in sides.items()}
    for split in ("test", "unseen"):
        found |= {numbers.score(value) for scores in report["per_class"][split].values() for value in scores.values()}
    for side in (report["student"], report["teacher"]):
        found |= {numbers.count(side["parameters"]), numbers.count(side["macs_per_example"]), numbers.amount(side["examples_per_second"])}
    return found | {numbers.amount(seconds) for seconds in report["timings_s"].values()}


def copy_run(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run", json.loads(json.dumps(finished[1]))


def rewrite(path, **changes):
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | changes))


def test_json_keeps_the_summary_and_adds_clips_classes_and_intervals(finished, written):
    workdir, report = written
    assert json.loads((workdir / "report.json").read_text()) == report
    assert report["schema"] == 1
    assert {key: report[key] for key in finished[1]} == json.loads(json.dumps(finished[1]))
    assert set(report) - set(finished[1]) == {"clips", "per_class", "intervals"}
    assert report["clips"] == {"valid": 240, "test": 300, "unseen": 300}
    for split, metrics in report["intervals"].items():
        for metric, sides in metrics.items():
            assert sides["student"]["value"] == pytest.approx(report["results"][split][metric], abs=1e-9)
            assert sides["probe"]["value"] == pytest.approx(report["teacher"]["probe"][split][metric], abs=1e-9)
            assert sides["difference"]["value"] == pytest.approx(sides["student"]["value"] - sides["probe"]["value"])
            assert all(side["ci95"][0] <= side["value"] <= side["ci95"][1] for side in sides.values())
    assert np.mean(list(report["per_class"]["test"]["student"].values())) == pytest.approx(report["results"]["test"]["map"])


def test_page_and_markdown_hold_every_number(written):
    workdir, report = written
    page = "".join(Page((workdir / "report.html").read_text()).text)
    markdown = (workdir / "report.md").read_text().replace("\\", "")
    expected = printed_numbers(report)
    assert len(expected) > 80
    assert not [number for number in expected if number not in page]
    assert not [number for number in expected if number not in markdown]


def test_page_is_self_contained_and_its_ids_are_unique(written):
    page = Page((written[0] / "report.html").read_text())
    assert len(page.ids) == len(set(page.ids))
    inner = {reference[1:] for reference in page.references if reference.startswith("#")}
    assert inner <= set(page.ids)
    assert all(reference.startswith(("#", "data:")) for reference in page.references)
    assert not re.findall(r"url\((?!#)", (written[0] / "report.html").read_text())


def test_page_has_the_plots_each_described(written):
    text = (written[0] / "report.html").read_text()
    for name in ("training_curves", "distance", "class_scores", "confusion_test", "confusion_unseen"):
        assert f'<figure id="{name}"><svg role="img" aria-label="' in text
        assert (written[0] / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"](plots/{name}.png)" in (written[0] / "report.md").read_text().replace("\\_", "_")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; the page is parsed in the other tests")
def test_chromium_loads_the_page_without_a_complaint(written, tmp_path):
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    page = (written[0] / "report.html").as_uri()
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0", "--window-size=1100,3000"]
    shot = tmp_path / "page.png"
    dumped = subprocess.run([*command, "--dump-dom", page], capture_output=True, text=True, timeout=60, check=True)
    shown = subprocess.run([*command, f"--screenshot={shot}", page], capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in dumped.stderr + shown.stderr
    assert dumped.stdout.count("<svg") == 5
    assert "digits: compressed, seed 0" in dumped.stdout
    assert shot.stat().st_size > 50_000


def test_screen_table_is_aligned_and_names_cost_and_notes(written):
    lines = screen_table(written[1]).splitlines()
    start = lines.index("Scores") + 1
    header, rows = lines[start], lines[start + 2 : start + 17]
    assert header.split() == ["split", "metric", "student", "teacher's", "probe", "difference"]
    assert {len(row) for row in rows} == {len(header)}
    assert any(line.split() == ["MACs", "per", "clip", "1,776", "640"] for line in lines)
    assert "- unseen: digits moved by one pixel" in lines
    assert "- leakage, shared samples: 0" in lines
    assert any("step 40 of its training" in line for line in lines)


def test_rendered_clips_are_said_to_be_rendered(finished, tmp_path):
    workdir, summary = copy_run(finished, tmp_path)
    summary["config"]["data"]["source"] = "rendered_instruments"
    report = write_report(workdir, summary)
    assert RENDERED in screen_table(report)
    assert RENDERED in (workdir / "report.html").read_text()


def test_split_that_was_not_run_is_left_out_and_its_note_says_why(finished, tmp_path):
    workdir, summary = copy_run(finished, tmp_path)
    for name in ("unseen", "probe_unseen"):
        (workdir / "predictions" / f"{name}.npz").unlink()
    del summary["results"]["unseen"], summary["teacher"]["probe"]["unseen"]
    summary["notes"]["unseen"] = "not run: neither package client was found"
    report = write_report(workdir, summary)
    assert "unseen" not in report["intervals"]
    assert "unseen: not run: neither package client was found" in screen_table(report)
    assert not any(line.startswith("unseen ") for line in screen_table(report).splitlines())


def test_reference_without_student_probe_curves_or_positives_of_a_class(finished, tmp_path):
    workdir, summary = copy_run(finished, tmp_path)
    (workdir / "metrics.jsonl").unlink()
    shutil.rmtree(workdir / "predictions")
    (workdir / "predictions").mkdir()
    shutil.copy(finished[0] / "predictions" / "probe_test.npz", workdir / "predictions" / "test.npz")
    with np.load(workdir / "predictions" / "test.npz") as file:
        mask = file["label_mask"].copy()
    mask[:, 3] = False
    rewrite(workdir / "predictions" / "test.npz", label_mask=mask)
    summary |= {"method": "probe", "student": None, "results": {"test": {}}}
    report = write_report(workdir, summary)
    assert report["per_class"]["test"] == {"student": report["per_class"]["test"]["student"]}
    assert report["per_class"]["test"]["student"]["three"] is None
    assert "NaN" not in (workdir / "report.json").read_text()
    assert "training_curves" not in (workdir / "report.html").read_text()


def test_markup_in_a_name_is_shown_not_obeyed(finished, tmp_path):
    workdir, summary = copy_run(finished, tmp_path)
    summary["notes"]["<script>alert(1)</script>"] = 'a | b "c" & *d*'
    write_report(workdir, summary)
    page = Page((workdir / "report.html").read_text())
    assert '<script>alert(1)</script>: a | b "c" & *d*' in "".join(page.text)
    assert r"\<script>alert(1)\</script>: a \| b" in (workdir / "report.md").read_text()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "predictions" / "test.npz").write_bytes(b"PK\x03\x04 not a zip"), r"test\.npz is not a file of predictions"),
        (lambda run: shutil.rmtree(run / "predictions"), "holds no predictions"),
        (lambda run: rewrite(run / "predictions" / "test.npz", scores=np.zeros((300, 9))), "do not fit together"),
        (lambda run: rewrite(run / "predictions" / "probe_test.npz", ids=np.array(["x"] * 300)), "other examples or labels"),
        (lambda run: rewrite(run / "predictions" / "test.npz", scores=np.full((300, 10), np.nan)), "test/00000.*not finite"),
        (lambda run: rewrite(run / "predictions" / "test.npz", scores=np.full((300, 10), 0.5)), r"map on test is 0\.\d+ in the results but"),
        (lambda run: (run / "metrics.jsonl").write_text('{"step": 1, "split": "train", "values": {}}\n{"step": 2'), "metrics.jsonl, line 2"),
    ],
)
def test_damaged_runs_are_refused_with_the_file_named(finished, tmp_path, damage, message):
    workdir, summary = copy_run(finished, tmp_path)
    (workdir / "report.json").unlink(missing_ok=True)
    damage(workdir)
    with pytest.raises(ArtefactError, match=message):
        write_report(workdir, summary)
    assert not (workdir / "report.json").exists()


def test_long_notes_are_left_to_the_report():
    assert brief("licence: MIT") == "licence: MIT"
    assert brief("terms: " + "x" * 300) == "terms: see report.md"
    assert brief("terms: one\ntwo") == "terms: see report.md"


def test_notes_of_data_sets_are_words():
    notes = {
        "leakage": {
            "samples": {"banks": ["A", "B"], "compared": [423, 1008], "shared": 1, "examples": [["Waves", "Shore", 0.99]], "threshold": 0.98},
            "scores": [["train", "bwv1", "test", "bwv2"]],
            "rows left out of train, being in test": 7,
        },
        "rows": {"valid": "200, 7 to 11 of each of 20 classes"},
        "classes": {"even": "autos, space"},
        "licences": {"scores": "BSD-3-Clause", "train bank": "GPL-2.0"},
        "score_terms": {"files": ["(c) by one"], "folder": "#-----\nCorpus licence\n" * 20},
        "scores": {"test": 81, "train": 245},
        "duplicates": {"copies left out of train": 20, "copies within test, left in": 7, "of them with another label than the first": 4},
        "decoded": {"filled up with silence": 3},
    }
    assert note_lines(notes) == [
        "leakage: scores of equal content in two splits: bwv1 (train) and bwv2 (test)",
        "leakage: recorded samples of B that sound like one of the 423 of A: 1 of 1,008 (correlation of at least 0.98), 'Shore' as 'Waves'",
        "leakage: 7 rows left out of train, being in test",
        "rows of valid: 200, 7 to 11 of each of 20 classes",
        "class even: autos, space",
        "licence of the scores: BSD-3-Clause",
        "licence of the train bank: GPL-2.0",
        "licences of all that was fetched: --mode=cache",
        "terms of the scores: license.txt in their archive, with its text in report.json; (c) by one",
        "scores that the clips of each split are of: test 81, train 245",
        "duplicates: 20 copies left out of train, 4 of them with another label than the first; 7 copies within test, left in",
        "decoded, filled up with silence: 3",
    ]


@pytest.mark.parametrize("name", ["audio", "text", "image"])
def test_scores_of_a_trial_are_said_to_mean_nothing(name):
    lines = {argument: origin_lines({"config": load_config(name, argument).to_dict(), "results": {}}) for argument in ("", "runlocal")}
    assert TRIAL in lines["runlocal"]
    assert TRIAL not in lines[""]
