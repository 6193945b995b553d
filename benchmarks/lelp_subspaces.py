"""LELP's subspaces of 500,000 x 768 and 200,000 x 4,096 embeddings, 5 classes, 8 subclasses: time, memory, error and growth of the streaming fit.

The claims: from memory at most 1.25 times the time of the bare float32 products of the same rows, from a store at most 1.5 times; sine of the largest principal
angle to float64 below 1e-4, also with a mean 1,000 times the spread; extra memory that does not grow with the rows; time that grows with the rows and with D^2.
At 10,000 x 16,384, by passes over the rows, the bound that the fit measures of its own error holds and is below 1e-4, in less time than the bare products.

The bare products are the faster of NumPy's x.T @ x and of BLAS's symmetric updates into one matrix that stays, half the multiplications of a full product each;
nothing is grouped, converted, centred, summed or decomposed. The stores are read as a run reads them: out of the page cache, and ("disk") after the system was
told to forget their files. scikit-learn's PCA of each class is timed beside the first size: it makes the same products, so that no multiple of it is claimed.
The angles are those of the first 100,000 rows.

Command: python -m benchmarks.lelp_subspaces   (Linux, 2 cores: 20 minutes, 9 GB of memory, 8 GB of disk; for a trial --sizes 20000x256 --dims 64 128 256)
"""

import argparse
import functools
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.linalg
from scipy.linalg.blas import ssyrk
from sklearn.decomposition import PCA

from benchmarks.growth import growth_plot, slope
from benchmarks.record import Figure, add_out, keep, of_repeats
from jaxkd.embeddings.manifest import FILE, read_manifest
from jaxkd.embeddings.store import EmbeddingStore, mean_embeddings_at
from jaxkd.lelp import Subspaces, fit_subspaces, subspaces_from_moments
from jaxkd.results.document import Table
from jaxkd.training.moments_in_parts import moments_in_parts

LIMITS = {"memory": 1.25} | dict.fromkeys(("float16 store", "float32 store", "float16 store, disk", "float32 store, disk"), 1.5)
"""What is asked of the ratio to the bare products."""
FLOORS, PCA_SOLVERS = ("NumPy's products", "bare updates"), ("randomized", "covariance_eigh")
ANGLE, GROWTH_MB, SLOPES = 1e-4, 32.0, {"rows": 1.1, "D": 2.1}
CLASSES, SUBCLASSES, LATENT, BLOCK = 5, 8, 40, 4096
ANGLE_ROWS, DIM_ROWS = 100_000, 50_000


