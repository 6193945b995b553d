import dataclasses
import hashlib
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxkd.data import fetch as fetch_module
from jaxkd.data.fetch import _command, fetch, is_cached
from jaxkd.data.packages import PACKAGES, Package
from jaxkd.errors import FetchError, ResourceError
from jaxkd.files import sha256_file

CONTENT = b"the archive" * 1000
PACKAGE = Package(
    name="some-bank",
    version="1.0-1",
    registry="debian",
    filename="some-bank_1.0-1_all.deb",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size_bytes=len(CONTENT),
    content="a bank",
    licence="MIT",
    licence_text="Copyright somebody.",
    local_option="--config.data.unseen_bank_archive",
)


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Puts a program of this behaviour in the place of a package client."""

    def install(body: str, name: str = "apt-get") -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        script = folder / name
        script.write_text(f"#!{sys.executable}\nimport sys, time\nopen({str(tmp_path / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return tmp_path / "calls"

    return install


WRITES = f"open({PACKAGE.filename!r}, 'wb').write(b'the archive' * 1000)"


def test_fetches_once_and_shows_the_licence_once(client, tmp_path, capsys):
    calls = client(WRITES)
    path = fetch(PACKAGE, tmp_path / "cache")
    assert path == tmp_path / "cache" / "packages" / PACKAGE.filename and path.read_bytes() == CONTENT
    assert "Licence: MIT. Copyright somebody." in capsys.readouterr().err
    assert fetch(PACKAGE, tmp_path / "cache") == path
    assert "Licence" not in capsys.readouterr().err
    assert calls.read_text().count("\n") == 1 and "download some-bank=1.0-1" in calls.read_text()


def test_progress_is_in_bytes(client, tmp_path, capsys):
    client(WRITES)
    fetch(PACKAGE, tmp_path)
    assert "10.7k/10.7k" in capsys.readouterr().err


def test_wrong_checksum_names_both_and_keeps_nothing(client, tmp_path):
    client(f"open({PACKAGE.filename!r}, 'wb').write(b'something else')")
    with pytest.raises(FetchError) as error:
        fetch(PACKAGE, tmp_path)
    assert PACKAGE.sha256 in str(error.value) and hashlib.sha256(b"something else").hexdigest() in str(error.value)
    assert list((tmp_path / "packages").iterdir()) == []


def test_broken_download_leaves_nothing_and_the_next_one_starts_anew(client, tmp_path):
    client(f"open({PACKAGE.filename!r}, 'wb').write(b'the arch'); sys.exit('connection reset by peer')")
    with pytest.raises(FetchError, match=r"(?s)some-bank 1\.0-1.*apt-get failed \(exit status 1\).*connection reset by peer.*unseen_bank_archive=FILE"):
        fetch(PACKAGE, tmp_path)
    assert list((tmp_path / "packages").iterdir()) == []
    client(WRITES)
    assert fetch(PACKAGE, tmp_path).read_bytes() == CONTENT


def test_a_client_that_hangs_is_given_up(client, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_module, "STALL_SECONDS", 0.3)
    client("time.sleep(60)")
    with pytest.raises(FetchError, match="nothing arrived"):
        fetch(PACKAGE, tmp_path)


def test_damaged_cached_copy_is_fetched_again(client, tmp_path, capsys):
    client(WRITES)
    path = fetch(PACKAGE, tmp_path)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert not is_cached(PACKAGE, tmp_path)
    assert fetch(PACKAGE, tmp_path).read_bytes() == CONTENT
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("registry, client_name", [("debian", "apt-get"), ("npm", "npm")])
def test_missing_client(registry, client_name, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match=f"comes through {client_name}, which is not there.*unseen_bank_archive=FILE"):
        fetch(dataclasses.replace(PACKAGE, registry=registry), tmp_path)


def test_missing_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match=r"comes through pip.*ensurepip"):
        fetch(dataclasses.replace(PACKAGE, registry="pypi"), tmp_path)


def test_offline_pip(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(FetchError, match=r"(?s)musicnn 0\.1\.0.*pip failed.*No matching distribution.*--config\.teacher\.archive=FILE"):
        fetch(PACKAGES["musicnn"], tmp_path)


def test_pip_fetches_a_verified_archive(cache_dir, tmp_path, monkeypatch):
    package = PACKAGES["pretty_midi"]
    folder = fetch(package, cache_dir).parent
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    path = fetch(package, tmp_path)
    assert sha256_file(path) == package.sha256 and path.stat().st_size == package.size_bytes


def test_local_file(tmp_path):
    good, bad = tmp_path / "good.deb", tmp_path / "bad.deb"
    good.write_bytes(CONTENT)
    bad.write_bytes(CONTENT[:100])
    assert fetch(PACKAGE, tmp_path / "cache", local_file=str(good)) == good
    with pytest.raises(FetchError, match=f"{PACKAGE.sha256}.*100 bytes"):
        fetch(PACKAGE, tmp_path / "cache", local_file=str(bad))
    with pytest.raises(FetchError, match="no such file"):
        fetch(PACKAGE, tmp_path / "cache", local_file=str(tmp_path / "absent"))
    assert not (tmp_path / "cache").exists()


def test_full_disk(client, tmp_path, monkeypatch):
    client(WRITES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(ResourceError, match=r"fetching some-bank needs"):
        fetch(PACKAGE, tmp_path)


def test_a_wheel_of_one_platform_is_asked_for_by_its_tags(tmp_path):
    """Whatever Python runs, the archive must be the one whose checksum is known."""
    command = " ".join(_command(PACKAGES["wordllama"], tmp_path))
    assert "--python-version 311 --abi cp311 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 wordllama==" in command
    assert "--platform" not in " ".join(_command(PACKAGES["musicnn"], tmp_path))
