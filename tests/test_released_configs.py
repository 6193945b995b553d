"""The configs of released data sets pass the check with a miniature folder, and say what was published."""

import numpy as np
import pytest

from jaxkd import methods, pipeline
from jaxkd.data import prepare
from jaxkd.errors import ConfigError
from jaxkd.frontend import EAST_MTAT, EAST_OPENMIC
from jaxkd.methods.method import Context
from jaxkd.teachers.precomputed import PrecomputedTeacher
from jaxkd.training.other_data import load_other
from jaxkd.training.probe_solver import probe_recipe
from jaxkd.types import Batch, StudentOutputs
from tests.data.released import write_magnatagatune, write_openmic
from tests.small import load_config

TEACHERS = ("vggish", "openl3", "passt", "panns")
SHAPES = {
    "openmic": {"vggish": (10, 128), "openl3": (11, 512), "passt": (11, 768), "panns": (1, 2048)},
    "magnatagatune": {"vggish": (30, 128), "openl3": (31, 512), "passt": (31, 768), "panns": (1, 2048)},
}
STUDENT_FRAMES = {"openmic": 62, "magnatagatune": 15}
USED_FRAMES = {"openmic": (60, 62, 62, 60), "magnatagatune": (30, 30, 30, 15)}
WRITE = {"openmic": write_openmic, "magnatagatune": write_magnatagatune}


def config_of(name, folder, argument):
    (folder / "embedding.npy").touch()
    config = load_config(name, argument)
    config.data.folder = config.teacher.archive = str(folder)
    return config


@pytest.mark.parametrize("method", [name for name in (*methods.METHODS, *methods.REFERENCES) if name not in methods.ONE_CLASS])
@pytest.mark.parametrize("name", ["openmic", "magnatagatune"])
def test_every_teacher_and_method_passes_the_check(name, method, tmp_path):
    for teacher in TEACHERS:
        pipeline.check(config_of(name, tmp_path, f"teacher={teacher},method={method}"))
    pipeline.check(config_of(name, tmp_path, f"student=cp_resnet_small,method={method}"))
    config = load_config(name, f"hear=tests.teachers.hear_modules,method={method}")
    config.data.folder = str(tmp_path)
    pipeline.check(config)
    config.data.folder = ""
    with pytest.raises(ConfigError, match=r"config\.data\.folder is empty"):
        pipeline.check(config)


@pytest.mark.parametrize("name", ["openmic", "magnatagatune"])
def test_logits_of_the_teacher_are_those_of_the_published_probe(name):
    taking = ("teacher", "kd", "east_kd", "lelp")
    made = {method: load_config(name, f"teacher=passt,method={method}") for method in (*taking, "probe", "baseline", "east", "compressed")}
    assert {method: config.teacher.classifier for method, config in made.items() if config.teacher.classifier != "none"} == dict.fromkeys(taking, "probe")
    recipe = {"solver": "sgd", "learning_rate": {"openmic": 0.1, "magnatagatune": 0.2}[name], "normalisations": ["none"]}
    assert probe_recipe(made["kd"]) == probe_recipe(made["probe"]) == recipe


def test_only_methods_whose_targets_cannot_be_mixed_run_without_mixup():
    mixed = {method: load_config("openmic", f"method={method}").training.mixup_alpha for method in ("baseline", "east_kd", "kd", "lelp", "uniform")}
    assert mixed == {"baseline": 0.3, "east_kd": 0.3, "kd": 0.3, "lelp": 0.0, "uniform": 0.0}


@pytest.mark.parametrize("name", ["openmic", "magnatagatune"])
def test_frames_of_student_and_teacher_are_the_published_ones(name, tmp_path):
    configs = [load_config(name, f"teacher={teacher}") for teacher in TEACHERS]
    used = []
    for teacher, config in zip(TEACHERS, configs, strict=True):
        student, embedding = STUDENT_FRAMES[name] * config.distance.features_expand, SHAPES[name][teacher][0] * config.distance.embedding_expand
        used.append(min(student, embedding))
    assert tuple(used) == USED_FRAMES[name]
    front = {"openmic": EAST_OPENMIC, "magnatagatune": EAST_MTAT}[name]
    assert front.sample_rate == configs[0].data.sample_rate and front.bands == configs[0].frontend.bands
    assert front.frames(round(configs[0].data.clip_seconds * front.sample_rate)) == {"openmic": 1000, "magnatagatune": 1457}[name]
    assert [config.teacher.normalisation for config in configs] == ["vggish", "openl3", "none", "none"]


def test_an_unknown_teacher():
    for name in WRITE:
        with pytest.raises(ConfigError, match=r"unknown teacher of EAsT's recipes 'pasta'.*passt"):
            load_config(name, "teacher=pasta")
        with pytest.raises(ConfigError, match=r"unknown teacher of EAsT's recipes 'pasta'"):
            load_config(name, "teacher=pasta,method=kd")


@pytest.mark.parametrize("method", ["east", "compressed"])
@pytest.mark.parametrize("name", ["openmic", "magnatagatune"])
def test_every_distance_can_take_the_place_of_the_published_one(name, method, tmp_path):
    for distance in (*methods.BETWEEN_ROWS, "fitnet", *methods.EQUAL_WIDTHS):
        config = config_of(name, tmp_path, f"teacher=passt,method={method}")
        config.distance.name = distance
        pipeline.check(config)


