import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxkd.embeddings import EmbeddingStore
from jaxkd.embeddings.store import mean_embeddings, mean_embeddings_at
from jaxkd.errors import ArtefactError, ConfigError, DataError, ResourceError
from jaxkd.files import allow_open_files

IDENTITY = {"teacher": "pca", "weight_hash": "ab12", "preprocessing": {"scale": 16, "bands": [1, 2]}, "data_fingerprint": "f00d"}
IDS = [f"digit{i:03d}" for i in range(100)]
VECTORS = load_digits().data[:100].reshape(100, 2, 32)


def write(path: Path, *, vectors=VECTORS, ids=IDS, dtype="float16", shard_rows=32) -> EmbeddingStore:
    writer = EmbeddingStore.create(path, identity=IDENTITY, dim=32, dtype=dtype, shard_rows=shard_rows)
    writer.append(ids, vectors)
    return writer.finish()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("shard_rows", [1000, 32, 1])
def test_gather_returns_what_was_written_in_any_order(tmp_path, dtype, shard_rows):
    write(tmp_path / "store", dtype=dtype, shard_rows=shard_rows)
    store = EmbeddingStore.open(tmp_path / "store", expected=IDENTITY)
    order = np.random.default_rng(0).integers(0, 100, 150)
    gathered = store.gather([IDS[i] for i in order])
    assert gathered.dtype == dtype
    np.testing.assert_array_equal(gathered, VECTORS[order].astype(dtype))
    assert (store.ids, len(store), store.dim, store.frames, store.identity) == (tuple(IDS), 100, 32, 2, IDENTITY)
    assert store.gather([]).shape == (0, 2, 32)
    store.verify()


