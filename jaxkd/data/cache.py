"""What the cache holds: listing and removing its entries.

Only what jaxkd itself puts there is an entry. Everything else in the folder is neither listed nor removed, so a wrong `--cache_dir` costs no file.
"""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaxkd.data.packages import PACKAGES
from jaxkd.errors import ArtefactError, unknown_name
from jaxkd.files import directory_bytes, read_json

ENTRY_NAMES = {
    "packages": "|".join(re.escape(package.filename) for package in PACKAGES.values()),
    "banks": r".+-[0-9a-f]{12}-\d+",
    "datasets": r".+-[0-9a-f]{16}",
    "tokens": r".+-[0-9a-f]{16}",
    "stores": r".+-[0-9a-f]{12}",
    "classifiers": r".+-[0-9a-f]{12}",
    "subclasses": r".+-[0-9a-f]{12}(\.part)?",
    "leakage": r"[0-9a-f]{12}-[0-9a-f]{12}-\d+\.json",
}
TEMPORARY_NAME = r"\.(.+)\.\w{8}\.tmp"
PART_SUFFIX = ".part"
"""Of what an interrupted run goes on from."""
COMPILED = "compiled"
COMPILED_NAMES = re.compile(r".+-(cache|atime)|xla_gpu_.+")
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
    """All entries of a cache, by name, whole or unfinished: each archive and what was made from them; compiled programs as one."""
    cache_dir = Path(cache_dir)
    entries = []
    for folder in ENTRY_NAMES:
        if (cache_dir / folder).is_dir():
            entries += [_entry(path, cache_dir) for path in (cache_dir / folder).iterdir() if re.fullmatch(ENTRY_NAMES[folder], _final_name(path))]
    programs = _compiled(cache_dir)
    if programs:
        entries.append(CacheEntry(COMPILED, sum(map(_size, programs)), "", "", "", cache_dir / COMPILED))
    return sorted(entries, key=lambda entry: entry.name)


def remove_entries(cache_dir: Path, names: Iterable[str]) -> list[CacheEntry]:
    """Removes entries by name, or every one with the name "all"; returns what was removed.

    Raises:
      ConfigError: no entry has such a name; nothing is removed.
    """
    entries = {entry.name: entry for entry in list_entries(cache_dir)}
    names = list(dict.fromkeys(names))
    if names == [ALL]:
        names = list(entries)
    for name in names:
        if name not in entries:
            raise unknown_name("cache entry", name, [*entries, ALL])
    for name in names:
        for path in _compiled(cache_dir) if name == COMPILED else [entries[name].path]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return [entries[name] for name in names]


def _final_name(path: Path) -> str:
    """The name that a temporary file or folder was to have; that of any other is its own."""
    temporary = re.fullmatch(TEMPORARY_NAME, path.name)
    return temporary[1] if temporary else path.name


def _compiled(cache_dir: Path) -> list[Path]:
    folder = Path(cache_dir) / COMPILED
    return [path for path in folder.iterdir() if COMPILED_NAMES.fullmatch(path.name)] if folder.is_dir() else []


def _size(path: Path) -> int:
    return directory_bytes(path) if path.is_dir() else path.lstat().st_size


def _entry(path: Path, cache_dir: Path) -> CacheEntry:
    name = path.relative_to(cache_dir).as_posix()
    size = _size(path)
    if re.fullmatch(TEMPORARY_NAME, path.name) or path.suffix == PART_SUFFIX:
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
