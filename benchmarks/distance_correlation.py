"""Distance correlation, value and gradient of both sides in float32, against torch, against XLA's bare products, and over n: time, memory, growth.

The floor is the two products of each side that whole matrices take, x x^T and K x, by XLA: 4 n^2 (p + q) FLOP, 8 n (p + q) bytes of rows and gradients. Torch
takes the faster of its two ways, `cdist` and the Gram matrix. The sides take turns within each repeat, in processes of their own; a ratio is that of a repeat,
and a short part is the mean of several calls. The statistic is the biased one, but for that which is called bias-corrected. Groups: 16 rows on 62 frames,
against the formula of EAsT's authors (arXiv 2306.17424) in torch.
The claims: at most 1.2 times the floor at n = 1024 and 1.1 at n = 4096 (p = 512, q = 768); faster than torch at every size; groups 10 times as fast as the
authors' formula; at most 100 MB beside inputs and gradients at n = 8192; time grows as the work does, its slope on log axes at most 1.1. All of it is XLA's
code: whether a kernel of our own in Pallas beats it on GPU or TPU was not measured, and there is none.

Command: python -m benchmarks.distance_correlation --peer-python=PYTHON   (the Python of an environment with torch; 2 cores: 5 minutes, 4 GB of memory)
"""

import argparse
import functools
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.growth import growth_plot, slope
from benchmarks.pairs import Ask, parser, sides, timed, use_threads
from benchmarks.record import Figure, add_out, keep, of_repeats, peer_versions
from jaxkd.losses import EAST_EPS, distance_correlation_loss
from jaxkd.results import numbers
from jaxkd.results.document import Table

WIDTHS = (512, 768)
SIZES = (*((n, *WIDTHS) for n in (16, 64, 256, 1024, 4096)), *((n, width, width) for width in (128, 2048) for n in (16, 256, 1024, 4096)))
"""n, p and q of what torch does too."""
ALONE = (8192, *WIDTHS)
"""Beyond what is held as whole matrices: without torch."""
GROUPS = (16, *WIDTHS)
FLOORS = {1024: 1.2, 4096: 1.1}
"""How many times the floor is allowed, by n, at WIDTHS."""
MEMORY_MB, SLOPE, FASTER = 100, 1.1, 10
GROWTH_FROM = 256
"""Rows from which the slope is taken: below, calls cost more than what they compute."""
KINDS = {"jaxkd": ("both", "corrected", "floor", "student"), "torch": ("cdist", "gram")}
SHOWN = ("both", "corrected", "student", "floor", "cdist", "gram")
FLOOR_HEADER = ("GFLOP", "MB of rows and gradients", "GFLOP/s of the floor")
GROUPS_CALLS = 5
CALLS = {16: 100, 64: 50, 256: 20, 1024: 3}
"""Calls in a row that are timed as one in each repeat, by n; 1 of the others."""


