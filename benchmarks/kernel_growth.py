"""Time of every kernel over its work, on log axes: its slope, from sizes that grow two- to fourfold, each with value and gradients where it has some.

The work is a power of the size: 1 of seconds of audio, of rows of maps, of embeddings and of a store; 2 of rows that are compared in pairs, of the length that
is attended to and of D of a matrix; 3 of RKD's rows, whose angles are those of triplets. The claim: no slope over the work exceeds 1.15. Distance correlation
and LELP's fit over rows and D have theirs in `distance_correlation` and `lelp_subspaces`. The sizes take turns, and the least of the repeats counts. Beside
it stand FLOP and bytes of the largest size, and its time as a multiple of the least for them (`benchmarks.floor`, its rates measured after each kernel). Where
numpy computes they are those of the rows or the matrix read once, and of the symmetric update or one product with S vectors; else FLOP are as XLA counts them,
a loop as one turn, and bytes those of arguments and results.

Command: python -m benchmarks.kernel_growth   (2 cores: six minutes, 2 GB of memory)
"""

import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import floor
from benchmarks.growth import growth_plot, slope
from benchmarks.lelp_subspaces import CLASSES, SUBCLASSES, kernel, mixture
from benchmarks.pairs import timed
from benchmarks.record import Figure, chosen, keep
from benchmarks.student_step import convolution, differentiated, normal
from jaxkd import losses
from jaxkd.embeddings.store import EmbeddingStore
from jaxkd.frontend import MUSICNN, log_mel
from jaxkd.lelp import class_moments, pseudo_class_loss
from jaxkd.lelp.leading import leading_eigenvectors
from jaxkd.lelp.passes import from_passes
from jaxkd.memory import keep_freed
from jaxkd.models.attention import attention
from jaxkd.models.batch_norm import BatchNorm
from jaxkd.models.pooling import max_pool
from jaxkd.results.document import Table
from jaxkd.xla_flags import convolve_on_all_cores

SLOPE = 1.15
"""What a slope over the work may be: above 1 by what larger arrays lose in the caches."""
PART_SECONDS, MOST_CALLS = 0.05, 100
"""Calls in a row are timed as one, as many as take about so long."""
MAP, DIM, WIDE_ROWS, STORED = (28, 28, 16), 512, 1_000, 20_000
"""Height, width and channels of maps; D where it does not grow; rows where D grows; rows of the store."""


class Kernel(NamedTuple):
    """What grows: the name of the size, size -> what is timed, the sizes, and the power of the size that is the work."""

    x: str
    make: Callable[[int], floor.Part]
    sizes: tuple[int, ...]
    power: int = 1


def audio(seconds: int) -> floor.Part:
    """Log-mel of one clip."""
    return floor.compiled(functools.partial(log_mel, settings=MUSICNN), normal(1, seconds * MUSICNN.sample_rate))


def convolved(rows: int, channels: int, groups: int) -> floor.Part:
    """A 3x3 convolution that keeps the channels, with its gradients."""
    return convolution(of_inputs=True, rows=rows, height=MAP[0], width=MAP[1], into=channels, out=channels, size=3, stride=1, groups=groups)


def normalised(rows: int) -> floor.Part:
    """Batch normalisation with its gradients."""
    module, inputs = BatchNorm(), normal(rows, *MAP)
    variables = module.init(jax.random.key(0), inputs, train=True)
    return differentiated(lambda x: module.apply(variables, x, train=True, mutable=["batch_stats"])[0], inputs)


def attended(length: int) -> floor.Part:
    """Attention of 8 rows with 2 heads, with its gradients."""
    mask = jnp.ones((8, 1, length), bool)
    return differentiated(lambda query, key, value: attention(query, key, value, mask), *[normal(8, length, 2, 32)] * 3)


def compared(loss: Callable[..., jax.Array], width: int, rows: int) -> floor.Part:
    """A loss of rows of two sides with its gradient."""
    return floor.compiled(jax.value_and_grad(loss), normal(rows, 128), normal(rows, width))


def pseudo_classes(rows: int) -> floor.Part:
    """LELP's loss of 20 classes with 8 subclasses each, with its gradient."""
    classes, subclasses = 20, 8
    probs = jax.nn.softmax(normal(rows, classes, subclasses))
    return floor.compiled(jax.value_and_grad(pseudo_class_loss), normal(rows, classes * subclasses), normal(rows, classes), probs)


def moments(rows: int) -> floor.Part:
    """Class moments of float32 rows."""
    data = mixture(rows, DIM)
    return floor.Part(lambda: class_moments([data], num_classes=CLASSES), floor.Work(rows * DIM * (DIM + 1), data[0].nbytes))


def eigenvectors(dim: int) -> floor.Part:
    """The leading ones of a matrix whose eigenvalues are 1 / k, turned by one reflection."""
    normal_vector = np.random.default_rng(0).standard_normal(dim)
    values, normal_vector = 1 / np.arange(1, dim + 1), normal_vector / np.linalg.norm(normal_vector)
    matrix, turned = np.diag(values), values * normal_vector
    matrix -= 2 * (np.outer(normal_vector, turned) + np.outer(turned, normal_vector)) - 4 * (normal_vector @ turned) * np.outer(normal_vector, normal_vector)
    return floor.Part(
        lambda: leading_eigenvectors(lambda vectors: matrix @ vectors, dim, SUBCLASSES, trace=float(values.sum())),
        floor.Work(2 * dim**2 * SUBCLASSES, matrix.nbytes),
    )


