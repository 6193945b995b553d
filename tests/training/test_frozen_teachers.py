"""Teachers beyond the table in a whole experiment: precomputed embeddings, a HEAR module, and several at once."""

import json
import sys

import jax
import numpy as np
import pytest

from jaxkd import pipeline
from jaxkd.results.examples import evaluated_examples, split_metrics
from jaxkd.results.probes import fit_on, of_teacher
from jaxkd.training.experiment import assemble
from jaxkd.training.preparation import prepare
from tests.small import small_config
from tests.teachers import hear_modules


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory, small_inputs, cache_dir):
    """A cache with the data, the weights and the musicnn embeddings of the shared one; what these tests embed stays in it."""
    folder = tmp_path_factory.mktemp("cache")
    for name in ("packages", "datasets", "banks"):
        (folder / name).symlink_to(cache_dir / name)
    (folder / "stores").mkdir()
    (folder / "stores" / small_inputs.store.path.name).symlink_to(small_inputs.store.path)
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory, small_inputs):
    """The embeddings of musicnn, as a file of one's own."""
    file = tmp_path_factory.mktemp("given") / "musicnn.npz"
    ids = list(small_inputs.store.ids)
    np.savez(file, ids=np.array(ids), embeddings=small_inputs.store.gather(ids)[:, 0])
    return file


@pytest.mark.slow
def test_precomputed_embeddings_give_the_report_of_the_teacher_that_made_them(small_inputs, own_cache, stored, tmp_path, capsys):
    config = small_config(method="probe")
    config.teacher.update({"name": "precomputed", "embedding": "", "archive": str(stored), "hop_seconds": 2.992})
    pipeline.check(config)
    pipeline.run(config, tmp_path, own_cache)
    report = json.loads((tmp_path / "report.json").read_text())
    probe, examples = fit_on(small_inputs, of_teacher), evaluated_examples(small_inputs, "")
    scores = {split: probe.scores(of_teacher(of.data, of.ids)) for split, of in examples.items()}
    expected = split_metrics(examples, scores, config.evaluation.f1_threshold)
    for split, metrics in expected.items():
        assert report["teacher"]["probe"][split]["map"] == pytest.approx(metrics["map"], abs=1e-9)
    assert [report["teacher"][name] for name in ("parameters", "macs_per_example", "examples_per_second")] == [None] * 3
    assert "precomputed" in capsys.readouterr().out


@pytest.mark.slow
def test_a_hear_module_beside_others(own_cache, stored, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(hear_modules.write(tmp_path / "site"))
    config = small_config(method="compressed")
    config.teacher.update({"name": "hear:small_hear.mel", "embedding": "timestamp"})
    config.teacher.others = ("MTT_musicnn:max_mean_pool normalisation=none", f"precomputed archive='{stored}' normalisation=vggish")
    config.teacher.combine = "separate"
    pipeline.check(config)
    prepared = prepare(config, own_cache)
    del sys.modules["small_hear"], sys.modules["small_hear.mel"]
    assert prepared.store.widths == (24, 1506, 1506)
    assert prepared.store.frames == 13
    assert prepared.notes["clips for hear:small_hear.mel"] == "resampled from 16000 Hz to 22050 Hz (polyphase, Kaiser window of beta 5)"
    assembly = assemble(config, prepared)
    rows = assembly.loader.batch(0).rows
    embedding = np.asarray(assembly.experiment.normalisation(rows.embedding))
    assert embedding.shape == (len(rows.where), 13, 24 + 2 * 1506)
    train = np.asarray(assembly.experiment.normalisation(prepared.store.gather(prepared.dataset.splits["train"])))
    np.testing.assert_allclose(train[..., :24].mean(axis=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(train[..., :24].std(axis=(0, 1)), 1, atol=1e-3)
    musicnn = embedding[..., 24 : 24 + 1506]
    np.testing.assert_array_equal(embedding[..., 24 + 1506 :], (musicnn - 128) / 256)
    assert {name for name in assembly.state.params["auxiliary"] if name != "head"} == {f"transformation_{number}" for number in range(3)}
    _, terms = assembly.train(assembly.state, assembly.devices.shard(assembly.loader.batch(0)))
    assert all(np.isfinite(value) for value in jax.tree.leaves(terms))
