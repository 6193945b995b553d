"""What the precompute stage refuses before long work."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxkd import teachers
from jaxkd.data.dataset import Split, write_dataset
from jaxkd.errors import ConfigError
from jaxkd.files import sha256_file
from jaxkd.parallel import Devices
from jaxkd.training import preparation
from jaxkd.training.experiment import require_batches
from tests.small import load_config, small_config, text_config
from tests.teachers.test_huggingface import layout, write_folder


@pytest.mark.parametrize(
    ("method", "student", "field", "size"),
    [
        ("lelp", True, "teacher_training", 32),
        ("lelp", False, "teacher_training", 32),
        ("lelp", True, "training", 32),
        ("lelp", True, "evaluation", 100),
        ("teacher", True, "evaluation", 100),
    ],
)
def test_a_batch_that_does_not_split_is_refused_before_data_are_prepared(monkeypatch, tmp_path, method, student, field, size):
    monkeypatch.setattr(Devices, "all", lambda: Devices("jit", SimpleNamespace(size=3)))
    monkeypatch.setattr(preparation, "load_dataset", lambda *_: pytest.fail("data were prepared"))
    config = text_config(method=method)
    config.training.batch_size = config.teacher_training.batch_size = config.evaluation.batch_size = 33
    config[field].batch_size = size
    with pytest.raises(ConfigError, match=rf"config.{field}.batch_size is {size}: a batch of .* does not split over 3 devices"):
        preparation.prepare(config, tmp_path, student=student)


@pytest.mark.parametrize(("changed", "student"), [({}, True), ({"method": "teacher", "training.batch_size": 32}, True), ({"training.batch_size": 32}, False)])
def test_batches_that_split_or_are_not_drawn_are_taken(monkeypatch, changed, student):
    monkeypatch.setattr(Devices, "all", lambda: Devices("jit", SimpleNamespace(size=3)))
    config = text_config()
    config.training.batch_size = config.teacher_training.batch_size = config.evaluation.batch_size = 33
    config.update_from_flattened_dict(changed)
    require_batches(config, student=student)


@pytest.mark.parametrize(("null_space", "most"), [("rows", 254), ("differences", 255), ("off", 256)])
def test_more_directions_than_the_null_space_has_are_refused_before_the_teacher_is_trained(text_inputs, cache_dir, monkeypatch, null_space, most):
    monkeypatch.setattr(preparation, "train_classifier", lambda *_, **__: pytest.fail("the teacher was trained"))
    config = text_config()
    config.lelp.update({"subclasses": 300, "null_space": null_space})
    with pytest.raises(ConfigError, match=rf"config.lelp.subclasses is 300: 300 directions are asked for.* use at most {most}"):
        preparation.prepare(config, cache_dir)


def test_a_network_for_another_modality_is_refused(text_inputs, cache_dir):
    with pytest.raises(ConfigError, match="a network that takes image cannot be trained on newsgroups_bin, which holds text"):
        preparation._inputs_of_kind("image", text_config(), text_inputs.dataset, cache_dir)


def test_a_batch_of_the_teacher_that_is_too_large_is_told_by_its_own_field(cache_dir):
    config = load_config("image", "data=digits_bin,runlocal")
    config.teacher_training.batch_size = 500
    with pytest.raises(ConfigError, match=r"lower config\.teacher_training\.batch_size"):
        preparation.prepare(config, cache_dir)


@pytest.mark.parametrize(
    ("distance", "message"),
    [
        ({"name": "l2"}, "'l2', which compares equal widths, but stage 2 of the student has 32 channels and the embedding 1506 dimensions"),
        ({"stage_weights": (1.0, 1.0)}, r"stage_weights has 2 weights, but the student has 3 stage\(s\)"),
    ],
)
def test_stages_and_widths_that_do_not_fit_are_refused_before_anything_is_embedded(small_inputs, cache_dir, monkeypatch, distance, message):
    monkeypatch.setattr(preparation, "frozen_store", lambda *_: pytest.fail("the teacher was asked"))
    config = small_config(method="east")
    config.distance.update(distance)
    with pytest.raises(ConfigError, match=message):
        preparation.prepare(config, cache_dir)


def _three_texts(folder, *texts):
    split = Split(["0", "1", "2"], list(texts), np.eye(2, dtype=np.float32)[[0, 1, 0]], np.ones((3, 2), bool))
    kind = {"name": "three", "fingerprint": "three", "modality": "text", "task": "multiclass", "classes": ("a", "b"), "notes": {}, "licence": "none"}
    return write_dataset(folder, splits={"train": split}, **kind)


@pytest.mark.parametrize(("classifier", "note"), [("finetuned", "archive"), ("mlp", "archive of minilm")])
def test_notes_say_what_was_loaded_from_an_archive_of_the_users_own(tmp_path, monkeypatch, classifier, note):
    monkeypatch.setattr(preparation, "train_classifier", lambda *_, **__: tmp_path)
    monkeypatch.setattr(preparation, "ClassifierTeacher", lambda *_: None)
    (tmp_path / "model").mkdir()
    archive = write_folder(tmp_path / "model", layout())
    config = load_config("text", f"teacher=minilm,classifier={classifier},method=kd")
    config.teacher.archive = str(archive)
    _, examples = preparation.trained_teacher(config, _three_texts(tmp_path / "data", "w1 w2", "w3", "w4 w1"), tmp_path)
    digest = sha256_file(archive / "model.safetensors")
    assert examples.notes[note] == f"bert, hidden size 32, 2 layers, weights {digest[:12]}"


@pytest.mark.slow
def test_texts_that_a_frozen_encoder_truncates_are_counted_and_said(cache_dir, tmp_path):
    dataset = _three_texts(tmp_path / "data", "a short one", "word " * 600, "another short one")
    (tmp_path / "packages").symlink_to(cache_dir / "packages")
    config = load_config("text", "teacher=minilm,classifier=mlp")
    for _ in range(2):  # embedded, then found in the cache
        store, notes = preparation.frozen_store(config, *teachers.choices(config.teacher), dataset, tmp_path)
        assert len(store) == 3
        assert "1 of 3 texts are longer than 256 tokens and were truncated (train 1)" in notes["tokens of minilm"]


@pytest.mark.parametrize(("method", "others", "asked"), [("east", (), True), ("probe", (), False), ("east", ("MTT_vgg",), False)])
def test_frames_must_be_as_many_for_each_clip_where_a_distance_takes_those_of_one_teacher(small_inputs, cache_dir, monkeypatch, method, others, asked):
    stores, embed = [], preparation.embed_in_job

    def asked_of(*arguments, one_length, **options):
        stores.append(one_length)
        return embed(*arguments, one_length=one_length, **options)

    monkeypatch.setattr(preparation, "embed_in_job", asked_of)
    config = small_config(method=method)
    config.teacher.others = others
    preparation.frozen_store(config, teachers.choices(config.teacher)[0], small_inputs.dataset, cache_dir)
    assert stores == [asked]
