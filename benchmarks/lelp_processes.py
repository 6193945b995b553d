"""LELP's subspaces of 1,000,000 x 1,024 stored embeddings: by one process with all cores, then by a job of 4 processes on loopback, each on its own rows.

The claims: the largest principal angle between the subspaces of both, and of each to float64, is below 1e-4 (status 1 else); the processes exchange
C (D^2 + n (1 + D)) float32 values, however many the rows. Of speed nothing is claimed: the processes of the job divide the cores of this machine (4 on 2 cores:
two share a core), its page cache, out of which the store is read, and its memory; each opens the whole store and finds all subspaces itself.

Command: python -m benchmarks.lelp_processes --workdir=runs/lelp_processes   (Linux, 2 cores: ten minutes, 4 GB of memory, 2 GB of disk for the store)
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.linalg import subspace_angles

from benchmarks.lelp_subspaces import class_shapes, draw, symmetric_products
from benchmarks.record import Figure, add_out, keep
from jaxkd import hosts, lelp
from jaxkd.collectives import collectives
from jaxkd.embeddings.blocks import BLOCK_ROWS
from jaxkd.embeddings.manifest import FILE, read_manifest
from jaxkd.embeddings.store import EmbeddingStore, mean_embeddings_at
from jaxkd.lelp.moments import merge_program
from jaxkd.training.moments_in_parts import moments_in_parts

ANGLE = 1e-4
SAMPLED_SHARDS = 16
JOIN_SECONDS = 300
STAGES = ("open", "read", "moments", "subspaces")


def block_classes(number: int, rows: int, classes: int) -> np.ndarray:
    """The class of each row of a block."""
    return np.random.default_rng((0, number)).integers(0, classes, rows)


def stored(path: Path, rows: int, dim: int, classes: int) -> EmbeddingStore:
    """The mixture of `lelp_subspaces` as a float16 store, a shard for each block; what is there of it already is used."""
    identity = {"mixture": "lelp_processes", "rows": rows, "classes": classes}
    if (path / FILE).is_file() and read_manifest(path).complete:
        return EmbeddingStore.open(path, expected=identity)
    factors, means = class_shapes(np.random.default_rng(0), dim, classes)
    writer = EmbeddingStore.create(path, identity=identity, dim=dim, dtype="float16", shard_rows=BLOCK_ROWS)
    for start in range(len(writer.ids_done), rows, BLOCK_ROWS):
        number, ids = start // BLOCK_ROWS, [f"row{row:09d}" for row in range(start, min(start + BLOCK_ROWS, rows))]
        labels = block_classes(number, len(ids), classes)
        writer.append(ids, draw(np.random.default_rng((1, number)), labels, factors, means)[:, None])
    return writer.finish()


def memory_mb(field: str) -> float:
    """Of this process: "VmHWM" = its peak, with pages of the store that the kernel maps into it; "RssAnon" = now, without them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def merged_bytes(moments: lelp.ClassMoments) -> int:
    """What each process of one device brings to the collectives of `merge_processes`, as the compiled program says."""
    own = jax.tree.map(lambda part: np.asarray(part, np.float32)[None], moments)
    return sum(one.bytes for one in collectives(merge_program.lower(own).compile().as_text()))


def fit(path: Path, classes: int, subclasses: int) -> tuple[lelp.Subspaces, lelp.ClassMoments, dict[str, float]]:
    """Subspaces and moments of the rows of all processes, as `jaxkd/training/subclasses.py` computes them; rows, seconds and memory of this process."""
    seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    own_mb, own_rows, last = [], 0, time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal last
        seconds[stage] += time.perf_counter() - last
        own_mb.append(memory_mb("RssAnon"))
        last = time.perf_counter()

    store = EmbeddingStore.open(path)
    lap("open")

    def batches(blocks: list[slice]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal own_rows
        for block in blocks:
            embedding = mean_embeddings_at(store, np.arange(block.start, min(block.stop, len(store))))
            lap("read")
            yield embedding, block_classes(block.start // BLOCK_ROWS, len(embedding), classes)
            own_rows += len(embedding)
            lap("moments")

    blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, len(store), BLOCK_ROWS)]
    with tempfile.TemporaryDirectory(dir=path.parent) as parts:
        moments = moments_in_parts(batches, blocks, Path(parts), num_classes=classes, dim=store.dim)
    lap("moments")
    found = lelp.subspaces_from_moments(moments, num_subclasses=subclasses, classifier_kernel=kernel(store.dim, classes), key=jax.random.key(0))
    lap("subspaces")
    figures = {"rows": own_rows, **{f"{stage}_s": seconds[stage] for stage in STAGES}, "all_s": sum(seconds.values()), "own_mb": max(own_mb)}
    return found, moments, figures


