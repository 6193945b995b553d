"""The shortest clips that each audio student takes."""

import jax
import jax.numpy as jnp
import pytest

from jaxkd import config as configs
from jaxkd import students
from jaxkd.data.transforms import audio_transform
from jaxkd.errors import ConfigError, DataError
from jaxkd.training.inputs import log_mel

RATE = 16_000


def frames_of_features(name, frontend, samples):
    """How many frames the features have, from shapes alone."""
    transform = audio_transform(log_mel({"sample_rate": RATE, "frontend": frontend}))
    student = students.build(name, num_outputs=3)

    def run(audio):
        return student.init_with_output(jax.random.key(0), transform(None, audio), train=False)[0].features

    return jax.eval_shape(run, jax.ShapeDtypeStruct((1, samples), jnp.int16)).shape[1]


@pytest.mark.parametrize(
    ("name", "hop", "frames"), [(name, 512, 17 if name.endswith("textbook") else 15) for name in students._CP_RESNETS] + [("mobile_fcn", 320, 96)]
)
def test_shortest_clip_is_the_shortest_that_leaves_a_frame(name, hop, frames):
    frontend = configs.default_config().frontend
    frontend.update({"kind": "kaldi", "hop": hop, "bands": 96})
    samples = (frames - 1) * hop + 1
    students.check_clips(name, frontend, sample_rate=RATE, clip_seconds=samples / RATE)
    assert frames_of_features(name, frontend, samples) == 1
    with pytest.raises(ConfigError, match=rf"config.other.clip_seconds is .*{name}.* at least .* s \({samples} samples, {frames} frames of the front end\)"):
        students.check_clips(name, frontend, sample_rate=RATE, clip_seconds=(samples - 1) / RATE, field="other.clip_seconds")
    if name == "mobile_fcn":
        with pytest.raises(ConfigError, match="needs at least 96 frames"):
            frames_of_features(name, frontend, samples - 1)
    else:
        assert frames_of_features(name, frontend, samples - 1) == 0


@pytest.mark.parametrize("kind", ["kaldi", "slaney"])
def test_shortest_clip_of_a_network_of_ones_own_is_that_of_the_front_end(kind):
    frontend = configs.default_config().frontend
    frontend.kind = kind
    settings, samples = log_mel({"sample_rate": RATE, "frontend": frontend}), 513 + (kind == "kaldi")
    students.check_clips("own:network", frontend, sample_rate=RATE, clip_seconds=samples / RATE)
    assert settings.frames(samples) == 2
    with pytest.raises(ConfigError, match=f"{samples} samples"):
        students.check_clips("own:network", frontend, sample_rate=RATE, clip_seconds=(samples - 1) / RATE)
    with pytest.raises(DataError, match=f"at least {samples}"):
        settings.frames(samples - 1)
    students.check_clips("mlp", frontend, sample_rate=RATE, clip_seconds=0.001)