@pytest.mark.parametrize("name", ["openmic", "magnatagatune"])
def test_weights_are_compared_under_one_schedule_as_the_config_says(name, tmp_path):
    config = config_of(name, tmp_path, "teacher=passt")
    assert (config.training.schedule, config.training.early_stop_patience > 0) == ("plateau", True)
    config.training.update({"schedule": "cosine", "early_stop_patience": 0})
    pipeline.check(config)


@pytest.mark.parametrize("name", ["openmic", "magnatagatune"])
@pytest.mark.parametrize("teacher", ["passt", "pasta"])
def test_one_teacher_is_named(name, teacher):
    with pytest.raises(ConfigError, match=rf"teacher={teacher} and hear=tests\.teachers\.hear_modules both name the teacher: give one of them"):
        load_config(name, f"teacher={teacher},hear=tests.teachers.hear_modules")


@pytest.mark.parametrize("name", ["openmic", "magnatagatune"])
def test_hear_modules_have_the_weight_and_expands_of_panns(name):
    hear, panns = load_config(name, "hear=tests.teachers.hear_modules"), load_config(name, "teacher=panns")
    assert (hear.teacher.name, hear.teacher.embedding, hear.teacher.hop_seconds) == ("hear:tests.teachers.hear_modules", "scene", 0.0)
    hear.teacher = panns.teacher
    assert hear.to_dict() == panns.to_dict()


@pytest.mark.parametrize(("name", "weight"), [("openmic", 0.9), ("magnatagatune", 0.6)])
def test_the_kd_row_weighs_labels_and_teacher_as_the_paper_does(name, weight):
    """(1 - lambda) * label loss + lambda * KD at temperature 2, whose value is that of the authors' formula."""
    config = load_config(name, "method=kd")
    method = methods.build("kd", config, Context("multilabel", 3, np.zeros(0, np.int32)))
    student, teacher = np.float32([[0.3, -1.2, 2.0]]), np.float32([[1.0, -0.5, -2.0]])
    batch = Batch(np.zeros(1), np.float32([[1, 0, 1]]), np.ones((1, 3), bool), None, np.ones(1, bool), teacher_logits=teacher)
    losses = method.losses(StudentOutputs(student, student[:, None], ()), None, batch, None)
    label = np.mean(np.log1p(np.exp(np.float64([-0.3, -1.2, -2.0]))))
    assert losses["loss"] == pytest.approx((1 - weight) * label + weight * 0.6555263, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "other", "seconds", "rate"), [("openmic", "magnatagatune", 29.124, 32_000), ("magnatagatune", "openmic", 10.0, 16_000)])
def test_a_student_of_one_set_is_tested_on_the_other_at_its_own_rate(name, other, seconds, rate, tiny_dataset, tmp_path):
    """As the README has it; the classes that both have by name stand for each other."""
    for released in (name, other):
        WRITE[released](tmp_path / released, tiny_dataset)
    config = config_of(name, tmp_path / name, "teacher=passt")
    config.other.update({"source": other, "folder": str(tmp_path / other), "clip_seconds": seconds, "archives": (str(tmp_path / name),)})
    pipeline.check(config)
    config.data.clip_seconds = config.other.clip_seconds = 3.0
    dataset = prepare(config.data, tmp_path / "cache")
    theirs = load_other(config, dataset, tmp_path / "cache")
    own = theirs.fully_labelled
    shared = [place for place, label in enumerate(dataset.classes) if label in own.classes]
    ids = theirs.splits["test"]
    assert (theirs.sample_rate, theirs.input_shape, theirs.classes) == (rate, dataset.input_shape, dataset.classes)
    assert len(shared) > 2 and set(np.flatnonzero(theirs.label_mask(ids).any(axis=0))) <= set(shared)
    for place in shared:
        column = own.classes.index(dataset.classes[place])
        np.testing.assert_array_equal(theirs.label_mask(ids)[:, place], own.label_mask(ids)[:, column])
        known = own.label_mask(ids)[:, column]
        np.testing.assert_array_equal(theirs.labels(ids)[known, place], own.labels(ids)[known, column])


@pytest.mark.parametrize("name", ["openmic", "magnatagatune"])
def test_stored_embeddings_are_found_by_the_ids_of_the_clips(name, tiny_dataset, tmp_path):
    WRITE[name](tmp_path / "released", tiny_dataset)
    config = config_of(name, tmp_path / "released", "teacher=vggish")
    config.data.update({"sample_rate": 16_000, "clip_seconds": 3.0})
    dataset = prepare(config.data, tmp_path / "cache")
    (tmp_path / "vggish").mkdir()
    rng = np.random.default_rng(0)
    stored = {example: rng.integers(0, 256, SHAPES[name]["vggish"]) for ids in dataset.splits.values() for example in ids}
    for example, embedding in stored.items():
        np.save(tmp_path / "vggish" / f"{example}.npy", embedding)
    teacher = PrecomputedTeacher(str(tmp_path / "vggish"), dataset.splits, hop_seconds=config.teacher.hop_seconds)
    np.testing.assert_array_equal(teacher.embed(dataset.splits["test"]), [stored[example] for example in dataset.splits["test"]])
