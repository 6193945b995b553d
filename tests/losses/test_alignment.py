import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd.errors import ConfigError
from jaxkd.losses import align_time


def ramp(frames: int, width: int = 3) -> np.ndarray:
    return np.arange(2 * frames * width, dtype=np.float32).reshape(2, frames, width)


@pytest.mark.parametrize(
    ("student", "teacher", "student_expand", "teacher_expand", "used"),
    [(62, 10, 1, 6, 60), (62, 11, 1, 6, 62), (62, 1, 1, 60, 60), (30, 30, 1, 1, 30), (15, 31, 2, 1, 30), (15, 1, 1, 15, 15)],
)
def test_frame_counts_of_east(student, teacher, student_expand, teacher_expand, used):
    z, e = align_time(ramp(student), ramp(teacher, 5), features_expand=student_expand, embedding_expand=teacher_expand)
    assert z.shape == (2, used, 3)
    assert e.shape == (2, used, 5)


def test_frames_are_repeated_in_place_and_the_end_is_cut():
    z, e = align_time(ramp(5), ramp(2), embedding_expand=2)
    np.testing.assert_array_equal(z, ramp(5)[:, :4])
    np.testing.assert_array_equal(e, ramp(2)[:, [0, 0, 1, 1]])


def test_mean_over_time_against_one_vector_a_clip():
    z, e = align_time(ramp(7), ramp(1, 5), features_expand=-1)
    np.testing.assert_allclose(z, ramp(7).mean(axis=1, keepdims=True))
    np.testing.assert_array_equal(e, ramp(1, 5))


def test_mean_over_time_keeps_the_dtype_and_sums_in_float32():
    x = jnp.ones((1, 4096, 1), jnp.bfloat16)
    z, _ = align_time(x, jnp.ones((1, 1, 1)), features_expand=-1)
    assert z.dtype == jnp.bfloat16
    assert z.item() == 1


@pytest.mark.parametrize(("long", "short"), [(62, 10), (12, 4), (7, 1)])
@pytest.mark.parametrize("swapped", [False, True])
def test_pooling_averages_the_longer_side_over_equal_spans(long, short, swapped):
    """Frames cut into `short` parts each, so that every span is a whole number of parts."""
    one, other = (ramp(short, 5), ramp(long)) if swapped else (ramp(long), ramp(short, 5))
    z, e = align_time(one, other, alignment="pool")
    pooled, kept = (e, z) if swapped else (z, e)
    np.testing.assert_array_equal(kept, ramp(short, 5))
    parts = np.repeat(ramp(long).astype(np.float64), short, axis=1)
    np.testing.assert_allclose(pooled, parts.reshape(2, short, long, 3).mean(axis=2), rtol=1e-6)


def test_interpolation_is_linear_between_the_centres_of_frames():
    rng = np.random.default_rng(0)
    short = rng.standard_normal((2, 4, 3)).astype(np.float32)
    z, e = align_time(ramp(10, 5), short, alignment="interpolate")
    np.testing.assert_array_equal(z, ramp(10, 5))
    centres, grid = (np.arange(10) + 0.5) / 10, (np.arange(4) + 0.5) / 4
    for row in range(2):
        for channel in range(3):
            np.testing.assert_allclose(e[row, :, channel], np.interp(centres, grid, short[row, :, channel]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alignment", ["pool", "interpolate"])
def test_a_constant_stays_and_equal_lengths_are_left_alone(alignment):
    z, e = align_time(jnp.full((2, 9, 3), 7, jnp.bfloat16), ramp(5), alignment=alignment)
    np.testing.assert_allclose(z, 7)
    assert z.dtype == jnp.bfloat16
    assert z.shape[1] == e.shape[1]
    z, e = align_time(ramp(6), ramp(6, 5), alignment=alignment)
    np.testing.assert_array_equal(z, ramp(6))
    np.testing.assert_array_equal(e, ramp(6, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features_expand": -1}, "embedding 4.*give -1 for both"),
        ({"embedding_expand": 0}, "embedding_expand is 0"),
        ({"features_expand": -2}, "features_expand is -2"),
        ({"alignment": "pooling"}, "'pooling'. Did you mean 'pool'"),
        ({"alignment": "pool", "embedding_expand": 6}, r"are \(1, 6\): alignment='pool' takes 1 and 1"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        align_time(ramp(6), ramp(4), **arguments)
