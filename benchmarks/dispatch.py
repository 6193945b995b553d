"""Do several training steps a dispatch pay? Eight steps of text jobs in a loop, against one program of them and a loop that reads each loss.

The claim: to read each loss does not make the loop faster. The second job is as small as a student gets: a step of it takes about a millisecond or less. Of the
steps together (`training.steps_per_dispatch`) nothing is asked; what they save in all steps of the job, in the form that this machine gets, is kept beside the
time of their first call, which compiles it. In a scan, convolutions are out of the question on a CPU, where XLA computes their gradients far more slowly.

Command: python -m benchmarks.dispatch   (2 cores: two minutes after the data of the text jobs are in the cache, 1 GB of memory)
"""

import argparse
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.configs import named_config
from benchmarks.loader import assembled, seconds
from benchmarks.record import Figure, add_out, keep, of_repeats
from jaxkd.training.step import train_steps

STEPS = 8
LOOP, READ, ROLLED, UNROLLED = "loop", "loop, each loss read", "together, in a scan", "together, one after the other"


def measure(job: str, repeats: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Milliseconds a step of each way, from `STEPS` steps on one batch; the ways take turns, each with a state of its own. Seconds of each way's first call."""
    assembly = assembled(job)
    batch = assembly.devices.shard(assembly.loader.batch(0))

    def looped(read: bool) -> Callable[[Any], Any]:
        def run(state: Any) -> Any:
            pending = []
            for _ in range(STEPS):
                state, terms = assembly.train(state, batch)
                pending.append(float(terms["loss"]) if read else terms)
            return state, pending

        return run

    def together(unroll: bool) -> Callable[[Any], Any]:
        compiled = assembly.devices.compile(functools.partial(train_steps, assembly.experiment, unroll=unroll), updates=assembly.state)
        return lambda state: compiled(state, (batch,) * STEPS)

    ways = {LOOP: looped(False), READ: looped(True), ROLLED: together(False), UNROLLED: together(True)}
    states = {name: jax.tree.map(jnp.copy, assembly.state) for name in ways}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    first: dict[str, float] = {}

    def advance(name: str) -> Any:
        states[name], terms = ways[name](states[name])
        return states[name], terms

    for repeat in range(repeats + 1):
        for name in ways:
            one = seconds(functools.partial(advance, name))
            if repeat:
                taken[name].append(1e3 * one / STEPS)
            else:
                first[name] = one
    return taken, first


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", default=["text", "text:method=kd,runlocal"], help="files of configs/ and their arguments; no convolutions")
    parser.add_argument("--repeats", type=int, default=300)
    add_out(parser)
    settings = parser.parse_args()
    figures, own_way = [], UNROLLED if jax.default_backend() == "cpu" else ROLLED
    for job in settings.jobs:
        taken, first = measure(job, settings.repeats)
        steps = named_config(job).training.steps
        figures += [of_repeats(f"{job}: {name}", values, "ms a step") for name, values in taken.items()]
        for name in [name for name in taken if name != LOOP]:
            ratios = [other / own for other, own in zip(taken[name], taken[LOOP], strict=True)]
            figures.append(of_repeats(f"{job}: {name} / {LOOP}", ratios, **({"at_least": 1.0} if name == READ else {})))
        saved = [(own - other) * steps / 1e3 for own, other in zip(taken[LOOP], taken[own_way], strict=True)]
        figures += [
            of_repeats(f"{job}: what {own_way} saves in the {steps:,} steps of the job", saved, "s"),
            Figure(f"{job}: the first call of {own_way}", first[own_way], "s"),
        ]
    sys.exit(keep("dispatch", __doc__ or "", figures, {"steps": STEPS, "repeats": settings.repeats}, settings.out))


if __name__ == "__main__":
    main()
