"""Rows as float32: every value of the narrow dtypes, against the conversions of NumPy and ml_dtypes."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd.lelp import accumulator, class_moments
from jaxkd.lelp.take import take_float32

BITS = np.arange(1 << 16, dtype=np.uint16).reshape(512, 128)
ROWS = np.random.default_rng(0).permutation(512)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
@pytest.mark.parametrize("finite", [True, False])
def test_every_narrow_value_is_converted_exactly(dtype, finite):
    values = BITS.view(dtype)
    if finite:
        values = np.where(np.isfinite(values.astype(np.float32)), values, np.zeros((), dtype))
    out = np.empty(BITS.shape, np.float32)
    take_float32(values, ROWS, out)
    np.testing.assert_array_equal(out, values[ROWS].astype(np.float32))
    np.testing.assert_array_equal(np.signbit(out), np.signbit(values[ROWS].astype(np.float32)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f2", ">f4"])
def test_other_floats_are_rounded_as_numpy_does(dtype):
    values = np.random.default_rng(1).standard_normal((512, 128)).astype(dtype)
    out = np.empty((300, 128), np.float32)
    take_float32(values, ROWS[:300], out)
    np.testing.assert_array_equal(out, values[ROWS[:300]].astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_moments_of_narrow_rows_are_those_of_the_same_rows_in_float32(dtype):
    rng = np.random.default_rng(2)
    rows, labels = (rng.standard_normal((900, 12)) + 20).astype(dtype), rng.integers(0, 3, 900)
    for array in (rows, np.asfortranarray(rows)):
        for found, expected in zip(
            class_moments([(array, labels)], num_classes=3), class_moments([(rows.astype(np.float32), labels)], num_classes=3), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_moments_of_narrow_rows_make_no_copy_of_them(monkeypatch):
    monkeypatch.setattr(accumulator, "BUFFER_BYTES", 1 << 16)
    rows, labels = np.ones((40_000, 64), np.float16), np.arange(40_000) % 3
    tracemalloc.start()
    try:
        class_moments([(rows, labels)], num_classes=3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < rows.nbytes / 2
