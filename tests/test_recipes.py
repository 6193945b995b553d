"""The recipes of EAsT: what they set is what the code of the steps reads, and a config with them passes the check."""

import pytest

from jaxkd import pipeline
from jaxkd.config import default_config, flatten
from jaxkd.errors import ConfigError
from jaxkd.recipes import east_magnatagatune, east_openmic

TEACHERS = ("vggish", "openl3", "passt", "panns")

# Of the specification: sections 2.3 and 2.5 (front end, metrics), 1.4 (distance) and 5 (training): field -> OpenMIC, MagnaTagATune.
PUBLISHED = {
    "seed": (1223, 1223),
    "data.sample_rate": (32_000, 16_000),
    "frontend.kind": ("kaldi", "kaldi"),
    "frontend.n_fft": (1024, 1024),
    "frontend.window": (800, 800),
    "frontend.hop": (320, 320),
    "frontend.bands": (128, 96),
    "frontend.fmin": (0, 0),
    "frontend.fmax": (16_000, 8_000),
    "frontend.fmin_jitter": (20, 0),
    "frontend.fmax_jitter": (2000, 0),
    "student.name": ("cp_resnet", "mobile_fcn"),
    "distance.name": ("distance_correlation", "distance_correlation"),
    "distance.bias_corrected": (False, False),
    "distance.absolute_eps": (True, True),
    "distance.group_size": (16, 16),
    "distance.alignment": ("repeat", "repeat"),
    "east_kd.kd_weight": (0.3, 0.3),
    "east_kd.temperature": (2, 2),
    "distillation.temperature": (2, 2),
    "distillation.masked": (True, True),
    "training.batch_size": (16, 16),
    "training.unlabelled_ratio": (0, 0),
    "training.steps": (80_000, 100_000),
    "training.optimiser": ("adam", "adam"),
    "training.learning_rate": (1e-4, 1e-4),
    "training.warmup_steps": (0, 0),
    "training.weight_decay": (1e-4, 1e-4),
    "training.clip_norm": (1, 1),
    "training.schedule": ("plateau", "plateau"),
    "training.plateau_factor": (0.2, 0.2),
    "training.plateau_patience": (8, 5),
    "training.early_stop_patience": (15, 12),
    "training.mixup_alpha": (0.3, 0),
    "training.mixup_mask": ("or", "or"),
    "training.frequency_mask": (48, 0),
    "training.time_mask": (192, 0),
    "evaluation.batch_size": (16, 16),
    "evaluation.f1_threshold": (0.4, 0.4),
    "evaluation.probe_solver": ("sgd", "sgd"),
}


def _made(recipe, **options):
    config = default_config()
    config.data.update({"source": "audio_folder", "folder": "clips"})
    config.teacher.name = "my_package.my_teacher:build"
    recipe(config, **options)
    return config


@pytest.mark.parametrize("recipe", [east_openmic, east_magnatagatune])
@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("all_stages", [False, True])
def test_a_config_with_a_recipe_passes_the_check(recipe, teacher, all_stages, tmp_path):
    config = _made(recipe, teacher=teacher, all_stages=all_stages)
    config.data.folder = str(tmp_path)
    pipeline.check(config)
    assert config.frontend.fmax == config.data.sample_rate / 2


@pytest.mark.parametrize("data_set", [0, 1], ids=["openmic", "magnatagatune"])
def test_a_recipe_sets_what_was_published_whatever_stood_there(data_set):
    config = default_config()
    for field in PUBLISHED:
        part, _, name = field.rpartition(".")
        owner = config[part] if part else config
        value = owner[name]
        owner[name] = not value if isinstance(value, bool) else "another" if isinstance(value, str) else value + 1
    (east_openmic, east_magnatagatune)[data_set](config, teacher="passt")
    fields = flatten(config)
    assert {field: fields[field] for field in PUBLISHED} == {field: values[data_set] for field, values in PUBLISHED.items()}


def test_openmic_has_the_published_weights_epochs_and_frames():
    """Section 5 of the specification; 62 student frames are covered by 6 repeats of 10 or 11 teacher frames, or 60 of one."""
    configs = {teacher: _made(east_openmic, teacher=teacher) for teacher in TEACHERS}
    normalisations = {teacher: config.teacher.normalisation for teacher, config in configs.items()}
    assert normalisations == {"vggish": "vggish", "openl3": "openl3", "passt": "none", "panns": "none"}
    assert {teacher: config.east.weight for teacher, config in configs.items()} == {"vggish": 0.8, "openl3": 0.8, "passt": 0.9, "panns": 0.9}
    frames = {"vggish": 10, "openl3": 11, "passt": 11, "panns": 1}
    used = {teacher: min(62 * config.distance.features_expand, frames[teacher] * config.distance.embedding_expand) for teacher, config in configs.items()}
    assert used == {"vggish": 60, "openl3": 62, "passt": 62, "panns": 60}
    assert 100 < configs["passt"].training.steps / configs["passt"].training.eval_every_steps < 102
    quarter = _made(east_openmic, teacher="passt", train_clips=3173)
    assert quarter.training.eval_every_steps == 199


def test_magnatagatune_has_the_published_epochs_and_frames():
    """All stages: 30, 15 and 15 student frames against 30 or 31 of the teacher, or one."""
    frames = {"vggish": 30, "openl3": 31, "passt": 31, "panns": 1}
    for teacher, length in frames.items():
        config = _made(east_magnatagatune, teacher=teacher, all_stages=True)
        expands = zip((30, 15, 15), config.distance.stage_features_expand, config.distance.stage_embedding_expand, strict=True)
        used = [min(student * repeats, length * teacher_repeats) for student, repeats, teacher_repeats in expands]
        assert used == ([30, 15, 15] if teacher == "panns" else [30, 30, 30])
        assert (config.distance.features_expand, config.distance.embedding_expand) == ((1, 15) if teacher == "panns" else (2, 1))
        assert config.east.weight == 0.6
        assert 104 < config.training.steps / config.training.eval_every_steps < 106


def test_probes_are_trained_as_published():
    """Section 5 of the specification, the column of Teacher_LR: plain gradient descent from 0.1, from 0.2 for two pairs."""
    made = {(recipe, teacher): _made(recipe, teacher=teacher).evaluation for recipe in (east_openmic, east_magnatagatune) for teacher in TEACHERS}
    assert {evaluation.probe_solver for evaluation in made.values()} == {"sgd"}
    assert {of for of, evaluation in made.items() if evaluation.probe_learning_rate == 0.2} == {(east_openmic, "vggish"), (east_magnatagatune, "passt")}
    assert {evaluation.probe_learning_rate for evaluation in made.values()} == {0.1, 0.2}


def test_a_recipe_undoes_what_the_other_set():
    config = _made(east_openmic, teacher="panns", all_stages=True)
    east_magnatagatune(config, teacher="passt")
    assert config.to_dict() == _made(east_magnatagatune, teacher="passt").to_dict()


def test_unknown_teacher_is_refused():
    with pytest.raises(ConfigError, match=r"Did you mean 'passt'\?"):
        _made(east_openmic, teacher="past")
