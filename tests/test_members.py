"""The rows of a comparison: settings of methods and variants, and the grids of configs/audio.py."""

import jax
import jax.numpy as jnp
import pytest

from jaxkd import config as configs
from jaxkd import members, pipeline, teachers
from jaxkd.compression import TeacherTransformation
from jaxkd.errors import ConfigError
from tests.small import load_config
from tests.teachers.test_checks import frames_of

GRIDS = ("compression", "ablation", "transformations", "training", "teachers", "labels")


def test_grids_have_the_settings_that_were_chosen_for_their_rows():
    settings = {grid: load_config("audio", f"grid={grid}").compare.settings for grid in GRIDS}
    pca = "compressed_pca compressed.weight=0.8"
    assert settings == {"compression": (pca,), "ablation": (pca,), "transformations": (pca,), "training": (), "teachers": (), "labels": ()}


def test_the_ablation_has_every_variation_of_compression_with_every_teacher():
    config = load_config("audio", "grid=ablation")
    kinds = "east compressed mlp random pca joint_gradient staged".split()
    found = set()
    for row in members.rows(config):
        own = members.member(config, row, 0)
        varied = own.compressed.transformation, "joint_gradient" if not own.compressed.stop_gradient else own.compressed.training
        kind = next((name for name in varied if name in kinds), own.method)
        found.add((kind, own.teacher.name))
    assert found == {("baseline", "MTT_musicnn")} | {
        (kind, teacher) for kind in ("probe", *kinds) for teacher in ("MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg", "aisfx")
    }


def test_members_of_a_comparison_have_the_settings_of_their_method_then_of_their_variant():
    config = configs.default_config()
    config.compare.methods = ("baseline", "compressed")
    config.compare.variants = ("narrow = compressed compressed.features=8 compressed.weight=0.3", "other = compressed teacher.name=MSD_musicnn")
    config.compare.settings = ("compressed compressed.weight=0.8 training.learning_rate=0.002", "other training.learning_rate=0.004")
    assert members.rows(config) == {"baseline": "baseline", "compressed": "compressed", "narrow": "compressed", "other": "compressed"}
    found = {name: members.member(config, name, 3) for name in members.rows(config)}
    assert {name: (own.method, own.seed) for name, own in found.items()} == {name: (method, 3) for name, method in members.rows(config).items()}
    fields = {name: (own.compressed.weight, own.compressed.features, own.training.learning_rate, own.teacher.name) for name, own in found.items()}
    assert fields == {
        "baseline": (0.5, 0, 0.001, "MTT_musicnn"),
        "compressed": (0.8, 0, 0.002, "MTT_musicnn"),
        "narrow": (0.3, 8, 0.002, "MTT_musicnn"),
        "other": (0.8, 0, 0.004, "MSD_musicnn"),
    }


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("compressed.featurs=8", "config.compare.variants has 'x = compressed compressed.featurs=8', but 'compressed.featurs=8' is not FIELD=VALUE"),
        ("seed=3", "but 'seed=3' is not FIELD=VALUE of a field"),
        ("compressed.features=eight", "but 'eight' is no value for compressed.features"),
    ],
)
def test_bad_settings_of_a_variant(pair, message):
    config = configs.default_config()
    config.compare.variants = (f"x = compressed {pair}",)
    with pytest.raises(ConfigError) as caught:
        members.member(config, "x", 0)
    assert message in str(caught.value)


@pytest.mark.parametrize("size", ["", ",runlocal"])
@pytest.mark.parametrize("grid", GRIDS)
def test_every_row_of_every_grid_is_a_valid_run_of_its_own(grid, size):
    config = load_config("audio", f"grid={grid}{size}")
    pipeline.check(config)
    assert config.compare.name == grid
    fingerprints = set()
    for name, method in members.rows(config).items():
        own = members.member(config, name, 0)
        pipeline.check(own)
        assert own.method == method
        fingerprints.add(configs.fingerprint(own))
        if method == "compressed" and own.compressed.transformation not in ("random", "pca"):
            module = TeacherTransformation(8, own.compressed.transformation)
            jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, frames_of(own.teacher.name, own.data.clip_seconds), *teachers.dims(own.teacher))))
    assert len(fingerprints) == len(members.rows(config)) > 4
    assert configs.fingerprint(members.member(config, "compressed", 0)) == configs.fingerprint(load_config("audio", size.removeprefix(",")))


def test_unknown_grid():
    with pytest.raises(ConfigError, match="Did you mean 'teachers'"):
        load_config("audio", "grid=teacher")
