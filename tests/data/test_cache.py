import pytest

from jaxkd.data.cache import describe, list_entries, remove_entries
from jaxkd.data.packages import PACKAGES
from jaxkd.errors import ConfigError
from jaxkd.files import write_json


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    package = PACKAGES["musicnn"]
    (folder / "packages").mkdir(parents=True)
    (folder / "packages" / package.filename).write_bytes(b"cut short")
    for name in ("datasets/one-abc", "stores/two-def"):
        write_json(folder / name / "manifest.json", {"licence": "MIT", "fingerprint": "f" * 64})
        (folder / name / "rows.npy").write_bytes(bytes(1000))
    (folder / "stores" / ".three.tmp").mkdir()
    (folder / "compiled").mkdir()
    (folder / "compiled" / "a").write_bytes(bytes(10))
    (folder / "compiled" / "b").write_bytes(bytes(20))
    return folder


def test_lists_what_is_there(cache):
    entries = {entry.name: entry for entry in list_entries(cache)}
    archive = f"packages/{PACKAGES['musicnn'].filename}"
    assert sorted(entries) == sorted(["compiled", "datasets/one-abc", "stores/two-def", "stores/.three.tmp", archive])
    assert entries["compiled"].size_bytes == 30
    assert entries["datasets/one-abc"].licence == "MIT" and entries["datasets/one-abc"].fingerprint == "f" * 64
    assert entries[archive].licence == "ISC" and entries[archive].state == "damaged"
    assert entries["stores/.three.tmp"].state == "unfinished"
    text = describe(entries.values())
    assert "licence: ISC" in text and "in 5 entries" in text and "unfinished" in text


def test_removes_by_name(cache):
    assert [entry.name for entry in remove_entries(cache, ["datasets/one-abc", "compiled"])] == ["datasets/one-abc", "compiled"]
    assert not (cache / "datasets" / "one-abc").exists() and not (cache / "compiled").exists() and (cache / "stores" / "two-def").exists()


def test_removes_all(cache):
    assert len(remove_entries(cache, ["all"])) == 5
    assert list_entries(cache) == []


def test_unknown_name_removes_nothing(cache):
    with pytest.raises(ConfigError, match=r"Did you mean 'stores/two-def'"):
        remove_entries(cache, ["compiled", "stores/two-de"])
    assert len(list_entries(cache)) == 5


def test_no_cache_is_an_empty_list(tmp_path):
    assert list_entries(tmp_path / "absent") == []
