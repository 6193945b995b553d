"""A run that is tested on another data set, a folder of longer audio files with classes of its own, and on the frozen features of clips never heard."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.special import expit

from jaxkd import pipeline, students, teachers
from jaxkd.data.other import other_split
from jaxkd.errors import DataError
from jaxkd.results.evaluation import classifier_scores
from jaxkd.results.examples import evaluated_examples
from jaxkd.results.predictions import load_predictions, predictions_path
from jaxkd.results.probes import of_teacher
from jaxkd.training.artefact import load_student
from jaxkd.training.inputs import transform_of
from jaxkd.training.preparation import frozen_teacher, prepare
from tests.small import small_config

ROWS = {"train": 12, "valid": 12, "test": 16}
SECONDS = 6.0


@pytest.fixture(scope="module")
def folder(small_inputs, tmp_path_factory) -> tuple[Path, list[int]]:
    """Clips of the small data set, each twice in a row, as files, with its three commonest classes under other names; and the places of the three."""
    dataset, path = small_inputs.dataset, tmp_path_factory.mktemp("folder")
    ids = {split: dataset.splits[split][:count] for split, count in ROWS.items()}
    places = np.argsort(-dataset.labels(ids["test"]).sum(axis=0), kind="stable")[:3].tolist()
    lines = ["file,split,first,second,third"]
    for split, names in ids.items():
        for number, (audio, labels) in enumerate(zip(dataset.gather(names), dataset.labels(names), strict=True)):
            soundfile.write(path / f"{split}{number}.wav", np.tile(audio, 2), dataset.sample_rate, subtype="PCM_16")
            lines.append(",".join([f"{split}{number}.wav", split, *(f"{labels[place]:.0f}" for place in places)]))
    (path / "labels.csv").write_text("\n".join(lines) + "\n")
    return path, places


def other_config(folder, dataset, *, method, seconds=SECONDS):
    """The small experiment, tested on the folder; its class "third" stands for none of ours."""
    path, places = folder
    config = small_config(method=method)
    pairs = tuple(f"{theirs}={dataset.classes[place]}" for theirs, place in zip(("first", "second"), places, strict=False))
    config.other.update({"source": "audio_folder", "name": "own", "folder": str(path), "classes": pairs, "clip_seconds": seconds})
    return config


@pytest.mark.slow
def test_a_student_is_tested_on_a_data_set_that_it_never_saw(folder, small_inputs, cache_dir, tmp_path):
    places, dataset = folder[1], small_inputs.dataset
    config = other_config(folder, dataset, method="baseline")
    config.training.update({"steps": 4, "warmup_steps": 1, "eval_every_steps": 2, "log_every_steps": 2})
    config.evaluation.update({"bootstrap_resamples": 50, "probe_solver": "sgd"})
    pipeline.check(config)
    pipeline.run(config, tmp_path, cache_dir)
    report = json.loads((tmp_path / "report.json").read_text())
    expected = {"valid", "test", "unseen_own", "unseen_own_probe"} | ({"unseen", "unseen_probe"} if "unseen" in dataset.splits else set())
    assert report["results"].keys() == report["teacher"]["probe"].keys() == report["intervals"].keys() == expected
    assert all({"student", "probe", "difference"} == sides.keys() for sides in report["intervals"]["unseen_own_probe"].values())

    assert report["teacher"]["probe_inverse_penalty"] is None and report["results"]["unseen_own_probe"]["map"] is not None

    ids = dataset.splits["test"][: ROWS["test"]]
    direct, probed = (load_predictions(predictions_path(tmp_path, split)) for split in ("unseen_own", "unseen_own_probe"))
    assert sorted(np.flatnonzero(direct.label_mask.all(axis=0))) == sorted(places[:2]) and direct.label_mask.sum() == 2 * len(ids)
    np.testing.assert_array_equal(direct.labels[:, places[:2]], dataset.labels(ids)[:, places[:2]] == 1)
    np.testing.assert_array_equal(probed.labels, dataset.labels(ids)[:, places] == 1)
    assert probed.label_mask.all() and report["split_classes"] == {"unseen_own_probe": ["first", "second", "third"]}
    assert report["per_class"]["unseen_own_probe"]["student"].keys() == {"first", "second", "third"}
    assert "first" not in report["classes"] and report["per_class"]["unseen_own"]["student"].keys() == set(report["classes"])

    variables, saved = load_student(tmp_path / "student")
    student = students.build(config.student.name, num_outputs=len(dataset.classes))
    clips = np.tile(dataset.gather(ids), (1, 2))
    logits = student.apply(variables, transform_of(saved["inputs"])(None, clips), train=False).logits
    np.testing.assert_allclose(direct.scores, expit(logits), atol=2e-3)  # the files were rounded once more
    text = (tmp_path / "report.md").read_text()
    assert "never trained on" in text and "clips: 6 s, each taken whole; training had 3 s" in text
    assert "Average precision by class, as numbers: unseen\\_own\\_probe, classes of its own" in text


@pytest.mark.slow
def test_a_classifier_that_was_trained_on_our_data_scores_the_other(folder, small_inputs, cache_dir):
    config = other_config(folder, small_inputs.dataset, method="kd", seconds=0.0)
    config.teacher.classifier = "linear"
    config.teacher_training.update({"steps": 4, "warmup_steps": 1, "eval_every_steps": 2})
    pipeline.check(config)
    prepared = prepare(config, cache_dir)
    assert prepared.classifier is not None and prepared.other is not None
    examples = evaluated_examples(prepared, other_split(config))
    scores, theirs = classifier_scores(examples), prepared.other.dataset
    assert scores.keys() == examples.keys() and theirs.input_shape == small_inputs.dataset.input_shape
    train = small_inputs.store.gather(small_inputs.dataset.splits["train"]).astype(np.float64).mean(axis=1)
    musicnn = frozen_teacher(teachers.choices(config.teacher)[0], theirs, cache_dir)
    embedding = musicnn.embed(theirs.gather(theirs.splits["test"])).astype(np.float16).mean(axis=1, dtype=np.float64)
    rows = (embedding - train.mean(axis=0)) / np.where(train.std(axis=0) > 0, train.std(axis=0), 1)
    np.testing.assert_allclose(scores["unseen_own"], expit(rows @ prepared.classifier.kernel + prepared.classifier.bias), atol=1e-3)


@pytest.mark.slow
def test_embeddings_of_both_data_sets_may_lie_apart(folder, small_inputs, cache_dir, tmp_path):
    """Files of what musicnn says give what musicnn itself gives, for ours and for the other."""
    config = other_config(folder, small_inputs.dataset, method="baseline")
    embedded = prepare(config, cache_dir)
    assert embedded.store is not None and embedded.other is not None
    for name, data in (("ours", embedded), ("other", embedded.other)):
        ids = [example for split in data.dataset.splits.values() for example in split]
        np.savez(tmp_path / f"{name}.npz", ids=np.array(ids), embeddings=data.store.gather(ids))
    config.teacher.update({"name": "precomputed", "embedding": "", "archive": str(tmp_path / "ours.npz"), "hop_seconds": 2.992})
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("packages", "datasets", "banks"):
        (cache / name).symlink_to(cache_dir / name)
    with pytest.raises(DataError, match=r"examples have no embedding in .*ours\.npz"):
        prepare(config, cache)
    config.other.archives = (str(tmp_path / "other.npz"),)
    pipeline.check(config)
    prepared = prepare(config, cache)
    assert prepared.other is not None
    ids = prepared.other.dataset.splits["test"]
    np.testing.assert_array_equal(of_teacher(prepared.other, ids), of_teacher(embedded.other, ids))
    assert prepared.other.store is not None and prepared.other.store.frames == 2 and prepared.store is not None and prepared.store.frames == 1
    with np.load(tmp_path / "other.npz") as file:
        np.savez(tmp_path / "other.npz", ids=file["ids"], embeddings=file["embeddings"][..., :5])
    with pytest.raises(DataError, match="have 5 dimensions, those of ours 1506"):
        prepare(config, cache)
