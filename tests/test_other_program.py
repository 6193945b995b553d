"""A run that is tested on another data set, a folder of audio files with classes of its own, and on the frozen features of clips never heard."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxkd import pipeline
from jaxkd.results.artefact import load_predictor
from jaxkd.results.predictions import load_predictions, predictions_path
from tests.small import small_config

ROWS = {"train": 12, "valid": 12, "test": 16}


@pytest.fixture(scope="module")
def folder(small_inputs, tmp_path_factory) -> tuple[Path, list[int]]:
    """Clips of the small data set as files, with its two commonest classes under other names and one that ours lacks; and the places of the two."""
    dataset, path = small_inputs.dataset, tmp_path_factory.mktemp("folder")
    ids = {split: dataset.splits[split][:count] for split, count in ROWS.items()}
    places = np.argsort(-dataset.labels(ids["test"]).sum(axis=0), kind="stable")[:2].tolist()
    lines = ["file,split,first,kazoo,second"]
    for split, names in ids.items():
        for number, (audio, labels) in enumerate(zip(dataset.gather(names), dataset.labels(names), strict=True)):
            soundfile.write(path / f"{split}{number}.wav", audio, dataset.sample_rate, subtype="PCM_16")
            lines.append(f"{split}{number}.wav,{split},{labels[places[0]]:.0f},0,{labels[places[1]]:.0f}")
    (path / "labels.csv").write_text("\n".join(lines) + "\n")
    return path, places


@pytest.mark.slow
def test_a_student_is_tested_on_a_data_set_that_it_never_saw(folder, small_inputs, cache_dir, tmp_path):
    path, places = folder
    dataset = small_inputs.dataset
    config = small_config(method="baseline")
    config.training.update({"steps": 4, "warmup_steps": 1, "eval_every_steps": 2, "log_every_steps": 2})
    config.evaluation.bootstrap_resamples = 50
    pairs = tuple(f"{theirs}={dataset.classes[place]}" for theirs, place in zip(("first", "second"), places, strict=True))
    config.other.update({"source": "audio_folder", "name": "own", "folder": str(path), "classes": pairs})
    pipeline.check(config)
    pipeline.run(config, tmp_path, cache_dir)
    report = json.loads((tmp_path / "report.json").read_text())
    expected = {"valid", "test", "unseen_own", "unseen_own_probe"} | ({"unseen", "unseen_probe"} if "unseen" in dataset.splits else set())
    assert report["results"].keys() == report["teacher"]["probe"].keys() == report["intervals"].keys() == expected
    assert all({"student", "probe", "difference"} == sides.keys() for sides in report["intervals"]["unseen_own_probe"].values())
    ids = dataset.splits["test"][: ROWS["test"]]
    for split in ("unseen_own", "unseen_own_probe"):
        found = load_predictions(predictions_path(tmp_path, split))
        assert sorted(np.flatnonzero(found.label_mask.all(axis=0))) == sorted(places) and found.label_mask.sum() == 2 * len(ids)
        np.testing.assert_array_equal(found.labels[:, places], dataset.labels(ids)[:, places] == 1)
    predict = load_predictor(tmp_path / "student")
    found = load_predictions(predictions_path(tmp_path, "unseen_own"))
    np.testing.assert_allclose(found.scores, predict(dataset.gather(ids)), atol=2e-3)  # the files were rounded once more
    assert "first" not in report["classes"] and "never trained on" in (tmp_path / "report.md").read_text()
