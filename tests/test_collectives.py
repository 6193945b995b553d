"""Collectives read off HLO text, in the forms in which versions and back ends of XLA write them, and what a training step sends."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxkd.collectives import Collective, Operand, collectives
from tests.small import user_environment

ROOT = Path(__file__).parent.parent
HEADER = "HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}, num_partitions=8\n"
OPERANDS = """
  %a.1 = f32[32,1024]{1,0:T(8,128)S(1)} parameter(0)
  %b = bf16[] parameter(1)
  c = s8[3,5]{1,0} parameter(2)
"""


def read(line: str) -> Collective:
    (found,) = collectives(HEADER + "ENTRY %main (p: f32[8]) -> f32[8] {" + OPERANDS + line + "\n}")
    return found


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("replica_groups={{0,1,2,3}}", 4),
        ("replica_groups={{0,2},{1,3}}", 2),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=1,'axis_2'=2] {'axis_0'}", 4),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0','axis_1'}", 8),
        ("replica_groups=mesh['axis_0'=8] {'axis_0':(1)2}", 2),
        ("replica_groups={}", 8),
    ],
)
def test_groups_in_every_form(groups, devices):
    one = read(f"  %all-reduce.9 = f32[32,1024]{{1,0:T(8,128)}} all-reduce(%a.1), channel_id=6, {groups}, to_apply=%sum")
    assert one == Collective("all-reduce", (Operand("f32", (32, 1024)),), devices, "")
    assert one.sent_bytes == 2 * (devices - 1) / devices * 32 * 1024 * 4


def test_tuple_and_source_are_read():
    one = read(
        "  ROOT %all-reduce.1 = (f32[32,1024]{1,0}, bf16[], /*index=2*/s8[3,5]{1,0}) all-reduce(%a.1, %b, /*index=2*/c), replica_groups={{0,1}}, "
        'to_apply=%sum, metadata={op_name="jit(f)/all-gather(x)/psum" stack_frame_id=3}'
    )
    assert one.operands == (Operand("f32", (32, 1024)), Operand("bf16", ()), Operand("s8", (3, 5)))
    assert one.bytes == one.result_bytes == 32 * 1024 * 4 + 2 + 15
    assert one.source == "jit(f)/all-gather(x)/psum"


def test_asynchronous_pairs_count_once():
    pair = """
  %ag = (f32[32,1024]{1,0}, f32[128,1024]{1,0}) all-gather-start(%a.1), replica_groups={{0,1,2,3}}, dimensions={0}
  %ag.1 = f32[128,1024]{1,0} all-gather-done(%ag)"""
    one = read(pair)
    assert (one.kind, one.bytes, one.result_bytes, one.sent_bytes) == ("all-gather", 131072, 4 * 131072, 3 * 131072)


def test_wrapped_asynchronous_operation_counts_once():
    program = """
%wrapped (p: f32[16]) -> f32[4] {
  %p = f32[16]{0} parameter(0)
  ROOT %rs = f32[4]{0} reduce-scatter(%p), replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=%sum
}
ENTRY %main (q: f32[16]) -> f32[4] {
  %q = f32[16]{0} parameter(0)
  %start = ((f32[16]{0}), f32[4]{0}) async-start(%q), calls=%wrapped
  ROOT %done = f32[4]{0} async-done(%start), calls=%wrapped
}"""
    (one,) = collectives(HEADER + program)
    assert (one.kind, one.bytes, one.result_bytes, one.sent_bytes) == ("reduce-scatter", 64, 16, 48)


def test_permutation_is_sent_once_and_packed_types_are_counted():
    one = read("  %cp = pred[4]{0} collective-permute(%m), source_target_pairs={{0,1},{1,0}}".replace("%m", "%b"))
    assert (one.kind, one.devices, one.sent_bytes) == ("collective-permute", 2, 2)
    assert Operand("pred", (3,)).bytes == 3
    assert Operand("s4", (3,)).bytes == 2
    assert Operand("f8e4m3fn", (3,)).bytes == 3
    assert Operand("c64", (2,)).bytes == 16


def test_one_device_sends_nothing():
    program = jax.jit(lambda x: x @ x.T).lower(jnp.ones((4, 4))).compile().as_text()
    assert collectives(program) == []
    assert Collective("all-reduce", (Operand("f32", (8,)),), 1, "").sent_bytes == 0


def on_four_devices(*arguments: str) -> list[str]:
    environment = user_environment(JAX_NUM_CPU_DEVICES="4", JAX_PLATFORMS="cpu")
    result = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return result.stdout.splitlines()


@pytest.mark.slow
def test_a_transform_of_rows_stays_on_its_device():
    program = """
import jax, numpy as np
from jaxkd.collectives import collectives
from jaxkd.frontend import MUSICNN, log_mel
from jaxkd.parallel import Devices
def front_end(key, x):
    assert key is None
    return log_mel(x, MUSICNN)
devices, rows = Devices.all(), np.random.default_rng(0).uniform(-1, 1, (12, 4000)).astype(np.float32)
own = devices.by_rows(front_end)
step = jax.jit(lambda x: own(None, x)).lower(devices.shard(rows)).compile()
np.testing.assert_allclose(step(devices.shard(rows)), np.concatenate([log_mel(row[None], MUSICNN) for row in rows]), rtol=1e-5, atol=1e-5)
print(collectives(step.as_text()))
"""
    assert on_four_devices("-c", program) == ["[]"]


@pytest.mark.slow
def test_parameters_and_vectors_cross_once_and_nothing_grows_faster_than_the_batch(text_inputs, tmp_path):
    names = ("text lelp", "text east", "text rkd")
    lines = on_four_devices("-m", "benchmarks.collectives", "--devices", "4", "--modes", "pmap", "sharded", f"--out={tmp_path}", "--experiments", *names)
    rows = json.loads(lines[-1])["rows"]
    assert [(row["experiment"], row["rows"], row["devices"]) for row in rows] == [(name, rows, 4) for name in names for rows in 2 * (32, 64)]
    for small, large in zip(rows[::2], rows[1::2], strict=True):
        for row in (small, large):
            assert row["parameters"] <= row["reduced"] <= row["parameters"] + 64, row
            parts = row["parameters"] if row["mode"] == "sharded" else 0
            vectors = 0 if row["experiment"] == "text lelp" else row["features"] + row["embedding"]
            assert 0.99 * parts + vectors <= row["gathered"] <= parts + vectors + (64 * row["rows"] if vectors else 0), row
            assert row["scattered"] in (0, row["features"]), row
            assert row["other"] == 0, row
        assert large["reduced"] == small["reduced"]
        assert large["gathered"] - small["gathered"] <= small["features"] + small["embedding"] + 64 * small["rows"]
