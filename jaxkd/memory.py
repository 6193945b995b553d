"""Memory of the process: what is freed stays, so that the next step need not ask the system for it again."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = -1
"""As a threshold of trimming: none of any size is reached. A largest int is, by the scratch space of a large student."""


def keep_freed() -> None:
    """Makes malloc of glibc keep freed memory for its next use; does nothing where there is no such malloc.

    A step on a CPU takes and frees its whole scratch space. As glibc is set up, that is given back to the system and comes anew, zeroed page by page, in each
    step: a tenth to a third of the time of a student's step. Threads that have allocated memory before keep to the old ways: call it before JAX computes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        # blocks of any size in the one heap that all threads share, since those of a thread's own are mapped from 64 MB on; its end is never given back
        for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER)):
            mallopt(parameter, value)