def class_shapes(rng: np.random.Generator, dim: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """40 latent directions a class that decay like k^-0.5, [C, 40, D], and class means of the size of the spread, [C, D]."""
    decay = (np.arange(1, LATENT + 1) ** -0.5).astype(np.float32)
    factors = rng.standard_normal((classes, LATENT, dim), dtype=np.float32) * decay[:, None]
    return factors, rng.standard_normal((classes, dim), dtype=np.float32)


def draw(rng: np.random.Generator, labels: np.ndarray, factors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Rows of the classes `labels`, with noise, float32 [n, D]."""
    rows = 0.3 * rng.standard_normal((len(labels), means.shape[1]), dtype=np.float32) + means[labels]
    for c in range(len(means)):
        members = labels == c
        rows[members] += rng.standard_normal((int(members.sum()), LATENT), dtype=np.float32) @ factors[c]
    return rows


def mixture(rows: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and their classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, rows)
    factors, means = class_shapes(rng, dim, CLASSES)
    embedding = np.empty((rows, dim), np.float32)
    for start in range(0, rows, BLOCK):
        embedding[start : start + BLOCK] = draw(rng, labels[start : start + BLOCK], factors, means)
    return embedding, labels


def kernel(dim: int) -> np.ndarray:
    """Of the classifier, [D, C]."""
    return np.random.default_rng(1).standard_normal((dim, CLASSES))


def batches(embedding: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows as they come from a loop."""
    for start in range(0, len(labels), BLOCK):
        yield embedding[start : start + BLOCK], labels[start : start + BLOCK]


def fit(embedding: np.ndarray, labels: np.ndarray) -> Subspaces:
    """From memory."""
    sizes = {"num_classes": CLASSES, "num_subclasses": SUBCLASSES}
    return fit_subspaces(list(batches(embedding, labels)), **sizes, classifier_kernel=kernel(embedding.shape[1]), key=jax.random.key(0))


def fit_store(store: EmbeddingStore, labels: np.ndarray) -> Subspaces:
    """From a store, as `jaxkd/training/subclasses.py` does it."""

    def read(blocks: list[slice]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for block in blocks:
            yield mean_embeddings_at(store, np.arange(len(labels))[block]), labels[block]

    blocks = [slice(start, start + BLOCK) for start in range(0, len(labels), BLOCK)]
    with tempfile.TemporaryDirectory(dir=store.path.parent) as parts:
        moments = moments_in_parts(read, blocks, Path(parts), num_classes=CLASSES, dim=store.dim)
    return subspaces_from_moments(moments, num_subclasses=SUBCLASSES, classifier_kernel=kernel(store.dim), key=jax.random.key(0))


def write_store(path: Path, embedding: np.ndarray, dtype: str) -> None:
    """The rows as a store, a shard for each block; what is there of it already is used."""
    if (path / FILE).is_file() and read_manifest(path).complete:
        return
    writer = EmbeddingStore.create(path, identity={"mixture": "lelp_subspaces"}, dim=embedding.shape[1], dtype=dtype, shard_rows=BLOCK)
    for start in range(len(writer.ids_done), len(embedding), BLOCK):
        rows = embedding[start : start + BLOCK, None]
        writer.append([str(start + row) for row in range(len(rows))], rows)
    writer.finish()


def forget(path: Path) -> None:
    """Has the system drop the files of a store that nobody has open from its page cache."""
    for shard in path.glob("shard-*.npy"):
        with open(shard, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def symmetric_products(embedding: np.ndarray) -> None:
    """The bare float32 products of NumPy, block by block."""
    for start in range(0, len(embedding), BLOCK):
        block = embedding[start : start + BLOCK]
        np.matmul(block.T, block)


def symmetric_updates(embedding: np.ndarray) -> None:
    """The bare symmetric updates of BLAS, block by block, the upper triangle of one matrix overwritten by each."""
    product = np.zeros((embedding.shape[1],) * 2, np.float32)
    for start in range(0, len(embedding), BLOCK):
        ssyrk(1.0, embedding[start : start + BLOCK].T, c=product.T, lower=1, overwrite_c=1)


def largest_angle(embedding: np.ndarray, labels: np.ndarray) -> float:
    """Sine of the largest principal angle, over the classes, of the fit to the eigenvectors of N Sigma N in float64."""
    dim, basis = embedding.shape[1], np.linalg.qr(kernel(embedding.shape[1]))[0]
    angles = []
    for c, directions in enumerate(np.asarray(fit(embedding, labels).directions, np.float64)):
        rows = embedding[labels == c]
        mean = rows.mean(axis=0, dtype=np.float64)
        scatter = np.zeros((dim, dim))
        for start in range(0, len(rows), BLOCK):
            centred = rows[start : start + BLOCK] - mean
            scatter += centred.T @ centred
        scatter -= basis @ (basis.T @ scatter)
        scatter -= (scatter @ basis) @ basis.T
        vectors = scipy.linalg.eigh(scatter, subset_by_index=(dim - SUBCLASSES, dim - 1))[1]
        angles.append(np.sin(scipy.linalg.subspace_angles(directions, vectors)).max())
    return float(max(angles))


def pca(embedding: np.ndarray, labels: np.ndarray, solver: str) -> None:
    """scikit-learn for all classes, with the selection of their rows, as in the fit."""
    for c in range(CLASSES):
        PCA(SUBCLASSES, svd_solver=solver, random_state=0).fit(embedding[labels == c])


def memory_mb(rows: int, dim: int) -> dict[str, float]:
    """Peak memory that a streaming fit adds, in a process of its own: "whole", and "rows", of it what the rows add to a fit of 500."""
    command = [sys.executable, "-m", "benchmarks.lelp_subspaces", "--memory_of", str(rows), "--sizes", f"{rows}x{dim}"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def print_memory(rows: int, dim: int) -> None:
    """Fits `rows` rows drawn from a pool of batches, and prints by how many MB the peak grew."""
    pool, labels = mixture(4 * BLOCK, dim)
    shares = [(pool[i * BLOCK : (i + 1) * BLOCK], labels[i * BLOCK : (i + 1) * BLOCK]) for i in range(4)]
    run = functools.partial(fit_subspaces, num_classes=CLASSES, num_subclasses=SUBCLASSES, classifier_kernel=kernel(dim), key=jax.random.key(0))
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    run([(pool[:500], labels[:500])])
    few = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    run(shares[i % 4] for i in range(-(-rows // BLOCK)))
    many = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({"whole": many - before, "rows": many - few}))


def seconds_in_turns(repeats: int, ways: dict[str, Callable[[], Callable[[], object]]]) -> dict[str, list[float]]:
    """Seconds of each way and repeat; the ways take turns, so that other load meets all of them. A way prepares, untimed, what is run."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, prepare in ways.items():
            run = prepare()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
            del run
            gc.collect()  # a store that is still mapped would keep its pages
    return seconds


def measure(rows: int, dim: int, repeats: int, folder: Path, embedding: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """Seconds of the floors and of the fit from memory and from stores."""

    def stored(dtype: str, *, disk: bool = False) -> Callable[[], object]:
        path = folder / f"{rows}x{dim}-{dtype}"
        if disk:
            forget(path)
        return functools.partial(fit_store, EmbeddingStore.open(path), labels)

    for dtype in ("float16", "float32"):
        write_store(folder / f"{rows}x{dim}-{dtype}", embedding, dtype)
    fit(embedding[:BLOCK], labels[:BLOCK])
    ways: dict[str, Callable[[], Callable[[], object]]] = {
        "NumPy's products": lambda: functools.partial(symmetric_products, embedding),
        "bare updates": lambda: functools.partial(symmetric_updates, embedding),
        "memory": lambda: functools.partial(fit, embedding, labels),
        **{f"{dtype} store": functools.partial(stored, dtype) for dtype in ("float16", "float32")},
        **{f"{dtype} store, disk": functools.partial(stored, dtype, disk=True) for dtype in ("float16", "float32")},
    }
    return seconds_in_turns(repeats, ways)


def ratios(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """Of each repeat, to the faster of the bare products in the same repeat."""
    floors = [min(pair) for pair in zip(seconds["NumPy's products"], seconds["bare updates"], strict=True)]
    return {name: [s / floor for s, floor in zip(values, floors, strict=True)] for name, values in seconds.items() if name not in FLOORS}


def wide(rows: int, dim: int) -> tuple[list[Figure], dict[str, float]]:
    """Of the fit by passes: its time, and the error that it measures beside the true one, from the eigenvectors of (H N)(H N)^T in float64 [n, n]."""
    embedding, labels = mixture(rows, dim)
    basis, ways = (
        np.linalg.qr(kernel(dim))[0],
        {"bare updates": functools.partial(symmetric_updates, embedding), "passes": functools.partial(fit, embedding, labels)},
    )
    fit(embedding[:BLOCK], labels[:BLOCK])
    seconds = {name: min(values) for name, values in seconds_in_turns(2, {name: lambda run=run: run for name, run in ways.items()}).items()}
    found, sines = fit(embedding, labels), []
    for c, directions in enumerate(np.asarray(found.directions, np.float64)):
        own = embedding[labels == c].astype(np.float64)
        own -= own.mean(axis=0)
        own -= (own @ basis) @ basis.T
        vectors = scipy.linalg.eigh(own @ own.T, subset_by_index=(len(own) - SUBCLASSES, len(own) - 1))[1]
        sines.append(np.sin(scipy.linalg.subspace_angles(directions, own.T @ vectors)).max())
    size, bound = shown(rows, dim), float(np.max(found.sine))
    figures = [
        Figure(f"passes, {size}: ratio", seconds["passes"] / seconds["bare updates"], at_most=1.0),
        Figure(f"bound of the sine of the largest angle, D = {dim:,}", bound, at_most=ANGLE),
        Figure("the sine itself", float(max(sines)), at_most=bound),
    ]
    return figures, seconds


def asked(name: str) -> dict[str, float]:
    """The limit of a way's ratio, if it has one."""
    return {"at_most": LIMITS[name]} if name in LIMITS else {}


def grown(sizes: dict[str, list[tuple[int, int]]], repeats: int) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    """Least seconds of the fit from memory and of the bare updates over the rows and over D: {"rows" or "D": {line: (values, seconds)}}."""
    found = {}
    for x, (place, pairs) in zip(sizes, enumerate(sizes.values()), strict=True):
        lines: dict[str, list[float]] = {"fit": [], "bare updates": []}
        for rows, dim in pairs:
            data = mixture(rows, dim)
            fit(*(part[:BLOCK] for part in data))
            ways = {"fit": functools.partial(fit, *data), "bare updates": functools.partial(symmetric_updates, data[0])}
            for line, values in seconds_in_turns(repeats, {name: lambda run=run: run for name, run in ways.items()}).items():
                lines[line].append(min(values))
        found[x] = {line: ([pair[place] for pair in pairs], values) for line, values in lines.items()}
    return found


def shown(rows: int, dim: int) -> str:
    """A size in words."""
    return f"{rows:,} x {dim:,}"


def size_of(text: str) -> tuple[int, int]:
    """500000x768 -> (500000, 768)."""
    rows, dim = text.split("x")
    return int(rows), int(dim)


def of_size(rows: int, dim: int, repeats: int, folder: Path, *, all_figures: bool) -> tuple[list[Figure], dict[str, list[float]]]:
    """The figures of one size, with all of them those of scikit-learn and of a mean far from zero too; seconds of each way and repeat."""
    embedding, labels = mixture(rows, dim)
    seconds = measure(rows, dim, repeats, folder, embedding, labels)
    figures = [of_repeats(f"{name}, {shown(rows, dim)}: ratio", values, **asked(name)) for name, values in ratios(seconds).items()]
    if all_figures:
        peers = {f"scikit-learn, {solver}": functools.partial(functools.partial, pca, embedding, labels, solver) for solver in PCA_SOLVERS}
        seconds |= seconds_in_turns(1, peers)
    embedding, labels = embedding[:ANGLE_ROWS], labels[:ANGLE_ROWS]
    figures.append(Figure(f"sine of the largest angle, D = {dim:,}", largest_angle(embedding, labels), at_most=ANGLE))
    if all_figures:
        embedding += 1000 * embedding[:BLOCK].std(axis=0).mean() * np.random.default_rng(2).choice([-1, 1], dim).astype(np.float32)
        figures.append(Figure("the same with a mean 1,000 times the spread", largest_angle(embedding, labels), at_most=ANGLE))
    return figures, seconds


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=size_of, nargs="+", default=[(500_000, 768), (200_000, 4096)], metavar="ROWSxD")
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="of the growth with D, 50,000 rows each")
    parser.add_argument("--wide", type=size_of, default=(10_000, 16_384), metavar="ROWSxD", help="of the fit by passes: D above 8,192")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workdir", type=Path, default=Path("runs/lelp_subspaces"), help="folder of the stores, which are kept")
    parser.add_argument("--memory_of", type=int, default=0, help=argparse.SUPPRESS)
    add_out(parser)
    settings = parser.parse_args()
    first_rows, first_dim = settings.sizes[0]
    if settings.memory_of:
        print_memory(settings.memory_of, first_dim)
        return
    settings.workdir.mkdir(parents=True, exist_ok=True)
    grows = {"rows": [(first_rows // share, first_dim) for share in (8, 4, 2, 1)], "D": [(DIM_ROWS, dim) for dim in settings.dims]}
    memory = {sizes: memory_mb(*sizes) for sizes in sorted({*grows["rows"], *grows["D"], (2 * first_rows, first_dim)})}
    figures, table = [], []
    details: dict[str, Any] = {"repeats": settings.repeats, "memory_mb": {shown(*sizes): mb for sizes, mb in memory.items()}, "seconds": {}, "bytes": {}}
    for rows, dim in settings.sizes:
        found, seconds = of_size(rows, dim, settings.repeats, settings.workdir, all_figures=(rows, dim) == settings.sizes[0])
        size, gflop = shown(rows, dim), rows * dim * (dim + 1) / 1e9
        figures += found
        table += [[name, size, f"{np.median(values):.2f}", f"{gflop / np.median(values):.0f}"] for name, values in seconds.items()]
        details["seconds"][size] = seconds
        details["bytes"][size] = {"float16": 2 * rows * dim, "float32": 4 * rows * dim, "state": 8 * CLASSES * dim**2 + 4 * dim**2}
    found, details["wide_seconds"] = wide(*settings.wide)
    figures += found
    few, many = grows["rows"][0], (2 * first_rows, first_dim)
    more = memory[many]["rows"] - memory[few]["rows"]
    figures.append(Figure(f"extra memory at {many[0]:,} less that at {few[0]:,} rows", more, "MB", at_most=GROWTH_MB))
    details["growth"] = grown(grows, settings.repeats)
    figures += [Figure(f"slope of the time over {x}", slope(*lines["fit"]), at_most=SLOPES[x]) for x, lines in details["growth"].items()]
    of_memory = {f"{x}, memory": {"fit": (lines["fit"][0], [memory[sizes]["whole"] for sizes in grows[x]])} for x, lines in details["growth"].items()}
    blocks = [
        Table(
            "Seconds, and the rate at which the floor's multiplications and additions come", ["way", "rows x D", "median s", "GFLOP/s"], table, label_columns=2
        ),
        growth_plot("Growth", "lelp_subspaces", details["growth"] | of_memory, dict.fromkeys(of_memory, "MB at the peak")),
    ]
    sys.exit(keep("lelp_subspaces", __doc__ or "", figures, details, settings.out, blocks=blocks))


if __name__ == "__main__":
    main()