def test_more_shards_than_files_may_be_open_are_named_and_what_the_system_grants_is_taken(tmp_path):
    write(tmp_path / "store", shard_rows=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/dev/fd")) + 20
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
        with pytest.raises(ResourceError, match=rf"50 shards of 2 examples, .* may open {few}: raise that limit .* \(--config.store.shard_rows\)"):
            EmbeddingStore.open(tmp_path / "store")
        allow_open_files()
        assert len(EmbeddingStore.open(tmp_path / "store")) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("rows", [range(32, 64), range(3, 9), range(30, 100), range(31, 65), [99], [5, 4, 3], [3, 4, 6], [7, 7], []])
def test_examples_by_their_place(tmp_path, rows):
    store, rows = write(tmp_path / "store"), np.array(rows, int)
    found = store.at(rows)
    np.testing.assert_array_equal(found, VECTORS[rows].astype(np.float16))
    one_shard = len(rows) > 0 and np.all(np.diff(rows) == 1) and rows[0] // 32 == rows[-1] // 32
    assert found.flags.writeable != one_shard
    np.testing.assert_array_equal(mean_embeddings_at(store, rows), mean_embeddings(store, [IDS[row] for row in rows]))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice on files")
def test_what_follows_consecutive_examples_is_read_ahead(tmp_path, monkeypatch):
    asked = []

    def advise(file, start, length, advice):
        assert advice == os.POSIX_FADV_WILLNEED
        asked.append(np.frombuffer(os.pread(file, length, start), np.float16).reshape(-1, 2, 32))

    store = write(tmp_path / "store")
    monkeypatch.setattr(os, "posix_fadvise", advise)
    store.at(np.arange(20, 40))
    np.testing.assert_array_equal(np.concatenate(asked), VECTORS[40:60].astype(np.float16))
    asked.clear()
    store.at(np.arange(60, 90))
    np.testing.assert_array_equal(np.concatenate(asked), VECTORS[90:].astype(np.float16))
    asked.clear()
    store.at(np.arange(90, 100))
    store.at(np.array([3, 1]))
    assert asked == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_means_of_one_frame_are_what_is_stored(tmp_path, dtype):
    store = write(tmp_path / "store", vectors=VECTORS[:, :1], dtype=dtype)
    rows = np.arange(40, 50)
    found = mean_embeddings_at(store, rows)
    assert found.dtype == dtype and found.shape == (10, 32)
    assert mean_embeddings(store, IDS[40:50]).dtype == np.float32
    np.testing.assert_array_equal(found, mean_embeddings(store, IDS[40:50]))


def test_ragged_time(tmp_path):
    lengths = np.random.default_rng(1).integers(1, 6, 100)
    vectors = [np.full((length, 32), i, np.float32) + np.arange(length)[:, None] / 8 for i, length in enumerate(lengths)]
    store = write(tmp_path / "store", vectors=vectors, dtype="float32")
    assert store.frames is None
    chosen = [70, 3, 3, 99, 31, 32]
    ids = [IDS[i] for i in chosen]
    np.testing.assert_array_equal(store.lengths(ids), lengths[chosen])
    gathered = store.gather(ids)
    assert gathered.shape == (6, lengths[chosen].max(), 32)
    for row, i in zip(gathered, chosen, strict=True):
        np.testing.assert_array_equal(row[: lengths[i]], vectors[i])
        assert np.all(row[lengths[i] :] == 0)
    np.testing.assert_array_equal(store.at(np.array(chosen)), gathered)
    np.testing.assert_allclose(mean_embeddings_at(store, np.array([3, 4])), np.stack([vectors[3].mean(axis=0), vectors[4].mean(axis=0)]), rtol=1e-6)


def test_missing_ids_are_named_and_counted(tmp_path):
    store = write(tmp_path / "store")
    with pytest.raises(DataError, match=r"2 of 4 ids are not in .*the first is 'cat'"):
        store.gather(["digit001", "cat", "digit002", "dog"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": "vgg"}, "teacher is 'pca' in the store, 'vgg' is wanted"),
        ({"preprocessing": {"scale": 8, "bands": [1, 2]}}, "preprocessing.scale is 16 in the store, 8 is wanted"),
        ({"hop_seconds": 0.5}, "hop_seconds is 'nothing' in the store, 0.5 is wanted"),
        ({"teacher": "vgg", "weight_hash": "cd"}, "teacher is .*; weight_hash is"),
    ],
)
def test_another_identity_is_refused_and_the_field_is_named(tmp_path, change, message):
    write(tmp_path / "store")
    with pytest.raises(ArtefactError, match=message):
        EmbeddingStore.open(tmp_path / "store", expected={**IDENTITY, **change})


def test_identity_with_tuples_is_the_same_identity(tmp_path):
    write(tmp_path / "store")
    EmbeddingStore.open(tmp_path / "store", expected={**IDENTITY, "preprocessing": {"scale": 16, "bands": (1, 2)}})


def flip_last_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def change_manifest(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["identity"]["teacher"] = "vgg"
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "shard-00001.npy").unlink(), "shard-00001.npy is missing"),
        (
            lambda path: (path / "shard-00001.npy").write_bytes((path / "shard-00001.npy").read_bytes()[:-64]),
            "shard-00001.npy is damaged: it has .* bytes instead",
        ),
        (lambda path: (path / "shard-00001.npy").write_bytes(bytes((path / "shard-00001.npy").stat().st_size)), "shard-00001.npy is damaged"),
        (lambda path: np.save(path / "shard-00001.npy", np.zeros((32, 64), np.float16)), r"holds float16 \(32, 64\) instead of float16 \(64, 32\)"),
        (lambda path: (path / "shard-00002.json").unlink(), "shard-00002.json is missing"),
        (lambda path: flip_last_byte(path / "shard-00002.json"), "shard-00002.json was altered"),
        (change_manifest, "manifest.json was altered"),
        (lambda path: (path / "manifest.json").write_text("{"), "manifest.json is not valid JSON"),
        (lambda path: (path / "manifest.json").unlink(), "no embedding store at .*--mode=precompute"),
    ],
)
def test_damage_is_found_on_opening(tmp_path, damage, message):
    write(tmp_path / "store")
    damage(tmp_path / "store")
    with pytest.raises(ArtefactError, match=message):
        EmbeddingStore.open(tmp_path / "store")


