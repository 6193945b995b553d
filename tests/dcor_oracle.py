"""dcor, imported by one process at a time: the first import of all compiles it into a cache of numba's that two processes at once would break."""

import tempfile
from pathlib import Path

from jaxkd.files import exclusive

with exclusive(Path(tempfile.gettempdir()) / "jaxkd-dcor", "import", "importing dcor"):
    import dcor

__all__ = ["dcor"]