def kernel(dim: int, classes: int) -> np.ndarray:
    """Of the classifier, [D, C]."""
    return np.random.default_rng(1).standard_normal((dim, classes))


def bare(path: Path) -> dict[str, float]:
    """Seconds of one pass over the store that does nothing but load its shards, and of one that only multiplies them, from some of them."""
    shards = sorted(path.glob("shard-*.npy"))
    step = -(-len(shards) // SAMPLED_SHARDS)
    load, product, rows = 0.0, 0.0, 0
    for shard in shards[::step]:
        start = time.perf_counter()
        embedding = np.load(shard)
        load += time.perf_counter() - start
        embedding = embedding.astype(np.float32)
        start = time.perf_counter()
        symmetric_products(embedding)
        product += time.perf_counter() - start
        rows += len(embedding)
    whole = sum(shard.rows for shard in read_manifest(path).shards) / rows
    return {"bare_load_s": load * whole, "bare_product_s": product * whole}


def work(path: Path, job: hosts.Job | None, classes: int, subclasses: int) -> dict[str, Any]:
    """One process: joins the job, if there is one, warms up and fits; afterwards it takes the bare rates, or with the others one more merge alone."""
    if job:
        hosts.join(job)
    dim = read_manifest(path).dim
    hosts.wait_for_all()
    peak, own = memory_mb("VmHWM"), memory_mb("RssAnon")
    warm = lelp.class_moments([(np.random.default_rng(2).standard_normal((500, dim), np.float32), np.arange(500) % classes)], num_classes=classes)
    lelp.subspaces_from_moments(warm, num_subclasses=subclasses, classifier_kernel=kernel(dim, classes), key=jax.random.key(0))
    merged = merged_bytes(lelp.merge_processes(warm)) if job else 0
    hosts.wait_for_all()
    subspaces, moments, figures = fit(path, classes, subclasses)
    figures |= {"peak_mb": memory_mb("VmHWM") - peak, "own_mb": figures["own_mb"] - own, "merge_s": 0.0, "merged_bytes": merged}
    np.save(path.parent / f"directions-{hosts.index()}-of-{hosts.count()}.npy", subspaces.directions)
    if job is None:
        return {**figures, **bare(path)}
    hosts.wait_for_all()
    start = time.perf_counter()
    lelp.merge_processes(moments)
    return {**figures, "merge_s": time.perf_counter() - start}


def together(command: list[str], processes: int) -> list[dict[str, Any]]:
    """What each of several processes prints, every one bound to its share of the cores; at least one core each."""
    cores = sorted(os.sched_getaffinity(0))
    with socket.create_server(("127.0.0.1", 0)) as free:
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    started = []
    try:
        for process in range(processes):
            first, end = process * len(cores) // processes, (process + 1) * len(cores) // processes
            share = ",".join(map(str, cores[first : max(end, first + 1)]))
            own = ["taskset", "--cpu-list", share, *command, "--processes", str(processes), "--process", str(process), "--coordinator", coordinator]
            started.append(subprocess.Popen(own, env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}, stdout=subprocess.PIPE, text=True))
        printed = [process.communicate()[0] for process in started]
        if any(process.returncode for process in started):
            raise SystemExit(f"the processes ended with {[process.returncode for process in started]}: see their messages above.")
    finally:
        for process in started:
            process.kill()
    return [json.loads(text.splitlines()[-1]) for text in printed]


