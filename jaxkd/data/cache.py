"""What the cache holds: listing and removing its entries."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaxkd.data.packages import PACKAGES
from jaxkd.errors import ArtefactError, unknown_name
from jaxkd.files import directory_bytes, read_json

UNDIVIDED = ("compiled",)
ALL = "all"


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache.

    Attributes:
      name: its path below the cache, which `remove_entries` takes.
      size_bytes: its size.
      licence: the terms of its content, or "" where they are not known.
      fingerprint: what identifies it (of an archive, its sha256), or "".
      state: "" or what is wrong: left unfinished by a run that was killed, or damaged.
      path: where it lies.
    """

    name: str
    size_bytes: int
    licence: str
    fingerprint: str
    state: str
    path: Path


def list_entries(cache_dir: Path) -> list[CacheEntry]:
    """All entries of a cache, by name: each archive, data set, bank and store; folders of compiled programs as a whole."""
    cache_dir = Path(cache_dir)
    if not cache_dir.is_dir():
        return []
    paths: list[Path] = []
    for top in cache_dir.iterdir():
        paths += [top] if top.is_file() or top.name in UNDIVIDED else list(top.iterdir())
    return sorted((_entry(path, cache_dir) for path in paths), key=lambda entry: entry.name)


def remove_entries(cache_dir: Path, names: Iterable[str]) -> list[CacheEntry]:
    """Removes entries by name, or every one with the name "all"; returns what was removed.

    Raises:
      ConfigError: no entry has such a name; nothing is removed.
    """
    entries = {entry.name: entry for entry in list_entries(cache_dir)}
    names = list(names)
    if names == [ALL]:
        names = list(entries)
    for name in names:
        if name not in entries:
            raise unknown_name("cache entry", name, [*entries, ALL])
    for name in names:
        path = entries[name].path
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [entries[name] for name in names]


def _entry(path: Path, cache_dir: Path) -> CacheEntry:
    name = path.relative_to(cache_dir).as_posix()
    size = directory_bytes(path) if path.is_dir() else path.stat().st_size
    if path.name.startswith("."):
        return CacheEntry(name, size, "", "", "unfinished", path)
    package = next((package for package in PACKAGES.values() if package.filename == path.name), None)
    if package is not None:
        state = "" if size == package.size_bytes else "damaged"
        return CacheEntry(name, size, package.licence, package.sha256, state, path)
    manifest = path / "manifest.json"
    if not manifest.is_file():
        return CacheEntry(name, size, "", "", "", path)
    try:
        described = read_json(manifest)
    except ArtefactError:
        return CacheEntry(name, size, "", "", "damaged", path)
    return CacheEntry(name, size, str(described.get("licence", "")), str(described.get("fingerprint", "")), "", path)


def describe(entries: Iterable[CacheEntry]) -> str:
    """Entries as lines of text: size, name, what is wrong with it, licence, start of the fingerprint; then the total."""
    entries = list(entries)
    lines = []
    for entry in entries:
        remarks = [entry.state, entry.licence and f"licence: {entry.licence}", entry.fingerprint and f"fingerprint: {entry.fingerprint[:16]}"]
        lines.append(f"{entry.size_bytes / 1e6:10,.1f} MB  {entry.name}" + "".join(f"\n{'':15}{remark}" for remark in remarks if remark))
    return "\n".join([*lines, f"{sum(entry.size_bytes for entry in entries) / 1e6:10,.1f} MB  in {len(entries)} entries"])
