"""What a training cost: seconds, memory, trained parameters."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxkd.files import read_json, write_json

FILE = "training.json"
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
_CLEAR_REFS = Path("/proc/self/clear_refs")


def _begin_peak() -> None:
    """Linux only: the peak of the resident memory starts anew from what the process holds now. Elsewhere it is that of the whole process."""
    if _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5")


@contextlib.contextmanager
def measured(workdir: Path, trained_parameters: int) -> Iterator[None]:
    """Keeps the cost of the training inside in `workdir/training.json`, also when it is interrupted; what goes on later is added.

    The file holds "seconds" (compilation and validation counted), "peak_memory_bytes" (of the whole process, `ru_maxrss`), "trained_parameters".
    """
    before = training_cost(workdir) or {"seconds": 0.0, "peak_memory_bytes": 0}
    _begin_peak()
    started = time.perf_counter()
    try:
        yield
    finally:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
        cost = {
            "seconds": round(before["seconds"] + time.perf_counter() - started, 2),
            "peak_memory_bytes": max(before["peak_memory_bytes"], peak),
            "trained_parameters": trained_parameters,
        }
        write_json(workdir / FILE, cost)


def training_cost(workdir: Path) -> dict[str, Any] | None:
    """What `measured` kept, or None where nothing was trained."""
    return read_json(workdir / FILE) if (workdir / FILE).exists() else None