def reference(store: EmbeddingStore, classes: int, subclasses: int) -> np.ndarray:
    """Leading eigenvectors of N Sigma_c N in float64, [C, D, S], the rows read once."""
    count, total, products = np.zeros(classes), np.zeros((classes, store.dim)), np.zeros((classes, store.dim, store.dim))
    for start in range(0, len(store), BLOCK_ROWS):
        embedding = store.gather(store.ids[start : start + BLOCK_ROWS])[:, 0].astype(np.float64)
        labels = block_classes(start // BLOCK_ROWS, len(embedding), classes)
        for c in range(classes):
            rows = embedding[labels == c]
            count[c] += len(rows)
            total[c] += rows.sum(axis=0)
            products[c] += rows.T @ rows
    basis = np.linalg.qr(kernel(store.dim, classes))[0]
    outside = np.eye(store.dim) - basis @ basis.T
    scatters = [products[c] - np.outer(total[c], total[c]) / count[c] for c in range(classes)]
    return np.stack([np.linalg.eigh(outside @ scatter @ outside)[1][:, -subclasses:] for scatter in scatters])


def largest_angle(first: np.ndarray, second: np.ndarray) -> float:
    """Over the classes, radians; directions [C, D, S]."""
    return max(float(subspace_angles(a, b).max()) for a, b in zip(first.astype(np.float64), second.astype(np.float64), strict=True))


def floors(rows: int, dim: int, one: dict[str, float]) -> dict[str, float]:
    """FLOPs and bytes that the moments need, and their seconds at the bare rates that the single process has measured."""
    floor = {"gflop": 2 * rows * dim**2 / 1e9, "gflop_symmetric": rows * dim * (dim + 1) / 1e9, "gb": 2 * rows * dim / 1e9}
    rate = floor["gflop_symmetric"] / one["bare_product_s"]
    return floor | {"gflop_per_s": rate, "gflop_s": floor["gflop"] / rate, "gflop_symmetric_s": one["bare_product_s"], "gb_s": one["bare_load_s"]}


def print_table(runs: dict[int, list[dict[str, Any]]], floor: dict[str, float]) -> None:
    """Seconds and MB of each process of each run, and the floor."""
    print("read: a view of the rows in the file, whose pages come and are converted with the moments; moments: with waiting for the others and the merge;")
    print("merge: one more, alone; own: memory but for pages of the store, after each block")
    columns = (*(f"{stage}_s" for stage in STAGES), "all_s", "merge_s", "own_mb", "peak_mb")
    print(f"{'process':10}{'rows':>11}" + "".join(f"{name:>13}" for name in columns))
    for count, figures in runs.items():
        for process, one in enumerate(figures):
            print(f"{process + 1:>3} of {count:<3}{one['rows']:>11,}" + "".join(f"{one[name]:>13.2f}" for name in columns))
    print(
        f"floor: {floor['gflop_symmetric']:,.1f} GFLOP of symmetric products (2 N D^2, with both halves: {floor['gflop']:,.1f}); {floor['gb']:.2f} GB read once"
    )
    at_rate = f"{floor['gflop_symmetric_s']:.2f} s (both halves {floor['gflop_s']:.2f} s)"
    print(f"bare products reach {floor['gflop_per_s']:.1f} GFLOP/s: {at_rate}; bare loading {floor['gb_s']:.2f} s")


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--subclasses", type=int, default=8)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--workdir", type=Path, default=Path("runs/lelp_processes"))
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)
    add_out(parser)
    settings = parser.parse_args()
    rows, dim, classes, subclasses, processes = (getattr(settings, name) for name in ("rows", "dim", "classes", "subclasses", "processes"))
    path = settings.workdir / f"store-{rows}x{dim}x{classes}"
    if settings.process is not None:
        job = hosts.Job(settings.coordinator, processes, settings.process, JOIN_SECONDS, JOIN_SECONDS) if processes > 1 else None
        print(json.dumps(work(path, job, classes, subclasses)))
        return
    if processes < 2:
        parser.error(f"--processes is {processes}: a job has at least 2; one process alone is always measured too.")
    store = stored(path, rows, dim, classes)
    store.verify()  # and all of it is in the page cache, for the first run as for the second
    command = [sys.executable, "-m", "benchmarks.lelp_processes", "--workdir", str(settings.workdir)]
    for name in ("rows", "dim", "classes", "subclasses"):
        command += [f"--{name}", str(getattr(settings, name))]
    runs = {count: together(command, count) for count in (1, processes)}
    found = {count: [np.load(path.parent / f"directions-{process}-of-{count}.npy") for process in range(count)] for count in runs}
    exact = reference(store, classes, subclasses)
    angles = {
        "one_job": max(largest_angle(found[1][0], own) for own in found[processes]),
        "one_float64": largest_angle(found[1][0], exact),
        "job_float64": max(largest_angle(own, exact) for own in found[processes]),
    }
    merged, floor = runs[processes][0]["merged_bytes"], floors(rows, dim, runs[1][0])
    cores = len(os.sched_getaffinity(0))
    print(f"{rows:,} x {dim}, {classes} classes, {subclasses} subclasses; {cores} cores, divided over the processes; the store is in the page cache")
    print_table(runs, floor)
    print(f"merged: {merged:,} bytes of each process")
    print("largest principal angle: " + ", ".join(f"{name} {angle:.1e}" for name, angle in angles.items()) + f" (limit {ANGLE:g})")
    figures = [Figure(f"largest principal angle, {name}", angle, at_most=ANGLE) for name, angle in angles.items()]
    counted = 4 * classes * (dim**2 + processes * (1 + dim))
    figures.append(Figure("bytes that a process exchanges / C (D^2 + n (1 + D)) float32", merged / counted, at_most=1, at_least=1))
    figures += [Figure(f"{count} process{'es' * (count > 1)}: the slowest", max(one["all_s"] for one in of_each), "s") for count, of_each in runs.items()]
    sizes = {"rows": rows, "dim": dim, "classes": classes, "subclasses": subclasses, "processes": processes, "cores": cores}
    details = {**sizes, "one": runs[1], "job": runs[processes], "floor": floor, "angles": angles}
    sys.exit(keep("lelp_processes", __doc__ or "", figures, details, settings.out))


if __name__ == "__main__":
    main()
