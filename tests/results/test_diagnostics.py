"""Diagnostics of a trained run, from its best checkpoint, against dcor and numpy on the same rows."""

import shutil
from types import SimpleNamespace

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from jaxkd import methods
from jaxkd.config import default_config
from jaxkd.errors import ArtefactError
from jaxkd.methods.method import Context
from jaxkd.parallel import Devices
from jaxkd.results import diagnostics, plots
from jaxkd.results.diagnostics import best_state, diagnose
from jaxkd.results.report import screen_table, write_report
from jaxkd.training.checkpoint import Checkpoints
from jaxkd.training.optimiser import make_optimiser
from jaxkd.training.state import initial_state
from jaxkd.training.step import Experiment, Normalisation
from jaxkd.types import Batch, StudentOutputs, Table, TeacherSide
from tests.dcor_oracle import dcor
from tests.results.digits_runs import splits

ROWS, WIDTH, DIM, LABELS = 40, 6, 64, 3


class _Student(nn.Module):
    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        features = nn.Dense(2 * WIDTH)(inputs).reshape(-1, 2, WIDTH)
        return StudentOutputs(nn.Dense(LABELS)(features.mean(axis=1)), features, (features,))


def _run(method_name: str, workdir, **overrides):
    """A run whose checkpoint is not the initial state; digits as inputs, and their rows with noise as the embedding of two frames."""
    images, ids = splits()["valid"][0][:ROWS], [f"valid/{row}" for row in range(ROWS)]
    embedding = np.stack([images, images + np.random.default_rng(0).standard_normal(images.shape)], axis=1).astype(np.float32)
    rows = {name: row for row, name in enumerate(ids)}
    labels = Table(rows, np.random.default_rng(1).integers(0, 2, (ROWS, LABELS)).astype(np.float32))
    dataset = SimpleNamespace(task="multilabel", splits={"valid": ids}, labels=labels.gather, label_mask=lambda ids: np.ones((len(ids), LABELS), bool))
    config = default_config()
    config.update_from_flattened_dict(overrides)
    method = methods.build(method_name, ml_collections.FrozenConfigDict(config), Context("multilabel", LABELS, np.zeros(0, np.int32)))
    normalisation = Normalisation(embedding.mean(axis=(0, 1)), np.float32(2))
    experiment = Experiment(_Student(), method, make_optimiser(config.training, method), lambda keys, x: x, normalisation, "and", 0)
    example = Batch(images[:1], np.zeros((1, LABELS), np.float32), np.ones((1, LABELS), bool), embedding[:1], np.ones(1, bool))
    initial = initial_state(jax.random.key(0), experiment.student, method, experiment.optimiser, example, Devices.all())
    trained = initial._replace(params=jax.tree.map(lambda x: x + 0.1 * np.random.default_rng(x.size).standard_normal(x.shape, np.float32), initial.params))
    checkpoints = Checkpoints(workdir / "checkpoints", initial)
    checkpoints.save_best(1, trained, 0.5)
    checkpoints.close()
    assembly = SimpleNamespace(experiment=experiment, state=initial, teacher=TeacherSide(embedding=Table(rows, embedding)))
    prepared = SimpleNamespace(dataset=dataset, inputs=SimpleNamespace(source=Table(rows, images)))
    return assembly, prepared, trained.params, images, (embedding - normalisation.mean) / 2


def test_of_the_compact_embedding(tmp_path):
    assembly, prepared, params, images, embedding = _run("compressed", tmp_path)
    found = diagnose(assembly, prepared, best_state(assembly, tmp_path), 16)
    assert (found["split"], found["rows"]) == ("valid", ROWS)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    dense, kernel = params["student"]["Dense_0"], params["auxiliary"]["transformation"]["output"]["kernel"]
    features = (images.astype(np.float64) @ dense["kernel"] + dense["bias"]).reshape(-1, 2, WIDTH).mean(axis=1)
    raw = embedding.astype(np.float64).mean(axis=1)
    for name, target in (("raw", raw), ("compact", raw @ kernel)):
        assert found["distance_correlation"][name] == pytest.approx(dcor.u_distance_correlation_sqr(features, target), abs=1e-5)
    head = params["auxiliary"]["head"]
    precision = [
        average_precision_score(labels, scores)
        for labels, scores in zip(prepared.dataset.labels(prepared.dataset.splits["valid"]).T, (raw @ kernel @ head["kernel"] + head["bias"]).T, strict=True)
    ]
    assert found["head"] == {"map": pytest.approx(np.mean(precision), abs=1e-5)}
    basis = np.linalg.qr(params["auxiliary"]["head"]["kernel"])[0]
    assert found["label_share"] == pytest.approx(dcor.u_distance_correlation_sqr(raw @ kernel @ basis, raw @ kernel) ** 2, abs=1e-5)
    assert 0 < found["chance_share"] < 1
    np.testing.assert_allclose(found["singular_values"]["output"], np.linalg.svd(kernel, compute_uv=False), rtol=1e-5)


def test_of_methods_without_a_compact_embedding_and_on_few_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnostics, "MOST_ROWS", 20)
    assembly, prepared, *_ = _run("east", tmp_path)
    found = diagnose(assembly, prepared, best_state(assembly, tmp_path), 16)
    assert found["rows"] == 20
    assert set(found) == {"split", "rows", "distance_correlation"}
    assert set(found["distance_correlation"]) == {"raw"}
    assembly, prepared, *_ = _run("baseline", tmp_path / "other")
    assert diagnose(assembly, prepared, best_state(assembly, tmp_path / "nowhere"), 16) == {}


def test_without_its_checkpoint_a_run_cannot_be_diagnosed(tmp_path):
    assembly, *_ = _run("east", tmp_path)
    with pytest.raises(ArtefactError, match="holds no checkpoint"):
        best_state(assembly, tmp_path / "nowhere")


def test_the_report_shows_them_as_a_table(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    found = {
        "split": "valid",
        "rows": 240,
        "distance_correlation": {"raw": 0.4321, "compact": 0.6543},
        "label_share": 0.8765,
        "chance_share": 0.3456,
        "head": {"map": 0.7531},
        "singular_values": {"output": [3.25, 1.5, 0.125]},
    }
    report = write_report(tmp_path / "run", {**finished[1], "diagnostics": found})
    assert report["diagnostics"] == found
    for name in ("report.md", "report.html"):
        text = (tmp_path / "run" / name).read_text().replace("\\", "")
        for part in ("Diagnostics (valid, 240 clips)", "0.432", "0.654", "0.876", "0.346", "0.753", "3.25, 1.5, 0.125", "distances between clips"):
            assert part in text, (name, part)
        assert "What the transformation passes on" in text and "singular_values" in text
    (line,) = plots.singular_values({"output": [3.25, 1.5, 0.0]}).axes[0].lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_array_equal(line.get_ydata(), [3.25, 1.5, np.nan])
    assert "Diagnostics" not in screen_table(report)
