"""The torch side of `benchmarks.distance_correlation`: value and gradient of both sides, in torch's usual ways. Needs torch and numpy alone.

Reads one command a line and answers with one JSON line: "KIND-N-P-Q CALLS" -> {"wall_s", "cpu_s"}, the mean of so many calls in a row. KIND is "cdist" or
"gram", of rows [N, P] and [N, Q], or "authors", EAsT's own formula on 62 frames of N rows.
"""

import json
import os
import sys
from collections.abc import Callable

import numpy as np
import torch
from east_step_torch import distance
from student_step_torch import seconds


def gram(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Distances from the Gram matrix; x and y are the same."""
    x = x - x.mean(dim=0)
    products = x @ x.T
    norms = products.diagonal()
    return torch.sqrt((norms[:, None] + norms - 2 * products).clamp(min=0) + 1e-12)


def centred(apart: torch.Tensor) -> torch.Tensor:
    """Without row and column means."""
    return apart - apart.mean(dim=0, keepdim=True) - apart.mean(dim=1, keepdim=True) + apart.mean()


def part(kind: str, rows: int, *widths: int) -> Callable[[], None]:
    """What is timed."""
    rng = np.random.default_rng(0)
    frames = (62,) if kind == "authors" else ()
    sides = [torch.from_numpy(rng.standard_normal((rows, *frames, width)).astype(np.float32)).requires_grad_() for width in widths]

    def value() -> torch.Tensor:
        if kind == "authors":
            return distance(*sides)
        a, b = (centred({"cdist": torch.cdist, "gram": gram}[kind](side, side)) for side in sides)
        return (a * b).mean() / torch.sqrt((a * a).mean() * (b * b).mean())

    def value_and_gradient() -> None:
        torch.autograd.grad(value(), sides)

    return value_and_gradient


def main() -> None:
    """Answers on standard output."""
    torch.set_num_threads(int(sys.argv[1]) or os.cpu_count() or 1)
    parts: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        name, calls = line.split()
        if name not in parts:
            kind, *sizes = name.split("-")
            parts[name] = part(kind, *map(int, sizes))
            parts[name]()
        print(json.dumps(seconds(parts[name], int(calls))), flush=True)


if __name__ == "__main__":
    main()
