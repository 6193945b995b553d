"""What jaxkd makes of convolutions by hand on a CPU against the library's convolution: depthwise ones, and gradients of kernels as matrix products.

The claim: each takes less time than the library's, at sizes of the students: CP-ResNet on clips of 10 s, Mobile FCN on clips of 29 s. Both take turns within
each repeat, in one process; a ratio is that of a repeat. On a GPU or a TPU jaxkd takes the library's everywhere: nothing of this was measured there. The floor
(`benchmarks.floor`, its rates measured in each repeat): the multiply-adds of the shapes, or its two arguments read and its result written once.

Command: python -m benchmarks.convolutions   (2 cores: a minute, 3 GB of memory)
"""

import math
import statistics
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import floor
from benchmarks.pairs import timed
from benchmarks.record import chosen, keep, of_repeats
from jaxkd.memory import keep_freed
from jaxkd.models.convolution import convolve
from jaxkd.models.depthwise import depthwise_conv
from jaxkd.results.document import Table
from jaxkd.xla_flags import convolve_on_all_cores


class Case(NamedTuple):
    """One convolution: shape of its inputs [B, H, W, C], its output channels, size and stride of its kernel, whether each channel has a kernel of its own."""

    inputs: tuple[int, int, int, int]
    out: int
    size: int
    stride: int = 1
    depthwise: bool = False


CASES = {
    "depthwise, Mobile FCN": (Case((16, 121, 24, 128), 128, 3, depthwise=True), ("value", "inputs", "kernel")),
    "depthwise with stride, MobileNet": (Case((64, 32, 32, 32), 32, 3, 2, depthwise=True), ("value", "inputs", "kernel")),
    "1x1, Mobile FCN": (Case((16, 121, 24, 128), 128, 1), ("kernel",)),
    "1x1, CP-ResNet": (Case((4, 62, 8, 512), 512, 1), ("kernel",)),
    "on one channel, Mobile FCN": (Case((16, 1457, 96, 1), 64, 3), ("kernel",)),
    "on one channel, CP-ResNet": (Case((4, 1000, 128, 1), 128, 5, 2), ("kernel",)),
}
"""Convolutions, and of which jaxkd has forms of its own: the value, the gradient of the inputs, of the kernel."""


def library(case: Case) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """XLA's own."""
    padding, groups = [(case.size // 2, case.size // 2)] * 2, case.inputs[-1] if case.depthwise else 1

    def convolved(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(inputs, kernel, (case.stride,) * 2, padding, dimension_numbers=names, feature_group_count=groups)

    return convolved


def own(case: Case) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """As the students have it."""
    if case.depthwise:
        return lambda inputs, kernel: depthwise_conv(inputs, kernel, case.stride)
    return lambda inputs, kernel: convolve(inputs, kernel, case.stride, case.size // 2)


def work(case: Case) -> floor.Work:
    """Of the value; each gradient has as many multiply-adds, and two of these three arrays as arguments and the third as its result."""
    rows, height, width, channels = case.inputs
    outputs, into = rows * -(-height // case.stride) * -(-width // case.stride) * case.out, 1 if case.depthwise else channels
    kernel = case.size**2 * into * case.out
    return floor.Work(2 * outputs * case.size**2 * into, 4 * (math.prod(case.inputs) + kernel + outputs))


def build(convolved: Callable[[jax.Array, jax.Array], jax.Array], case: Case, result: str) -> Callable[[], Any]:
    """What is timed: one result of a convolution of random numbers."""
    draw = jax.random.normal
    inputs = draw(jax.random.key(0), case.inputs)
    kernel = draw(jax.random.key(1), (case.size, case.size, 1 if case.depthwise else case.inputs[-1], case.out))
    if result == "value":
        value = jax.jit(convolved)
        return lambda: value(inputs, kernel)
    place = ("inputs", "kernel").index(result)
    gradient = jax.jit(lambda inputs, kernel, cotangent: jax.vjp(convolved, inputs, kernel)[1](cotangent)[place])
    cotangent = draw(jax.random.key(2), jax.eval_shape(convolved, inputs, kernel).shape)
    return lambda: gradient(inputs, kernel, cotangent)


def measure(case: Case, result: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of each side and repeat, and of the floor."""
    sides = {"library": build(library(case), case, result), "jaxkd": build(own(case), case, result)}
    one, other = (jnp.asarray(call()) for call in sides.values())
    assert float(jnp.abs(one - other).max()) <= 1e-4 * float(jnp.abs(one).max()), "the two forms differ"
    taken: dict[str, list[float]] = {side: [] for side in (*sides, "floor")}
    for _ in range(repeats):
        for side, call in sides.items():
            taken[side].append(timed(call, 1)["wall_s"])
        taken["floor"].append(work(case).seconds(floor.rates()))
    return taken


def main() -> None:
    """Measures, and keeps the figures."""
    settings = chosen(__doc__, "cases", list(CASES), repeats=9)
    keep_freed()
    convolve_on_all_cores()
    taken = {
        f"{name}: {'value' if result == 'value' else f'gradient of the {result}'}": measure(case, result, settings.repeats)
        for name, (case, results) in ((name, CASES[name]) for name in settings.cases)
        for result in results
    }
    figures = [
        of_repeats(f"{name}, jaxkd / library", [ours / theirs for ours, theirs in zip(values["jaxkd"], values["library"], strict=True)], at_most=1.0)
        for name, values in taken.items()
    ]
    rows = []
    for name, values in taken.items():
        needed = work(CASES[name.rpartition(": ")[0]][0])
        to_floor = statistics.median(own / least for own, least in zip(values["jaxkd"], values["floor"], strict=True))
        shown = [1e3 * statistics.median(values[side]) for side in ("jaxkd", "library", "floor")]
        rows.append([name, *(f"{value:.2f}" for value in (*shown, to_floor, needed.flop / 1e9, needed.bytes / 1e6))])
    blocks = [Table("Medians", ["convolution", "jaxkd ms", "library ms", "floor ms", "jaxkd / floor", "GFLOP", "MB"], rows)]
    sys.exit(keep("convolutions", __doc__ or "", figures, {"repeats": settings.repeats, "seconds": taken}, settings.out, blocks=blocks))


if __name__ == "__main__":
    main()
