"""What is told or refused from shapes alone: frames that an alignment leaves out, principal components that there cannot be."""

import jax
import ml_collections
import numpy as np
import pytest

from jaxkd import students
from jaxkd.errors import ConfigError
from jaxkd.training.dimensions import frames_warning, require_dimensions
from jaxkd.training.experiment import assemble
from jaxkd.types import Batch, StudentOutputs
from tests.small import load_config, small_config
from tests.test_released_configs import SHAPES, TEACHERS

STAGE_FRAMES = {"openmic": (62, 62, 62), "magnatagatune": (30, 15, 15)}


class Stages:
    """A student of three stages with these frames."""

    def __init__(self, frames):
        self.taps = tuple(np.zeros((1, count, 4), np.float32) for count in frames)

    def init(self, key, inputs, train):
        return {}

    def apply(self, variables, inputs, train):
        return StudentOutputs(inputs[:, 0], self.taps[-1], self.taps)


def warning_of(config, student, inputs, teacher_frames):
    batch = Batch(np.zeros(inputs, np.float32), np.zeros((1, 2)), np.ones((1, 2), bool), np.zeros((1, teacher_frames, 3)), np.ones(1, bool))
    return frames_warning(ml_collections.FrozenConfigDict(config), student, batch)


def warning(config, frames, teacher_frames):
    return warning_of(config, Stages(frames), (1, 5), teacher_frames)


@pytest.mark.parametrize("stages", ["", ",all_stages"])
@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("name", STAGE_FRAMES)
def test_the_published_grids_leave_out_little(name, teacher, stages):
    config = load_config(name, f"teacher={teacher}{stages}")
    assert warning(config, STAGE_FRAMES[name], SHAPES[name][teacher][0]) == ""


def test_grids_that_leave_out_most_of_a_clip_are_told_with_the_numbers():
    config = load_config("openmic", "teacher=passt,all_stages")
    config.distance.stage_embedding_expand = (6, 1, 3)
    told = warning(config, STAGE_FRAMES["openmic"], 11)
    assert "11 of 62 at stage 1 (student 62 repeated 1 times, teacher 11 repeated 1 times); 33 of 62 at stage 2" in told and "stage 0" not in told
    config.distance.update({"stage_embedding_expand": (), "stage_features_expand": (), "features_expand": 1, "embedding_expand": 1})
    assert "stage 0" in warning(config, STAGE_FRAMES["openmic"], 11)
    config.distance.alignment = "pool"  # the way out that it names
    assert warning(config, STAGE_FRAMES["openmic"], 11) == ""
    config.distance.update({"alignment": "repeat", "features_expand": -1, "embedding_expand": -1})
    assert warning(config, STAGE_FRAMES["openmic"], 11) == ""
    config.method = "baseline"
    config.distance.update({"features_expand": 1, "embedding_expand": 1})
    assert warning(config, STAGE_FRAMES["openmic"], 11) == ""


def test_a_student_in_half_precision_is_told_the_same():
    config = small_config()
    config.distance.update({"features_expand": 1, "embedding_expand": 1})
    exact, half = (students.build("cp_resnet_tiny", num_outputs=2, compute_dtype=dtype) for dtype in ("float32", "bfloat16"))
    told = warning_of(config, exact, (1, 94, 64), 20)
    assert "of 20 at stage 2" in told
    assert warning_of(config, half, (1, 94, 64), 20) == told


def test_it_reaches_who_trains_and_the_report(small_inputs):
    """Through the method, as other warnings do; the teacher has one frame for 3 s."""
    config = small_config(method="east")
    config.distance.update({"features_expand": 1, "embedding_expand": 1})
    assembly = assemble(config, small_inputs)
    variables = {"params": assembly.state.params["student"], "batch_stats": assembly.state.batch_stats}
    rows = jax.eval_shape(lambda inputs: assembly.experiment.transform(None, inputs), assembly.loader.batch(0).rows.inputs)
    frames = jax.eval_shape(lambda x: assembly.experiment.student.apply(variables, x, train=False), rows).features.shape[1]
    assert frames > 1
    assert f"1 of {frames} at stage 2 (student {frames} repeated 1 times, teacher 1 repeated 1 times)" in assembly.experiment.method.warning


@pytest.mark.parametrize(("embedding", "most"), [("max_mean_pool", 79), ("logits", 50)])
def test_more_principal_components_than_rows_or_dimensions_are_refused_before_anything_is_embedded(small_inputs, embedding, most):
    """80 clips of one frame have 79 components; the width is the student's where the config gives none."""
    config = small_config()
    config.teacher.embedding = embedding
    config.compressed.update({"transformation": "pca", "features": most})
    require_dimensions(config, small_inputs.dataset, small_inputs.inputs)
    config.compressed.features = most + 1
    with pytest.raises(ConfigError, match=f"no more than {most} principal components, but {most + 1} are asked for"):
        require_dimensions(config, small_inputs.dataset, small_inputs.inputs)
    config.compressed.features, config.student.name = 0, "cp_resnet_small"
    with pytest.raises(ConfigError, match=f"no more than {most} principal components, but .* the student's width"):
        require_dimensions(config, small_inputs.dataset, small_inputs.inputs)
