"""Distances that do not fit their fields, the student's stages, the embedding or the batch are refused."""

import numpy as np
import pytest

from jaxkd import methods, pipeline
from jaxkd.config import default_config
from jaxkd.errors import ConfigError
from jaxkd.training.experiment import assemble
from tests.small import small_config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"name": "distance_corelation"}, "one of distance_correlation, cosine_distance_correlation"),
        ({"difference": "l1"}, "one of absolute, squared"),
        ({"alignment": "pooling"}, "one of repeat, pool, interpolate"),
        ({"stage_weights": (0.0, 0.0)}, "not all 0, or empty"),
        ({"stage_weights": (1.0, -1.0)}, "one weight of at least 0 for each stage"),
        ({"stage_features_expand": (1, 2)}, "one integer for each of distance.stage_weights"),
        ({"stage_weights": (1.0, 1.0), "stage_features_expand": (1, 2)}, r"are \(1, -1\): both -1"),
        ({"alignment": "pool", "features_expand": 1, "embedding_expand": 6}, "'pool', which repeats no frame"),
        ({"gather": "local"}, "with parallel.mode='jit' the step sees the whole batch.*set distance.group_size to the rows of one device"),
        ({"rows": "own"}, "with parallel.mode='jit' the step sees the whole batch.*set parallel.mode='pmap', or leave it at 'gathered'"),
        ({"group_size": 65}, "group_size is 65, but a training batch has 64 rows: lower it, or set it to 0"),
    ],
)
def test_bad_distances_are_refused_before_anything_starts(overrides, message):
    config = default_config()
    config.update_from_flattened_dict({f"distance.{name}": value for name, value in overrides.items()})
    with pytest.raises(ConfigError, match=message):
        pipeline.check(config)


@pytest.mark.parametrize(
    ("overrides", "instead"),
    [
        ({"difference": "squared"}, "'absolute', or config.distance.name to cosine_distance_difference"),
        ({"name": "fitnet", "difference": "squared"}, "'absolute', or config.distance.name to cosine_distance_difference"),
        (
            {"name": "cosine_distance_difference", "bias_corrected": True},
            "False, or config.distance.name to distance_correlation or cosine_distance_correlation",
        ),
        ({"name": "l2", "gather": "local"}, "'global', or config.distance.name to distance_correlation"),
    ],
)
@pytest.mark.parametrize("name", ["compressed", "east"])
def test_a_field_that_the_distance_does_not_read_is_refused(name, overrides, instead):
    config = default_config()
    config.method, config.student.name, config.parallel.mode = name, "own.package:network", "pmap"
    config.distance.update(overrides)
    field, value = list(overrides.items())[-1]
    with pytest.raises(ConfigError) as caught:
        pipeline.check(config)
    assert f"config.distance.{field} is {value!r}, but the distance {config.distance.name!r} does not read it: set it to {instead}" in str(caught.value)
    config.method = "baseline"
    pipeline.check(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"method": "east", "distance.name": "l2"}, "stage 2 of the student has 128 channels and the embedding 1506 dimensions"),
        ({"method": "east", "distance.name": "cosine", "teacher.others": ("MTT_vgg",)}, "and the embedding 1762 dimensions"),
        ({"method": "east", "distance.name": "l2", "teacher.others": ("MTT_vgg",), "teacher.combine": "separate"}, "the embedding 1506 and 256 dimensions"),
        ({"distance.name": "l2", "compressed.features": 64}, "stage 2 of the student has 128 channels and the embedding 64 dimensions"),
        ({"distance.name": "cosine", "distance.stage_weights": (0.0, 1.0, 1.0)}, "stage 1 of the student has 64 channels and the embedding 128 dimensions"),
        ({"method": "east", "distance.stage_weights": (1.0, 1.0)}, "stage_weights has 2 weights, but the student has 3 stage(s): give one for each"),
    ],
)
def test_stages_and_widths_that_are_known_are_checked_before_anything_starts(overrides, message):
    config = default_config()
    config.update_from_flattened_dict(overrides)
    with pytest.raises(ConfigError) as caught:
        pipeline.check(config)
    assert message in str(caught.value)
    config.method = "baseline"
    pipeline.check(config)


def test_equal_widths_without_a_transformation(tmp_path):
    """The 256 dimensions of MTT_vgg are the channels of Mobile FCN, and those of embeddings on disk are not known yet."""
    config = default_config()
    config.update_from_flattened_dict({"method": "east", "distance.name": "l2", "student.name": "mobile_fcn", "frontend.bands": 96, "frontend.hop": 320})
    with pytest.raises(ConfigError, match="compares equal widths"):
        pipeline.check(config)
    config.teacher.update({"name": "MTT_vgg", "embedding": "pool5"})
    pipeline.check(config)
    np.save(tmp_path / "clip.npy", np.ones((4, 2), np.float32))
    config.teacher.update({"name": "precomputed", "embedding": "", "archive": str(tmp_path)})
    pipeline.check(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"name": "cosine_distance_correlation"}, "distance.name is 'cosine_distance_correlation', but distance.rows='own'.*to 'distance_correlation'"),
        ({"group_size": 16}, "distance.group_size is 16, but distance.rows='own'.*set distance.group_size to 0, or distance.rows to 'gathered'"),
        ({"gather": "local"}, "distance.gather is 'local', but distance.rows='own'"),
    ],
)
def test_own_rows_are_of_one_distance_of_the_whole_batch(overrides, message):
    config = default_config()
    config.parallel.mode, config.distance.rows = "pmap", "own"
    pipeline.check(config)
    config.distance.update(overrides)
    with pytest.raises(ConfigError, match=message):
        pipeline.check(config)


def test_a_local_distance_needs_its_rows_on_each_device():
    config = default_config()
    config.parallel.mode, config.distance.gather, config.distance.bias_corrected = "pmap", "local", True
    methods.require_rows(config, 16, devices=4)
    with pytest.raises(ConfigError, match=r"needs 4 rows, but a device's part of a training batch has 2: raise training\.batch_size"):
        methods.require_rows(config, 16, devices=8)
    config.distance.update({"gather": "global", "group_size": 8})
    methods.require_rows(config, 16, devices=8)
    config.distance.gather = "local"
    with pytest.raises(ConfigError, match="group_size is 8, but a device's part of a training batch has 4 rows"):
        methods.require_rows(config, 16, devices=4)


@pytest.mark.parametrize("method", ["east", "compressed"])
@pytest.mark.parametrize(
    ("name", "corrected", "needed"),
    [
        ("distance_correlation", False, 2),
        ("distance_correlation", True, 4),
        ("cosine_distance_correlation", True, 4),
        ("cosine_distance_difference", False, 2),
        ("fitnet", False, 1),
    ],
)
def test_a_distance_between_rows_needs_rows(method, name, corrected, needed, small_inputs):
    config = small_config(method=method)
    config.distance.update({"name": name, "bias_corrected": corrected})
    for batch_size, ratio in ((1, needed - 1), (needed, 0)):
        config.training.update({"batch_size": batch_size, "unlabelled_ratio": ratio})
        pipeline.check(config)
    if needed > 1:
        config.training.batch_size = needed - 1
        with pytest.raises(ConfigError, match=f"needs {needed} rows, but a training batch has {needed - 1}: raise training.batch_size"):
            pipeline.check(config)
        with pytest.raises(ConfigError, match=f"needs {needed} rows"):
            assemble(config, small_inputs)
    config.method = "baseline"
    pipeline.check(config)
