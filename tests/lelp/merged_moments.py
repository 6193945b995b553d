"""Merges the class moments of this process's rows with those of the other processes; test_moments.py runs it.

Arguments: file of the rows, file of the result, and for several processes their address, their number and the place of this one.
"""

import sys

import jax
import numpy as np

from jaxkd.lelp import class_moments, merge_processes


def main() -> None:
    rows, out, *several = sys.argv[1:]
    if several:
        address, processes, process = several
        jax.distributed.initialize(address, int(processes), int(process), initialization_timeout=60, heartbeat_timeout_seconds=10, shutdown_timeout_seconds=10)
    with np.load(rows) as arrays:
        moments = class_moments([(arrays["embedding"], arrays["labels"])], num_classes=int(arrays["classes"]))
    merged = merge_processes(moments)
    np.savez(out, devices=[jax.local_device_count(), jax.device_count()], **merged._asdict())


if __name__ == "__main__":
    main()