def passes(dim: int) -> floor.Part:
    """Directions of classes by passes over the rows."""
    data, basis = [mixture(WIDE_ROWS, dim)], np.linalg.qr(kernel(dim))[0]
    return floor.Part(lambda: from_passes(data, CLASSES, basis, SUBCLASSES), floor.Work(2 * WIDE_ROWS * dim * SUBCLASSES, 4 * WIDE_ROWS * dim))


def gathered(rows: int) -> floor.Part:
    """Random rows of a float16 store."""
    folder, rng = tempfile.TemporaryDirectory(prefix="jaxkd-kernels-"), np.random.default_rng(0)
    writer = EmbeddingStore.create(Path(folder.name) / "store", identity={"teacher": "random"}, dim=DIM, dtype="float16", shard_rows=4096)
    ids = [str(number) for number in range(STORED)]
    writer.append(ids, rng.standard_normal((STORED, 1, DIM), dtype=np.float32))
    store, drawn = writer.finish(), list(rng.choice(ids, rows, replace=False))

    def call() -> np.ndarray:
        assert Path(folder.name).exists()
        return store.gather(drawn)

    return floor.Part(call, floor.Work(0, 2 * 2 * rows * DIM))


PAIRS = {
    "corrected distance correlation": (functools.partial(losses.distance_correlation_loss, bias_corrected=True), DIM, 2),
    "cosine distance correlation": (losses.cosine_distance_correlation_loss, DIM, 2),
    "cosine difference": (losses.cosine_distance_difference, DIM, 2),
    "PKT": (losses.pkt, DIM, 2),
    "similarity-preserving": (losses.similarity_preserving, DIM, 2),
    "CKA": (losses.cka, DIM, 2),
    "CRD": (losses.crd_in_batch, 128, 2),
    "RKD": (losses.rkd, DIM, 3),
}
KERNELS = {
    "log-mel": Kernel("seconds of audio", audio, (10, 20, 40, 80, 160)),
    "depthwise convolution": Kernel("rows of maps", lambda rows: convolved(rows, 64, 64), (8, 16, 32, 64)),
    "convolution": Kernel("rows of maps", lambda rows: convolved(rows, 32, 1), (8, 16, 32, 64)),
    "max-pool": Kernel("rows of maps", lambda rows: differentiated(lambda x: max_pool(x, 2, 2), normal(rows, *MAP)), (64, 128, 256, 512)),
    "batch normalisation": Kernel("rows of maps", normalised, (64, 128, 256, 512)),
    "attention": Kernel("length", attended, (64, 128, 256, 512), 2),
    **{
        name: Kernel("rows compared", functools.partial(compared, loss, width), (32, 64, 128, 256) if power == 3 else (256, 512, 1024, 2048), power)
        for name, (loss, width, power) in PAIRS.items()
    },
    "pseudo-class loss": Kernel("rows", pseudo_classes, (4096, 8192, 16_384, 32_768)),
    "class moments": Kernel("rows", moments, (5_000, 10_000, 20_000, 40_000)),
    "store": Kernel("rows", gathered, (256, 1024, 4096, 16_384)),
    "leading eigenvectors": Kernel("D", eigenvectors, (256, 512, 1024, 2048), 2),
    "passes": Kernel("D", passes, (1024, 2048, 4096, 8192)),
}


def measure(kernel: Kernel, repeats: int) -> tuple[list[list[float]], floor.Work, float]:
    """Seconds of a call by size and repeat, after one that compiles and one that says how many fit in a part; of the largest its work and its floor."""
    calls = [kernel.make(size) for size in kernel.sizes]
    for call in calls:
        timed(call, 1)
    many = [min(MOST_CALLS, 1 + int(PART_SECONDS / timed(call, 1)["wall_s"])) for call in calls]
    rounds = [[timed(call, count)["wall_s"] for call, count in zip(calls, many, strict=True)] for _ in range(repeats)]
    work = calls[-1].work
    return [list(of_size) for of_size in zip(*rounds, strict=True)], work, work.seconds(floor.rates())


def main() -> None:
    """Measures, and keeps the figures."""
    settings = chosen(__doc__, "kernels", list(KERNELS), repeats=5)
    keep_freed()
    convolve_on_all_cores()
    measured = {name: measure(KERNELS[name], settings.repeats) for name in settings.kernels}
    figures, rows, panels = [], [], {}
    for name, (values, work, at_least) in measured.items():
        kernel, least = KERNELS[name], [min(of_size) for of_size in values]
        figures.append(
            Figure(f"{name}: slope over {kernel.x}{f'^{kernel.power}' * (kernel.power > 1)}", slope(kernel.sizes, least) / kernel.power, at_most=SLOPE)
        )
        sizes = ", ".join(f"{size:,}: {1e3 * one:.3g}" for size, one in zip(kernel.sizes, least, strict=True))
        rows.append([name, kernel.x, sizes, *(f"{value:.3g}" for value in (work.flop / 1e9, work.bytes / 1e6, least[-1] / at_least))])
        panels.setdefault(kernel.x, {})[name] = (kernel.sizes, least)
    blocks = [
        Table("Milliseconds by size", ["kernel", "size", "ms", "GFLOP of the largest", "MB", "times the floor"], rows, label_columns=3),
        growth_plot("Growth", "kernel_growth", panels),
    ]
    details = {
        "repeats": settings.repeats,
        "seconds": {name: dict(zip(map(str, KERNELS[name].sizes), values, strict=True)) for name, (values, _, _) in measured.items()},
        "work and floor_s of the largest": {name: {**work._asdict(), "floor_s": at_least} for name, (_, work, at_least) in measured.items()},
    }
    sys.exit(keep("kernel_growth", __doc__ or "", figures, details, settings.out, blocks=blocks))


if __name__ == "__main__":
    main()