def random_sides(n: int, widths: Sequence[int], frames: Sequence[int] = ()) -> list[np.ndarray]:
    """The rows of both sides, the same in both processes."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, *frames, width)).astype(np.float32) for width in widths]


def two_products(*sides: jax.Array) -> list[jax.Array]:
    """The floor: of each side the products of its rows, and theirs with the rows."""
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    return [product(product(side, side.T), side) for side in sides]


def compiled(kind: str, n: int, *widths: int) -> tuple[Any, list[jax.Array]]:
    """What is timed, and its arguments."""
    sides = [jnp.asarray(side) for side in random_sides(n, widths, (62,) if kind == "groups" else ())]
    functions: dict[str, Callable[..., Any]] = {
        "both": jax.value_and_grad(distance_correlation_loss, argnums=(0, 1)),
        "corrected": jax.value_and_grad(functools.partial(distance_correlation_loss, bias_corrected=True), argnums=(0, 1)),
        "student": jax.value_and_grad(distance_correlation_loss),
        "groups": jax.value_and_grad(functools.partial(distance_correlation_loss, group_size=n, eps=EAST_EPS), argnums=(0, 1)),
        "floor": two_products,
    }
    return jax.jit(functions[kind]).lower(*sides).compile(), sides


def serve() -> None:
    """Answers as the torch side does; with 0 calls: megabytes beside arguments and results."""
    parts: dict[str, tuple[Any, list[jax.Array]]] = {}
    for line in sys.stdin:
        name, calls = line.split()
        if name not in parts:
            kind, *sizes = name.split("-")
            parts[name] = compiled(kind, *map(int, sizes))
        program, sides = parts[name]
        memory = {"mb": program.memory_analysis().temp_size_in_bytes / 1e6}
        print(json.dumps(timed(functools.partial(program, *sides), int(calls)) if int(calls) else memory), flush=True)


def asked(kind: str, sizes: tuple[int, ...], calls: int) -> str:
    """The line that asks a side."""
    return f"{'-'.join(map(str, (kind, *sizes)))} {calls}"


def measure(ask: dict[str, Ask], repeats: int) -> dict[tuple[str, tuple[int, ...]], list[float]]:
    """Seconds of each repeat, by kind and sizes; one call of each before the first repeat. Megabytes as a kind "mb"."""
    jobs = [(side, kind, sizes) for sizes in SIZES for side, kinds in KINDS.items() for kind in kinds]
    jobs += [("jaxkd", kind, ALONE) for kind in KINDS["jaxkd"]] + [("jaxkd", "groups", GROUPS), ("torch", "authors", GROUPS)]
    found: dict[tuple[str, tuple[int, ...]], list[float]] = {(kind, sizes): [] for _, kind, sizes in jobs}
    for side, kind, sizes in jobs:
        ask[side](asked(kind, sizes, 1))
    for _ in range(repeats):
        for side, kind, sizes in jobs:
            calls = GROUPS_CALLS if kind in ("groups", "authors") else CALLS.get(sizes[0], 1)
            found[kind, sizes].append(ask[side](asked(kind, sizes, calls))["wall_s"])
    return found | {("mb", sizes): [ask["jaxkd"](asked("both", sizes, 0))["mb"]] for sizes in (*SIZES, ALONE)}


def ratios(ours: Sequence[float], *theirs: Sequence[float]) -> list[float]:
    """Of each repeat, to the fastest of the others."""
    return [own / min(others) for own, *others in zip(ours, *theirs, strict=True)]


def flop(n: int, *widths: int) -> int:
    """Of the floor."""
    return 4 * n * n * sum(widths)


def kept(settings: argparse.Namespace, found: dict[tuple[str, tuple[int, ...]], list[float]]) -> int:
    """Keeps the figures; returns the exit status."""
    figures, rows = [], []
    for sizes in (*SIZES, ALONE):
        to_floor = ratios(found["both", sizes], found["floor", sizes])
        middle = {kind: statistics.median(found[kind, sizes]) for kind in SHOWN if (kind, sizes) in found}
        name, at_most = "n = {}, p = {}, q = {}".format(*sizes), FLOORS.get(sizes[0]) if sizes[1:] == WIDTHS else None
        figures.append(of_repeats(f"{name}: to the floor", to_floor, **({} if at_most is None else {"at_most": at_most})))
        if sizes != ALONE:
            figures.append(of_repeats(f"{name}: to torch", ratios(*(found[kind, sizes] for kind in ("both", "cdist", "gram"))), at_most=1.0))
        if at_most is not None:
            for words, other in (("biased", "both"), ("the floor", "floor")):
                figures.append(of_repeats(f"{name}: bias-corrected to {words}", ratios(found["corrected", sizes], found[other, sizes])))
        shown = [1e3 * middle[kind] if kind in middle else None for kind in SHOWN]
        work = [flop(*sizes) / 1e9, 8e-6 * sizes[0] * sum(sizes[1:]), flop(*sizes) / 1e9 / middle["floor"], *found["mb", sizes]]
        rows.append([*map(str, sizes), *(numbers.ABSENT if value is None else numbers.amount(value) for value in (*shown, *work))])
    figures.append(of_repeats("16 rows x 62 frames: the authors' formula to ours", ratios(found["authors", GROUPS], found["groups", GROUPS]), at_least=FASTER))
    figures.append(Figure(f"n = {ALONE[0]}: memory beside inputs and gradients", *found["mb", ALONE], "MB", at_most=MEMORY_MB))
    grown = [sizes for sizes in (*SIZES, ALONE) if sizes[1:] == WIDTHS and sizes[0] >= GROWTH_FROM]
    work = [flop(*sizes) for sizes in grown]
    figures.append(Figure("slope of the time over the work", slope(work, [statistics.median(found["both", sizes]) for sizes in grown]), at_most=SLOPE))
    by_rows = [sizes for sizes in (*SIZES, ALONE) if sizes[1:] == WIDTHS]
    kinds = {"jaxkd": "both", "two products by XLA": "floor", "torch, cdist": "cdist", "torch, Gram matrix": "gram"}
    lines = {
        name: tuple(zip(*((sizes[0], statistics.median(found[kind, sizes])) for sizes in by_rows if (kind, sizes) in found), strict=True))
        for name, kind in kinds.items()
    }
    memory = {"jaxkd": ([sizes[0] for sizes in by_rows], [found["mb", sizes][0] for sizes in by_rows])}
    plot = growth_plot("Growth", "distance_correlation", {"n": lines, "n, memory": memory}, {"n, memory": "MB beside inputs and gradients"})
    header = ["n", "p", "q", "jaxkd ms", "bias-corrected ms", "student's gradient alone ms", "floor ms", "torch cdist ms", "torch Gram ms"]
    seconds = {f"{kind} {'x'.join(map(str, sizes))}": values for (kind, sizes), values in found.items()}
    details = {"repeats": settings.repeats, "threads": settings.threads, "seconds": seconds}
    blocks = [Table("Medians", [*header, *FLOOR_HEADER, "MB beside them"], rows, label_columns=3), plot]
    versions = peer_versions(settings.peer_python, "torch")
    return keep("distance_correlation", __doc__ or "", figures, details, settings.out, blocks=blocks, versions=versions)


def main() -> None:
    """Measures, and keeps the figures."""
    options = parser(__doc__, packages="torch", repeats=7, threads=True)
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    add_out(options)
    settings = options.parse_args()
    if settings.serve:
        serve()
        return
    use_threads(settings.threads)
    commands = {
        "jaxkd": [sys.executable, "-m", "benchmarks.distance_correlation", "--peer-python=-", "--serve"],
        "torch": [settings.peer_python, "benchmarks/distance_correlation_torch.py", str(settings.threads)],
    }
    with sides(commands) as ask:
        found = measure(ask, settings.repeats)
    sys.exit(kept(settings, found))


if __name__ == "__main__":
    main()
