"""A run's folder: whose it is, what it was started on, how long its stages took."""

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import logging
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxkd import config as configs
from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.files import allow_open_files, read_json, require_writable, write_json
from jaxkd.memory import keep_freed
from jaxkd.xla_flags import convolve_on_all_cores


def claim(workdir: Path, fields: dict[str, Any]) -> None:
    """Makes the workdir that of a config, or sees that it already is. A field that was added since it was begun had its default then.

    Raises:
      ConfigError: it belongs to another config; names the differing fields.
      ResourceError: it cannot be written to.
    """
    require_writable(workdir, "The workdir")
    file = workdir / "config.json"
    if file.exists():
        own, defaults = configs.result_fields(fields), configs.result_fields(configs.default_config())
        may_be_added = own.keys() & defaults.keys() - {"method", "seed"}  # these two a comparison never has, and a run always
        begun = {field: defaults[field] for field in may_be_added} | configs.result_fields(read_json(file))
        differing = configs.differing_fields(own, begun)
        if differing:
            raise ConfigError(
                f"the workdir {workdir} belongs to another config. Choose another --workdir, or set these fields back:\n  " + "\n  ".join(differing)
            )
    else:
        write_json(file, fields)


def claim_inputs(workdir: Path, inputs: dict[str, Any]) -> None:
    """Ties the workdir to the data and the weights that its results come from.

    Raises:
      ArtefactError: they have changed since; names the differing fields.
    """
    file = workdir / "inputs.json"
    if file.exists():
        differing = configs.differing_fields(configs.flatten(inputs), configs.flatten(read_json(file)))
        if differing:
            raise ArtefactError(
                f"the data or the teacher has changed since the workdir {workdir} was begun; choose another --workdir:\n  " + "\n  ".join(differing)
            )
    else:
        write_json(file, inputs)


SOURCE = "source of jaxkd"
"""The name, among the versions, of 12 hex digits of the checksum of jaxkd's own source."""


@functools.cache
def _source() -> str:
    """Read once, so that a process which goes on while files are edited keeps the name of what it began with."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def _versions() -> dict[str, str]:
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")
    return {**{name: importlib.metadata.version(name) for name in names}, SOURCE: _source()}


def code() -> dict[str, str]:
    """What the results of a run depend on beside its config: versions, and the checksum of jaxkd's own source."""
    return {"python": platform.python_version(), **_versions()}


def _environment() -> dict[str, Any]:
    import jax

    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        "versions": _versions(),
    }


@contextlib.contextmanager
def timed(workdir: Path, stage: str) -> Iterator[None]:
    """Adds the seconds inside to `timings.json`, also when the stage is interrupted."""
    file = workdir / "timings.json"
    started = time.perf_counter()
    try:
        yield
    finally:
        timings = read_json(file) if file.exists() else {}
        timings[stage] = round(timings.get(stage, 0.0) + time.perf_counter() - started, 2)
        write_json(file, timings)


def start_jax(workdir: Path, cache_dir: Path) -> None:
    """Turns the persistent compilation cache on, sets what is set for the whole process (memory, open files, cores), and notes what the run was started on."""
    import jax

    logging.getLogger("jax").setLevel(logging.WARNING)
    require_writable(cache_dir, "The cache folder")
    keep_freed()
    allow_open_files()
    convolve_on_all_cores()
    jax.config.update("jax_compilation_cache_dir", str(cache_dir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if not (workdir / "environment.json").exists():
        write_json(workdir / "environment.json", _environment())
