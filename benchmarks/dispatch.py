"""Would several training steps a dispatch pay? The text job's step in a loop, against `lax.scan` over 8 of them, and against a loop that reads each loss.

Asked of the loop: not to be slower than the one that reads each loss. Of the scan nothing is asked: it is worth building from a gain of 15 % of the time of
training, and needs batches of one shape, which rows of tokens are not.

Command: python -m benchmarks.dispatch   (2 cores: a minute after the data of the text job are in the cache)
"""

import argparse
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.loader import assembled, seconds
from benchmarks.record import add_out, keep, of_repeats
from jaxkd.training.step import train_step

STEPS_PER_DISPATCH = 8


def measure(job: str, steps: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds a step of each way, all on one batch; the ways take turns within a repeat."""
    assembly = assembled(job)
    batch = assembly.devices.shard(assembly.loader.batch(0))
    several = jax.tree.map(lambda part: jnp.stack([part] * STEPS_PER_DISPATCH), batch)
    step = functools.partial(train_step, assembly.experiment, axis_name=None)
    scanned = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches), donate_argnums=0)

    def looped(read: bool) -> Any:
        state, pending = jax.tree.map(jnp.copy, assembly.state), []
        for _ in range(steps):
            state, terms = assembly.train(state, batch)
            pending.append(float(terms["loss"]) if read else terms)
        return state, pending

    def scan() -> Any:
        state, pending = jax.tree.map(jnp.copy, assembly.state), []
        for _ in range(steps // STEPS_PER_DISPATCH):
            state, terms = scanned(state, several)
            pending.append(terms)
        return state, pending

    ways: dict[str, Callable[[], Any]] = {
        "loop": lambda: looped(False),
        "loop, loss read each step": lambda: looped(True),
        f"scan over {STEPS_PER_DISPATCH}": scan,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            one = seconds(way)
            if repeat:
                taken[name].append(1e3 * one / steps)
    return taken


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", default=["text"], help="files of configs/ and their arguments; no convolutions")
    parser.add_argument("--steps", type=int, default=16 * STEPS_PER_DISPATCH)
    parser.add_argument("--repeats", type=int, default=9)
    add_out(parser)
    settings = parser.parse_args()
    figures = []
    for job in settings.jobs:
        taken = measure(job, settings.steps, settings.repeats)
        loop, *others = taken
        figures += [of_repeats(f"{job}: {name}", values, "ms a step") for name, values in taken.items()]
        ratios = {name: [other / own for other, own in zip(taken[name], taken[loop], strict=True)] for name in others}
        figures += [of_repeats(f"{job}: {name} / {loop}", values) for name, values in ratios.items()]
    sys.exit(keep("dispatch", __doc__ or "", figures, {"steps": settings.steps, "repeats": settings.repeats}, settings.out))


if __name__ == "__main__":
    main()
