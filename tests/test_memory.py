"""Memory that is freed and taken again, by the page faults that the system counts."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
import numpy as np
from jaxkd.memory import keep_freed
if sys.argv[1] == "kept":
    keep_freed()
def use():
    np.ones(int(sys.argv[2]), np.uint8)
def in_a_thread():
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
for way in (use, in_a_thread):
    way()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    way()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of glibc")
@pytest.mark.parametrize(("way", "size"), [("kept", 10**8), ("kept", 2500 * 10**6), ("not kept", 10**8)])
def test_freed_memory_is_taken_again_without_page_faults(way, size):
    """Also more than an int counts, in bytes."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, way, str(size)], capture_output=True, text=True, check=True)
    faults = [int(line) for line in done.stdout.split()]
    assert len(faults) == 2
    assert all(count < 10 for count in faults) if way == "kept" else all(count > 20 for count in faults)
