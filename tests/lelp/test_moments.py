import os
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from jaxkd.errors import DataError
from jaxkd.lelp import ClassMoments, accumulator, class_moments

ROOT = Path(__file__).parent.parent.parent
C, D = 3, 7
OFFSETS = (0.0, 1000.0)


def rows(n: int = 500, offset: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated rows about a mean of `offset` spreads, float32 so that every oracle sees the same numbers; class 2 is rare."""
    rng = np.random.default_rng(seed)
    embedding = rng.standard_normal((n, D)) @ rng.standard_normal((D, D)) / np.sqrt(D) + offset * rng.choice([-1, 1], D)
    return embedding.astype(np.float32), rng.choice(C, n, p=[0.6, 0.37, 0.03])


def assert_moments_of(moments: ClassMoments, embedding: np.ndarray, labels: np.ndarray, tolerance: float = 1e-6) -> None:
    for c in range(C):
        own = embedding[labels == c].astype(np.float64)
        assert moments.count[c] == len(own)
        scatter = np.cov(own.T, ddof=0) * len(own)
        np.testing.assert_allclose(moments.m2[c], scatter, atol=tolerance * np.abs(scatter).max())
        np.testing.assert_allclose(moments.mean[c], own.mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("batch", [1, 37, 500])
def test_any_batching_agrees_with_float64(offset, batch):
    embedding, labels = rows(offset=offset)
    parts = [(embedding[i : i + batch], labels[i : i + batch]) for i in range(0, len(labels), batch)]
    assert_moments_of(class_moments(parts, num_classes=C), embedding, labels)
    moments = ClassMoments.zeros(C, D)
    for part in parts[:20]:
        moments = moments.update(*part)
    seen = min(20 * batch, len(labels))
    if seen > 100:
        assert_moments_of(moments, embedding[:seen], labels[:seen])


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("at_once", [1, 3])
def test_blocks_that_fill_and_drift_are_merged_exactly(offset, at_once, monkeypatch):
    """Sorted rows: later blocks lie far from the earlier ones, and are about an old centre where it moves while they are multiplied."""
    monkeypatch.setattr(accumulator, "BLOCK_ROWS", 64)
    monkeypatch.setattr(accumulator, "PANEL", 3)
    monkeypatch.setattr(accumulator, "_products_at_once", lambda dim: at_once)
    late = []
    move = accumulator.Accumulator._move_block
    monkeypatch.setattr(accumulator.Accumulator, "_move_block", lambda self, *block: late.append(block) or move(self, *block))
    embedding, labels = rows(3000, offset)
    embedding = embedding[np.argsort(embedding[:, 0])]
    parts = [(embedding[:1111], labels[:1111]), (embedding[1111:], labels[1111:])]
    moments = class_moments(parts, num_classes=C)
    assert len(late) > 2
    assert_moments_of(moments, embedding, labels, 2e-6)
    np.testing.assert_array_equal(moments.m2, moments.m2.transpose(0, 2, 1))
    jax.tree.map(np.testing.assert_array_equal, class_moments(parts, num_classes=C), moments)


def cut(embedding: np.ndarray, labels: np.ndarray, batch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(embedding[i : i + batch], labels[i : i + batch]) for i in range(0, len(labels), batch)]


@pytest.fixture
def many_blocks(monkeypatch):
    monkeypatch.setattr(accumulator, "BLOCK_ROWS", 32)
    monkeypatch.setattr(accumulator, "_products_at_once", lambda dim: 3)


def test_a_product_is_added_when_it_is_made_and_in_the_order_of_the_rows(many_blocks, monkeypatch):
    batches = cut(*rows(2000), 100)
    expected, delays, gram = class_moments(batches, num_classes=C), np.random.default_rng(0), accumulator._gram

    def late(*arguments):
        time.sleep(delays.uniform(0, 0.01))
        gram(*arguments)

    monkeypatch.setattr(accumulator, "_gram", late)
    jax.tree.map(np.testing.assert_array_equal, class_moments(batches, num_classes=C), expected)


def test_rows_are_read_while_those_before_them_are_multiplied(many_blocks, monkeypatch):
    read, gram = threading.Event(), accumulator._gram

    def waiting(*arguments):
        assert read.wait(60)
        gram(*arguments)

    def batches():
        yield from cut(*rows(100), 100)
        read.set()
        yield from cut(*rows(100, seed=1), 100)

    monkeypatch.setattr(accumulator, "_gram", waiting)
    class_moments(batches(), num_classes=C)


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture
def two_blas_threads():
    with threadpool_limits(2, user_api="blas"):
        yield


def test_blas_has_one_thread_meanwhile_and_all_again_afterwards(many_blocks, two_blas_threads, monkeypatch):
    seen, gram = set(), accumulator._gram
    monkeypatch.setattr(accumulator, "_gram", lambda *arguments: (seen.update(blas_threads()), gram(*arguments)))
    class_moments((batch for batch in cut(*rows(300), 100) if class_moments([batch], num_classes=C) is not None), num_classes=C)
    assert (seen, set(blas_threads())) == ({1}, {2})


def test_blas_is_limited_from_any_thread(many_blocks, monkeypatch):
    before, seen, gram = blas_threads(), set(), accumulator._gram
    monkeypatch.setattr(accumulator, "_gram", lambda *arguments: (seen.update(blas_threads()), gram(*arguments)))
    for _ in range(2):
        class_moments(cut(*rows(300), 100), num_classes=C)
        thread = threading.Thread(target=class_moments, args=(cut(*rows(300), 100),), kwargs={"num_classes": C})
        thread.start()
        thread.join()
    assert seen == {1}
    assert blas_threads() == before


def test_errors_of_batches_and_products_come_through_and_leave_blas_its_threads(many_blocks, two_blas_threads, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        class_moments(((*rows(100), 1 // (3 - i))[:2] for i in range(5)), num_classes=C)

    def failing(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr(accumulator, "_gram", failing)
    with pytest.raises(MemoryError, match="no room"):
        class_moments(cut(*rows(300), 100), num_classes=C)
    assert set(blas_threads()) == {2}


@pytest.mark.parametrize(
    ("cores", "threads", "dim", "at_once"), [(2, 2, 768, 2), (2, 2, 8192, 1), (8, 8, 4096, 7), (64, 64, 768, 64), (64, 64, 4096, 1), (64, 1, 768, 1)]
)
def test_products_at_once_are_those_of_the_cores_that_fit(cores, threads, dim, at_once, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setattr(accumulator, "_blas", lambda: types.SimpleNamespace(info=lambda: [{"num_threads": threads}]))
    found = accumulator._products_at_once(dim)
    assert found == at_once
    assert found == 1 or (found + 1) * 4 * dim**2 <= accumulator.BUFFER_BYTES


def test_dimensions_that_are_constant_or_nearly_always_zero_or_tiny_move_a_centre_once(many_blocks, monkeypatch):
    embedding, labels = rows(2000)
    embedding[:, 0], embedding[:, 1] = np.arange(2000) % 97 == 0, 0.1
    embedding[:, 2] *= np.float32(1e-25)
    moved, move = [], accumulator.Accumulator._move_sums
    monkeypatch.setattr(accumulator.Accumulator, "_move_sums", lambda self, c, centre: moved.append(c) or move(self, c, centre))
    assert_moments_of(class_moments(cut(embedding, labels, 100), num_classes=C), embedding, labels)
    assert len(moved) == len(set(moved)) > 0


def test_float16_and_an_outlying_first_row():
    embedding, labels = rows()
    embedding[0] += 1000
    half = embedding.astype(np.float16)
    assert_moments_of(class_moments([(half, labels)], num_classes=C), half, labels)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_psum_is_the_moments_of_all_devices(offset, devices):
    embedding, labels = rows(offset=offset)
    shares = np.array_split(np.arange(len(labels)), devices)
    parts = [class_moments([(embedding[share], labels[share])], num_classes=C) for share in shares]
    stacked = jax.tree.map(lambda *x: jnp.asarray(np.stack(x), jnp.float32), *parts)
    merged = jax.vmap(lambda moments: moments.psum("data"), axis_name="data")(stacked)
    for device in range(devices):
        assert_moments_of(jax.tree.map(lambda x, i=device: np.asarray(x[i], np.float64), merged), embedding, labels, 5e-5)


def test_psum_is_one_round():
    program = jax.make_jaxpr(lambda moments: moments.psum("data"), axis_env=[("data", 4)])(ClassMoments.zeros(C, D))
    assert [equation.primitive.name for equation in program.eqns if "data" in str(equation.params.get("axes", ""))] == ["psum"]


def test_psum_with_a_class_on_one_device_only():
    embedding, _ = rows(60, 1000.0)
    labels = np.repeat([0, 1, 2], 20)
    parts = [class_moments([(embedding[labels == c], labels[labels == c])], num_classes=C) for c in range(C)]
    stacked = jax.tree.map(lambda *x: jnp.asarray(np.stack(x), jnp.float32), *parts)
    merged = jax.vmap(lambda moments: moments.psum("data"), axis_name="data", out_axes=0)(stacked)
    assert_moments_of(jax.tree.map(lambda x: np.asarray(x[0], np.float64), merged), embedding, labels, 5e-5)


def test_merge_is_commutative_and_has_a_neutral_element():
    first, second = (class_moments([rows(100, 5.0, seed)], num_classes=C) for seed in (1, 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), first.merge(second), second.merge(first))
    jax.tree.map(np.testing.assert_array_equal, ClassMoments.zeros(C, D).merge(first), first)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), jax.jit(ClassMoments.merge)(first, second), first.merge(second))


def merged_by_processes(tmp_path: Path, shares: list[tuple[np.ndarray, np.ndarray]], devices: int) -> list[ClassMoments]:
    """What `merge_processes` returns in each of several processes on `devices` devices each, which bring one share of the rows each."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    files, started = [tmp_path / f"merged{process}.npz" for process in range(len(shares))], []
    try:
        for process, (embedding, labels) in enumerate(shares):
            np.savez(tmp_path / f"rows{process}.npz", embedding=embedding, labels=labels, classes=C)
            command = [sys.executable, "-m", "tests.lelp.merged_moments", str(tmp_path / f"rows{process}.npz"), str(files[process])]
            together = [address, str(len(shares)), str(process)] if len(shares) > 1 else []
            started.append(subprocess.Popen(command + together, cwd=ROOT, env=environment))
        assert [process.wait(300) for process in started] == [0] * len(shares)
    finally:
        for process in started:
            process.kill()
    merged = []
    for file in files:
        with np.load(file) as arrays:
            assert tuple(arrays["devices"]) == (devices, devices * len(shares))
            merged.append(ClassMoments(*(arrays[name] for name in ClassMoments._fields)))
    return merged


@pytest.mark.slow
def test_merge_in_one_process_counts_its_rows_once_whatever_its_devices(tmp_path):
    embedding, labels = rows(offset=1000.0)
    (merged,) = merged_by_processes(tmp_path, [(embedding, labels)], devices=4)
    assert_moments_of(merged, embedding, labels)


@pytest.mark.slow
def test_merge_of_two_processes_is_the_moments_of_all_rows(tmp_path):
    """Class 1 is only in the first process and class 2 only in the second; their means lie apart, and 1,000 spreads from zero."""
    embedding, labels = rows(offset=1000.0)
    second = np.where(labels == 0, np.arange(len(labels)) % 3 == 0, labels == 2)
    embedding[second] += 1
    first, other = merged_by_processes(tmp_path, [(embedding[~second], labels[~second]), (embedding[second], labels[second])], devices=2)
    assert_moments_of(first, embedding, labels, 5e-5)
    jax.tree.map(np.testing.assert_array_equal, first, other)


def test_covariance_has_the_divisor_of_numpy_and_no_nan():
    embedding, labels = rows(50)
    labels = np.where(np.arange(50) == 7, 2, labels % 2)
    covariance = class_moments([(embedding, labels)], num_classes=C).covariance()
    np.testing.assert_allclose(covariance[0], np.cov(embedding[labels == 0].T.astype(np.float64)), atol=1e-6)
    assert np.all(covariance[2] == 0)


@pytest.mark.parametrize(
    ("embedding", "labels", "message"),
    [
        (np.zeros((2, D)), [0, C], "row 1 has class 3"),
        (np.zeros((2, D)), [-1, 0], "row 0 has class -1"),
        (np.zeros((2, D + 1)), [0, 1], r"shape \(2, 8\) were given where \[rows, 7\]"),
        (np.zeros((2, D)), [0, 1, 1], "2 embeddings came with labels of shape"),
        (np.zeros((2, D)), [0.0, 1.0], "float64"),
        (np.array([[np.nan] * D, [0] * D]), [1, 1], "class 1 are NaN"),
        (np.array([[-np.inf] * D, [0] * D], np.float16), [1, 1], "class 1 are NaN"),
        (np.full((2, D), 1e39), [1, 1], "too large for float32"),
        (np.array([[1e30] * D, [-1e30] * D], np.float32), [1, 1], "squares"),
    ],
)
def test_bad_rows_are_named(embedding, labels, message):
    with pytest.raises(DataError, match=message):
        ClassMoments.zeros(C, D).update(embedding, np.array(labels))


def test_no_rows():
    with pytest.raises(DataError, match="no embeddings"):
        class_moments([], num_classes=C)
    with pytest.raises(DataError, match=r"shape \(0,\) were given where \[rows, D\]"):
        class_moments([([], [])], num_classes=C)
