"""Files that are never half-written: atomic write, checksum, the cache folder, free disk and memory."""

import contextlib
import glob
import hashlib
import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from jaxkd.errors import ArtefactError, ResourceError

CHUNK_BYTES = 1 << 20


def sha256_file(path: str | os.PathLike) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of the canonical JSON form of a value: equal values, equal digests."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def allow_open_files() -> None:
    """Raises the number of files that this process may open to what the system grants it: an embedding store holds one for each shard."""
    _, granted = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # macOS grants less than the "unlimited" that it names
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, granted))


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary name in the same folder; on a clean exit the file is synced and renamed to `path`, else removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary folder; on a clean exit its files are synced and it is renamed to `path` (which it replaces)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
        _sync_directory(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(path: str | os.PathLike) -> None:
    """Removes what runs that were killed left of `atomic_directory(path)`; no other process may be writing it."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def exclusive(folder: str | os.PathLike, name: str, what: str) -> Iterator[None]:
    """Keeps other processes out of the same block for the same name; says so on the screen where it has to wait.

    The lock is the operating system's (on `folder/locks/NAME.lock`): that of a process that was killed is gone with it.

    Args:
      folder: shared by the processes; made if it is not there.
      name: of what is made.
      what: is done; for the message.
    """
    locks = Path(folder) / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(locks / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"Another process is {what} ({folder}): waiting for it.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def as_json(value: Any) -> Any:
    """A nested value as JSON gives it back: tuples become lists; a ConfigDict becomes a dict."""
    return json.loads(json.dumps(value.to_dict() if hasattr(value, "to_dict") else value))


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Raises:
      ArtefactError: the file is missing or is not a JSON object; the message names it.
    """
    try:
        value = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is not valid JSON ({error}): it is damaged; remove it and run again.") from error
    if not isinstance(value, dict):
        raise ArtefactError(f"{path} holds no JSON object: it is damaged; remove it and run again.")
    return value


def default_cache_dir() -> Path:
    """The cache folder of this user: $JAXKD_CACHE_DIR, else jaxkd under $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("JAXKD_CACHE_DIR")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxkd"


def require_free_disk(path: str | os.PathLike, needed_bytes: int, purpose: str) -> None:
    """Raises ResourceError if the file system that holds `path` has less than `needed_bytes` free."""
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ResourceError(
            f"{purpose} needs {needed_bytes / 1e6:,.0f} MB of disk, but {folder} has {free / 1e6:,.0f} MB free. "
            "Free some space, or choose another folder (--cache_dir, --workdir)."
        )


def available_memory_bytes() -> int | None:
    """Memory that can be allocated without swapping, in bytes; None where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def require_free_memory(needed_bytes: int, purpose: str) -> None:
    """Raises ResourceError if fewer than `needed_bytes` of memory are available."""
    available = available_memory_bytes()
    if available is not None and available < needed_bytes:
        raise ResourceError(
            f"{purpose} needs {needed_bytes / 1e6:,.0f} MB of memory, but {available / 1e6:,.0f} MB are available. "
            "Close other programs, or choose smaller sizes."
        )


def require_writable(path: str | os.PathLike, purpose: str) -> None:
    """Creates the folder `path` and raises ResourceError if it cannot be written to."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ResourceError(f"{purpose} {path} cannot be written to ({error.strerror}). Choose another with the flag, or change its permissions.") from error


def directory_bytes(path: str | os.PathLike) -> int:
    """Sum of the sizes of all files below a folder."""
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
