"""Does a step wait for its batch? Examples per second of the loader alone against the step alone, in the audio and in the text job, for 1 to 16 threads.

The claim: with one thread, as the loop has it, the loader reads at least as many examples a second as the step takes. Steps whose batches come from the loader
are timed too, with as many batches ahead as in the job: on a CPU loader and step share the cores. Nothing was measured on an accelerator. The floor of the
loader, which computes next to nothing, is a copy of the same batches by one thread.

Command: python -m benchmarks.loader   (2 cores: four minutes after the data of both jobs are in the cache, 3 GB of memory)
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.configs import named_config
from benchmarks.record import Figure, add_out, keep, of_repeats
from jaxkd import pipeline
from jaxkd.files import default_cache_dir
from jaxkd.memory import keep_freed
from jaxkd.results import numbers
from jaxkd.results.document import Table
from jaxkd.training.experiment import Assembly, assemble

THREADS = (1, 2, 4, 8, 16)
COPIED = "copy of the batches"


def assembled(job: str) -> Assembly:
    """The parts of a job of `configs/`, its data prepared, in a process that keeps its memory as that of a job does."""
    keep_freed()
    config = named_config(job)
    return assemble(config, pipeline.precompute(config, default_cache_dir()))


def seconds(function: Callable[[], Any]) -> float:
    """Of one call, whose results are waited for."""
    started = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - started


def measure(job: str, steps: int, repeats: int) -> tuple[list[Figure], dict[str, Any]]:
    """The figures of one job; all ways take turns within a repeat, on the same batches."""
    assembly = assembled(job)
    loader, devices, ahead = assembly.loader, assembly.devices, named_config(job).parallel.prefetch
    batches = [loader.batch(step) for step in range(steps)]
    placed = [devices.shard(batch) for batch in batches]
    start = jax.tree.map(jnp.copy, assembly.state)

    def trained(source: Any) -> Any:
        state = jax.tree.map(jnp.copy, start)
        for batch in source:
            state, _ = assembly.train(state, batch)
        return state

    def read(threads: int) -> None:
        with ThreadPoolExecutor(threads) as executor:
            for _ in executor.map(loader.batch, range(steps)):
                pass

    ways: dict[str, Callable[[], Any]] = {
        "step alone": lambda: trained(placed),
        "step from the loader": lambda: trained(loader.batches(0, steps, ahead=ahead, place=devices.shard)),
        **{f"loader, {count} thread{'s' * (count > 1)}": lambda count=count: read(count) for count in THREADS},
        COPIED: lambda: jax.tree.map(np.copy, batches),
    }
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            taken[name].append(seconds(way))
    examples = steps * loader.rows
    figures = [of_repeats(f"{job}: {name}", [examples / one for one in values], "examples/s") for name, values in taken.items()]
    alone, fed, one_thread = (taken[name] for name in ("step alone", "step from the loader", "loader, 1 thread"))
    figures += [
        of_repeats(f"{job}: loader / step", [own / other for own, other in zip(alone, one_thread, strict=True)], at_least=1.0),
        of_repeats(f"{job}: step from the loader / step alone", [own / other for own, other in zip(fed, alone, strict=True)]),
        of_repeats(f"{job}: loader, 1 thread, to the floor", [own / other for own, other in zip(one_thread, taken[COPIED], strict=True)]),
    ]
    megabytes = sum(leaf.nbytes for leaf in jax.tree.leaves(batches)) / steps / 1e6
    milliseconds = {"ms_per_step": min(alone), "ms_per_batch": min(one_thread), "ms_per_copy": min(taken[COPIED])}
    return figures, {"rows": loader.rows, "mb_per_batch": megabytes, **{name: 1e3 * one / steps for name, one in milliseconds.items()}}


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", default=["audio", "text"], help="files of configs/ and their arguments")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    add_out(parser)
    settings = parser.parse_args()
    measured = {job: measure(job, settings.steps, settings.repeats) for job in settings.jobs}
    details = {"steps": settings.steps, "repeats": settings.repeats, "jobs": {job: details for job, (_, details) in measured.items()}}
    header = ["job", "examples a batch", "MB a batch", "ms a step", "ms a batch, 1 thread", "ms of its copy"]
    rows = [[job, *map(numbers.amount, values.values())] for job, values in details["jobs"].items()]
    figures = [figure for of_job, _ in measured.values() for figure in of_job]
    sys.exit(keep("loader", __doc__ or "", figures, details, settings.out, blocks=[Table("Work, and the least times", header, rows)]))


if __name__ == "__main__":
    main()
