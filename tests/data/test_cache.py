import pytest

from jaxkd.data.cache import describe, list_entries, remove_entries
from jaxkd.data.packages import PACKAGES
from jaxkd.errors import ConfigError
from jaxkd.files import atomic_directory, write_json

DATASET = "datasets/rendered_instruments-0123456789abcdef"
STORE = "stores/MTT_musicnn-max_mean_pool-0123456789ab"
BANK = "banks/TimGM6mb-0123456789ab-1"
UNFINISHED = [
    "datasets/.rendered_instruments-0123456789abcdef.ab_d1234.tmp",
    "stores/.MTT_musicnn-max_mean_pool-0123456789ab.abcd1234.tmp",
    "subclasses/lelp-0123456789ab.part",
]
LEAKAGE = "leakage/0123456789ab-ba9876543210-1.json"
ARCHIVE = f"packages/{PACKAGES['musicnn'].filename}"
NAMES = sorted([DATASET, STORE, BANK, *UNFINISHED, LEAKAGE, ARCHIVE, "compiled"])
FOREIGN = [
    "thesis.tex",
    "photos/1.jpg",
    "packages/thesis.whl",
    "datasets/mnist/manifest.json",
    "datasets/.hidden/x",
    "stores/a.db",
    "banks/mine.sf2",
    "leakage/x.json",
    "compiled/a.out",
]


@pytest.fixture
def cache(tmp_path):
    """A cache with an entry of each kind and those that killed runs left."""
    folder = tmp_path / "cache"
    for name in (DATASET, STORE, BANK):
        write_json(folder / name / "manifest.json", {"licence": "MIT", "fingerprint": "f" * 64})
        (folder / name / "rows.npy").write_bytes(bytes(1000))
    for name in UNFINISHED:
        write(folder / name / "train.inputs.npy", bytes(50))
    write(folder / LEAKAGE, b"{}")
    write(folder / ARCHIVE, b"cut short")
    write(folder / "compiled" / "jit_step-0123-cache", bytes(10))
    write(folder / "compiled" / "jit_step-0123-atime", bytes(20))
    return folder


@pytest.fixture
def foreign(cache):
    """Files beside and inside the folders of the cache that jaxkd did not make."""
    for name in FOREIGN:
        write(cache / name, b"precious")
    return [cache / name for name in FOREIGN]


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_lists_what_is_there(cache):
    entries = {entry.name: entry for entry in list_entries(cache)}
    assert list(entries) == NAMES
    assert entries["compiled"].size_bytes == 30
    assert entries[DATASET].licence == "MIT" and entries[DATASET].fingerprint == "f" * 64 and entries[DATASET].state == ""
    assert entries[ARCHIVE].licence == "ISC" and entries[ARCHIVE].state == "damaged"
    assert {entries[name].state for name in UNFINISHED} == {"unfinished"}
    text = describe(entries.values())
    assert "licence: ISC" in text and f"in {len(NAMES)} entries" in text and "unfinished" in text


def test_removes_by_name(cache):
    assert [entry.name for entry in remove_entries(cache, [DATASET, "compiled", DATASET])] == [DATASET, "compiled"]
    assert [entry.name for entry in list_entries(cache)] == [name for name in NAMES if name not in (DATASET, "compiled")]
    assert not (cache / DATASET).exists() and not any((cache / "compiled").iterdir())


@pytest.mark.parametrize("name", UNFINISHED)
def test_removes_what_a_killed_run_left(name, cache):
    remove_entries(cache, [name])
    assert not (cache / name).exists() and [entry.name for entry in list_entries(cache)] == [other for other in NAMES if other != name]


def test_what_an_atomic_write_leaves_is_unfinished(tmp_path):
    with atomic_directory(tmp_path / DATASET) as folder:
        assert [(entry.path, entry.state) for entry in list_entries(tmp_path)] == [(folder, "unfinished")]


def test_removes_all(cache):
    assert [entry.name for entry in remove_entries(cache, ["all"])] == NAMES
    assert list_entries(cache) == [] and not any(path.is_file() for path in cache.rglob("*"))


def test_foreign_files_are_neither_listed_nor_removed(cache, foreign):
    assert [entry.name for entry in list_entries(cache)] == NAMES
    with pytest.raises(ConfigError, match=r"unknown cache entry 'thesis\.tex'"):
        remove_entries(cache, ["thesis.tex"])
    remove_entries(cache, ["all"])
    assert {path for path in cache.rglob("*") if path.is_file()} == set(foreign)


def test_names_that_a_run_gives_are_listed(cache_dir, tiny_dataset, timgm_sf2, small_inputs):
    names = {entry.path for entry in list_entries(cache_dir)}
    assert {tiny_dataset.path, timgm_sf2.parent, small_inputs.store.path} <= names


def test_a_link_is_removed_and_not_what_it_points_to(cache, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / "a", b"a")
    link = cache / "datasets" / "audio_folder-0123456789abcdef"
    link.symlink_to(tmp_path / "elsewhere")
    remove_entries(cache, [f"datasets/{link.name}"])
    assert not link.is_symlink() and (tmp_path / "elsewhere" / "a").exists()


def test_unknown_name_removes_nothing(cache):
    with pytest.raises(ConfigError, match=f"Did you mean '{STORE}'"):
        remove_entries(cache, ["compiled", STORE[:-1]])
    assert [entry.name for entry in list_entries(cache)] == NAMES


def test_no_cache_is_an_empty_list(tmp_path):
    assert list_entries(tmp_path / "absent") == []
