import json
import shutil
import statistics

import numpy as np
import pytest

from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.files import write_json
from jaxkd.metrics import average_precision, multilabel_metrics
from jaxkd.results.comparison import screen_table, write_comparison
from tests.results.digits_runs import make_run
from tests.results.test_report import Page

METHODS, SEEDS = ("probe", "baseline", "compressed"), (0, 1, 2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Nine finished runs; the baseline saw a quarter of the labels that the other two saw."""
    folder = tmp_path_factory.mktemp("runs")
    workdirs = []
    for method in METHODS:
        for seed in SEEDS:
            workdir = folder / f"{method}-{seed}"
            write_json(workdir / "report.json", make_run(workdir, method=method, seed=seed))
            workdirs.append(workdir)
    return workdirs


@pytest.fixture(scope="module")
def compared(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    return folder, write_comparison(runs, folder)


def row_of(report, method, split, metric):
    (row,) = [row for row in report["rows"] if (row["method"], row["split"], row["metric"]) == (method, split, metric)]
    return row


def load(workdir, split):
    with np.load(workdir / "predictions" / f"{split}.npz") as file:
        return file["labels"], file["scores"].astype(float), file["label_mask"]


def test_rows_follow_the_schema(compared):
    folder, report = compared
    assert json.loads((folder / "report.json").read_text()) == report
    assert report["schema"] == 1
    assert len(report["rows"]) == len(METHODS) * 3 * 3  # splits, metrics
    for row in report["rows"]:
        assert set(row) == {"method", "kind", "split", "metric", "n", "mean", "std", "seeds", "values", "versus"}
        assert row["kind"] == ("reference" if row["method"] == "probe" else "student")
        assert set(row["versus"]) == set(METHODS) - {row["method"]}
        assert all(set(cell) == {"difference", "ci95", "ranked"} for cell in row["versus"].values())


def test_mean_std_and_difference_equal_direct_computation(compared, runs):
    values = {}
    for workdir in runs:
        labels, scores, mask = load(workdir, "test")
        values.setdefault(workdir.name.split("-")[0], []).append(multilabel_metrics(labels, scores, mask)["map"])
    for method in METHODS:
        row = row_of(compared[1], method, "test", "map")
        assert row["values"] == pytest.approx(values[method])
        assert row["n"] == 3 and row["seeds"] == [0, 1, 2]
        assert row["mean"] == pytest.approx(statistics.mean(values[method]))
        assert row["std"] == pytest.approx(statistics.stdev(values[method]), abs=1e-12)
        for other, cell in row["versus"].items():
            assert cell["difference"] == pytest.approx(np.mean(np.subtract(values[method], values[other])))


def test_interval_equals_the_bootstrap_written_as_a_loop(compared, runs):
    """Resampling clips (shared by all runs) and seeds (shared by both methods) one draw at a time gives the same interval, up to chance."""
    ours = [load(workdir, "test") for workdir in runs if workdir.name.startswith("compressed")]
    theirs = [load(workdir, "test") for workdir in runs if workdir.name.startswith("baseline")]
    rng, samples = np.random.default_rng(11), []
    for _ in range(400):
        clips, seeds = rng.integers(300, size=300), rng.integers(3, size=3)
        side = [[np.mean(average_precision(*(array[clips] for array in method[seed]))) for seed in seeds] for method in (ours, theirs)]
        samples.append(np.mean(side[0]) - np.mean(side[1]))
    low, high = np.quantile(samples, (0.025, 0.975))
    found = row_of(compared[1], "compressed", "test", "map")["versus"]["baseline"]["ci95"]
    assert found == pytest.approx([low, high], abs=0.2 * (high - low))


def test_versus_is_antisymmetric_and_ranked_means_that_zero_is_outside(compared):
    report = compared[1]
    verdicts = set()
    for row in report["rows"]:
        for other, cell in row["versus"].items():
            mirrored = row_of(report, other, row["split"], row["metric"])["versus"][row["method"]]
            assert mirrored["difference"] == pytest.approx(-cell["difference"])
            if "reference" not in (row["kind"], row_of(report, other, row["split"], row["metric"])["kind"]):
                assert mirrored["ci95"] == pytest.approx([-cell["ci95"][1], -cell["ci95"][0]])
            assert cell["ranked"] == (cell["ci95"][0] > 0 or cell["ci95"][1] < 0)
            verdicts.add(cell["ranked"])
    assert verdicts == {True, False}


def test_a_method_is_never_ranked_against_its_own_copy(runs, tmp_path):
    copies = []
    for seed in SEEDS:
        shutil.copytree(runs[3 + seed], tmp_path / f"copy-{seed}")
        report = json.loads((tmp_path / f"copy-{seed}" / "report.json").read_text())
        write_json(tmp_path / f"copy-{seed}" / "report.json", report | {"method": "copy"})
        copies.append(tmp_path / f"copy-{seed}")
    report = write_comparison([*runs[3:6], *copies], tmp_path / "out")
    cells = [row["versus"]["baseline"] for row in report["rows"] if row["method"] == "copy"]
    assert cells == [{"difference": 0.0, "ci95": [0.0, 0.0], "ranked": False}] * 9
    lines = [line.split() for line in screen_table(report).splitlines()]
    assert sum(line[-3:] == ["not", "ranked", "baseline"] for line in lines) == 9


def test_variants_of_a_method_are_rows_of_their_own_whatever_their_teacher(runs, tmp_path):
    other = []
    for seed in SEEDS:
        workdir = tmp_path / f"wide-{seed}"
        shutil.copytree(runs[3 + seed], workdir)
        report = json.loads((workdir / "report.json").read_text())
        report["config"]["teacher"] = {"name": "other"}
        write_json(workdir / "report.json", report | {"method": "compressed", "teacher": report["teacher"] | {"name": "other"}})
        other.append(workdir)
    names = ["compressed"] * 3 + ["wide"] * 3
    variants = {"wide": ("compressed", "teacher.name=other"), "absent": ("compressed", "seed=1")}
    report = write_comparison([*runs[6:9], *other], tmp_path / "out", names=names, reference="compressed", variants=variants)
    assert report["variants"] == {"wide": {"method": "compressed", "settings": ["teacher.name=other"]}}
    assert [run["method"] for run in report["runs"]] == names
    direct = write_comparison(runs[3:], tmp_path / "direct")
    for metric in ("map", "roc_auc", "f1_macro"):
        ours, theirs = row_of(report, "wide", "test", metric), row_of(direct, "baseline", "test", metric)
        assert ours["values"] == theirs["values"]
        assert ours["versus"]["compressed"] == theirs["versus"]["compressed"]
    assert "teacher.name" not in "".join(note for note in report["notes"] if "differ not only" in note)
    screen = screen_table(report)
    assert "Variants" in screen and "teacher.name=other" in screen


def test_many_rows_that_are_not_ranked_are_counted(runs, tmp_path):
    names = ["compressed", "one", "two", "three", "four"]
    screen = screen_table(write_comparison([runs[6]] * len(names), tmp_path, names=names, reference="compressed"))
    lines = [line.split() for line in screen.splitlines() if "student" in line.split()]
    assert len(lines) == 45  # names, splits, metrics
    assert all(line[-3:] == ["4", "of", "4"] for line in lines)


def test_page_markdown_and_screen_hold_every_mean_and_difference(compared):
    folder, report = compared
    page, markdown, screen = "".join(Page((folder / "report.html").read_text()).text), (folder / "report.md").read_text(), screen_table(report)
    for row in report["rows"]:
        mean = f"{row['mean']:.3f} ± {row['std']:.3f}"
        assert mean in page and mean in markdown and mean in screen
        for other, cell in row["versus"].items():
            text = f"{cell['difference']:+.3f} [{cell['ci95'][0]:+.3f}, {cell['ci95'][1]:+.3f}]"
            assert text in page
            assert other != "baseline" or text in screen


def test_notes_tell_of_few_seeds_and_of_other_differences(compared):
    notes = "\n".join(compared[1]["notes"])
    assert "3 seed(s)" in notes
    assert "differ not only in method and seed, but in data.labelled" in notes


def test_one_seed_has_no_standard_deviation(runs, tmp_path):
    report = write_comparison([runs[3], runs[6]], tmp_path)
    assert all(row["std"] is None and row["n"] == 1 for row in report["rows"])
    assert "± -" in screen_table(report)


@pytest.mark.parametrize(
    ("choose", "error", "message"),
    [
        (lambda runs: [], ArtefactError, "no finished run"),
        (lambda runs: [runs[3], runs[3]], ArtefactError, "both method 'baseline' with seed 0"),
        (lambda runs: [runs[3], runs[7]], ArtefactError, "no seed in common"),
        (lambda runs: [runs[6], runs[7]], ConfigError, "unknown reference method 'baseline'"),
        (lambda runs: [runs[3], runs[3].parent / "absent"], ArtefactError, "report.json is missing"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path, choose, error, message):
    with pytest.raises(error, match=message):
        write_comparison(choose(runs), tmp_path)
    assert not (tmp_path / "report.json").exists()


def test_other_examples_are_refused(runs, tmp_path):
    shutil.copytree(runs[6], tmp_path / "other")
    path = tmp_path / "other" / "predictions" / "test.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {"labels": 1 - arrays["labels"]}))
    with pytest.raises(ArtefactError, match="other examples or labels on test"):
        write_comparison([runs[3], tmp_path / "other"], tmp_path / "out")


def test_the_report_of_other_rows_is_kept_and_that_of_the_same_rows_replaced(compared, runs, tmp_path, capsys):
    shutil.copytree(compared[0], tmp_path, dirs_exist_ok=True)
    newest = write_comparison([runs[0]], tmp_path, reference="probe")
    (kept,) = tmp_path.glob("earlier-*")
    assert str(kept) in capsys.readouterr().err
    first, earlier = compared[1], json.loads((kept / "report.json").read_text())
    assert {**earlier, "runs": first["runs"]} == first and len(earlier["runs"]) == len(runs)
    assert [kept / run["workdir"] for run in earlier["runs"]] == [kept / ".." / run["workdir"] for run in first["runs"]]
    for name in ("report.md", "report.html"):
        assert "compressed" in (kept / name).read_text() and "compressed" not in (tmp_path / name).read_text()
    assert write_comparison([runs[0]], tmp_path, reference="probe") == newest
    assert newest == json.loads((tmp_path / "report.json").read_text())
    assert list(tmp_path.glob("earlier-*")) == [kept] and not capsys.readouterr().err