def test_the_store_that_is_verified_is_named(tmp_path, capsys):
    write(tmp_path / "minilm-mean-0123").verify()
    assert "verify embeddings minilm-mean-0123: 100%" in capsys.readouterr().err


def test_one_changed_bit_is_found_by_verify(tmp_path):
    store = write(tmp_path / "store")
    flip_last_byte(tmp_path / "store" / "shard-00002.npy")
    with pytest.raises(ArtefactError, match=r"shard-00002.npy is damaged: its sha256.*Remove the folder .*store and run again"):
        store.verify()


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, "float32", "'digit040' has 1 values that are NaN or infinite"),
        (-np.inf, "float16", "'digit040' has 1 values that are NaN or infinite"),
        (-7e4, "float16", "'digit040' reaches -70000, and float16 ends at 65504: store it as float32"),
        (3.4e38, "bfloat16", "'digit040' reaches 3.4e\\+38, and bfloat16 ends at 3.38953e\\+38: store it as float32"),
    ],
)
def test_values_that_cannot_be_kept_are_refused_with_their_id(tmp_path, value, dtype, message):
    vectors = VECTORS.astype(np.float32)
    vectors[40, 1, 5] = value
    with pytest.raises(DataError, match=message):
        write(tmp_path / "store", vectors=vectors, dtype=dtype)


def test_float32_holds_what_float16_cannot(tmp_path):
    assert write(tmp_path / "store", vectors=VECTORS * 1e6, dtype="float32").gather(IDS[:1]).max() > 65504


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "b", "a"], VECTORS[:3], "'a' is in the embedding store .* already"),
        (["a"], VECTORS[:1, :, :31], r"'a' has shape \(2, 31\); \[frames, 32\]"),
        (["a"], VECTORS[:1, :0], r"'a' has shape \(0, 32\)"),
        (["a", "b"], VECTORS[:3], "2 ids were given with 3 embeddings"),
        ([], VECTORS[:0], "got no example"),
    ],
)
def test_bad_examples_are_refused(tmp_path, ids, vectors, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path / "store", ids=ids, vectors=vectors)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"dtype": "int8"}, "'int8'. Valid: float16, bfloat16, float32"), ({"dim": 0}, "dim is 0"), ({"shard_rows": 0}, "shard_rows is 0")],
)
def test_bad_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        EmbeddingStore.create(tmp_path / "store", **{"identity": IDENTITY, "dim": 32, **settings})


def test_unfinished_store_does_not_open_and_is_continued(tmp_path):
    path = tmp_path / "store"
    writer = EmbeddingStore.create(path, identity=IDENTITY, dim=32, shard_rows=32)
    writer.append(IDS[:70], VECTORS[:70])
    with pytest.raises(ArtefactError, match=r"is not finished \(64 examples so far\)"):
        EmbeddingStore.open(path)
    resumed = EmbeddingStore.create(path, identity=IDENTITY, dim=32, shard_rows=32)
    assert resumed.ids_done == tuple(IDS[:64])
    resumed.append(IDS[64:], VECTORS[64:])
    np.testing.assert_array_equal(resumed.finish().gather(IDS), VECTORS.astype(np.float16))
    with pytest.raises(ArtefactError, match=r"is finished"):
        EmbeddingStore.create(path, identity=IDENTITY, dim=32, shard_rows=32)


def test_continuing_with_other_settings_or_a_damaged_shard_is_refused(tmp_path):
    path = tmp_path / "store"
    EmbeddingStore.create(path, identity=IDENTITY, dim=32, shard_rows=32).append(IDS[:64], VECTORS[:64])
    with pytest.raises(ArtefactError, match=r"dtype is 'float16' in the store, 'float32' is wanted"):
        EmbeddingStore.create(path, identity=IDENTITY, dim=32, dtype="float32", shard_rows=32)
    flip_last_byte(path / "shard-00000.npy")
    with pytest.raises(ArtefactError, match=r"shard-00000.npy is damaged"):
        EmbeddingStore.create(path, identity=IDENTITY, dim=32, shard_rows=32)
