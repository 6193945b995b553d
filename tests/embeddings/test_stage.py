import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxkd.embeddings import EmbeddingStore, embed_dataset, store_identity
from jaxkd.embeddings.manifest import read_manifest
from jaxkd.errors import ArtefactError, ConfigError, DataError

sys.path.insert(0, str(Path(__file__).parent))
import pca_teacher
from pca_teacher import SHARD_ROWS, Digits, PcaTeacher


def embed(path, teacher=None, dataset=None, **settings):
    return embed_dataset(teacher or PcaTeacher(), dataset or Digits(), path, **{"batch_size": 8, "shard_rows": SHARD_ROWS, **settings})


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_every_example_of_every_split_is_embedded_in_one_batch_shape(tmp_path):
    teacher, dataset = PcaTeacher(), Digits()
    store = embed(tmp_path / "store", teacher, dataset, dtype="float32")
    assert set(teacher.batch_shapes) == {(8, 64)}
    ids = dataset.splits["test"] + dataset.splits["train"]
    np.testing.assert_allclose(store.gather(ids), teacher.embed(dataset.gather(ids)), rtol=1e-5, atol=1e-6)
    assert store.identity == store_identity(teacher, dataset)


def test_a_finished_store_is_reused_without_the_teacher(tmp_path):
    embed(tmp_path / "store")
    before, teacher = contents(tmp_path / "store"), PcaTeacher()
    embed(tmp_path / "store", teacher)
    assert teacher.batch_shapes == []
    assert contents(tmp_path / "store") == before


def test_killed_and_continued_is_never_stopped_to_the_byte(tmp_path):
    path = tmp_path / "store"
    repository = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    with subprocess.Popen([sys.executable, pca_teacher.__file__, str(path)], env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (path / "shard-00001.json").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    with pytest.raises(ArtefactError, match=r"is not finished"):
        EmbeddingStore.open(path)
    finished = len(read_manifest(path).shards)
    assert 1 <= finished < 10
    teacher = PcaTeacher()
    embed(path, teacher)
    assert len(teacher.batch_shapes) == (10 - finished) * 3
    embed(tmp_path / "uninterrupted")
    whole = contents(tmp_path / "uninterrupted")
    assert {name: data for name, data in contents(path).items() if not name.endswith(".tmp")} == whole


def test_an_error_in_the_teacher_keeps_the_finished_shards(tmp_path):
    class Failing(PcaTeacher):
        def embed(self, inputs):
            if len(self.batch_shapes) == 7:
                raise KeyboardInterrupt
            return super().embed(inputs)

    with pytest.raises(KeyboardInterrupt):
        embed(tmp_path / "store", Failing())
    assert len(read_manifest(tmp_path / "store").shards) == 2
    embed(tmp_path / "store").verify()


def test_a_teacher_that_says_nan_is_refused_with_the_id(tmp_path):
    class Broken(PcaTeacher):
        def embed(self, inputs):
            embedding = super().embed(inputs)
            if len(self.batch_shapes) == 4:
                embedding[2] = np.nan
            return embedding

    with pytest.raises(DataError, match=r"'digit022' has 8 values that are NaN"):
        embed(tmp_path / "store", Broken())


def changed(kind, **attributes):
    instance = kind()
    for name, value in attributes.items():
        setattr(instance, name, value)
    return instance


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": changed(PcaTeacher, weight_hash="other")}, "weight_hash is .* 'other' is wanted"),
        ({"teacher": changed(PcaTeacher, embedding="scores")}, "embedding is 'components' in the store, 'scores' is wanted"),
        ({"teacher": changed(PcaTeacher, preprocessing={"scale": 8})}, "preprocessing.scale is 16 in the store, 8 is wanted"),
        ({"dataset": changed(Digits, fingerprint="other")}, "data_fingerprint is 'digits-200' in the store, 'other' is wanted"),
        ({"dtype": "float32"}, "dtype is 'float16' in the store, 'float32' is wanted"),
    ],
)
def test_a_store_of_something_else_is_refused(tmp_path, finished, settings, message):
    if finished:
        embed(tmp_path / "store")
    else:
        EmbeddingStore.create(tmp_path / "store", identity=store_identity(PcaTeacher(), Digits()), dim=8, shard_rows=SHARD_ROWS)
    with pytest.raises(ArtefactError, match=message):
        embed(tmp_path / "store", **settings)


def test_a_damaged_shard_stops_the_stage(tmp_path):
    embed(tmp_path / "store")
    shard = tmp_path / "store" / "shard-00003.npy"
    data = bytearray(shard.read_bytes())
    data[-5] ^= 4
    shard.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"shard-00003.npy is damaged.*Remove the folder"):
        embed(tmp_path / "store")


def test_ids_that_do_not_match_the_data_are_refused(tmp_path):
    embed(tmp_path / "store")
    dataset = Digits()
    dataset.splits["test"] = dataset.splits["test"][::-1]
    with pytest.raises(ArtefactError, match=r"first differ at example 151"):
        embed(tmp_path / "store", dataset=dataset)


def test_impossible_settings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size is 0"):
        embed(tmp_path / "store", batch_size=0)
    with pytest.raises(ConfigError, match=r"16000 Hz, the data has 1 Hz"):
        embed(tmp_path / "store", changed(PcaTeacher, sample_rate=16000))
    assert not (tmp_path / "store").exists()
