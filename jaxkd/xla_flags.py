"""Flags of XLA, which it reads once, when JAX first computes."""

import os

_LIBRARY = "--xla_cpu_experimental_ynn_fusion_type"
_ONE_CORE = "0.10.2"
"""The version of jaxlib (the last for Python 3.11) whose convolutions of more than 16 channels stay on one core; in 0.12 they use all."""


def convolve_on_all_cores() -> None:
    """Has convolutions on a CPU made by Eigen, on all cores, where YNNPACK makes them on one.

    Does nothing with other versions of jaxlib, which may not know the flag, and where the environment sets the flag already. Call it before JAX computes.
    """
    from jaxlib.version import __version__

    flags = os.environ.get("XLA_FLAGS", "")
    if __version__ == _ONE_CORE and _LIBRARY not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_LIBRARY}=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION".strip()
