"""Embeddings that are on disk already: every format through the embed stage, names, and what is refused."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow_datasets as tfds

from jaxkd import teachers
from jaxkd.embeddings import embed_dataset
from jaxkd.errors import ArtefactError, ConfigError, DataError
from jaxkd.teachers.precomputed import Ids

FRAMES, DIM = 3, 4
SPLITS = {"train": ["train/loops/a.wav", "train/b.flac"], "test": ["test/c.wav"]}
EXAMPLES = [example for ids in SPLITS.values() for example in ids]
EMBEDDINGS = np.random.default_rng(0).standard_normal((3, FRAMES, DIM)).astype(np.float32)


class Dataset:
    fingerprint = "three"
    splits = SPLITS


class Stored(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, rows, feature="embedding", **kwargs):
        self._rows, self._feature = rows, feature
        super().__init__(file_format="array_record", **kwargs)

    def _info(self):
        tensor = tfds.features.Tensor(shape=(None, DIM), dtype=np.float32)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"id": tfds.features.Text(), self._feature: tensor}))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 2), "test": self._generate_examples(2, None)}

    def _generate_examples(self, first, last):
        for name, values in list(self._rows.items())[first:last]:
            yield name, {"id": name, self._feature: values}


def write(path, kind, rows):
    """Writes {name: embedding} and returns the archive's path."""
    if kind == "npy":
        for name, values in rows.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(path / f"{name}.npy", values)
        return path
    path.mkdir(exist_ok=True)
    if kind == "npz":
        np.savez(path / "all.npz", ids=np.array(list(rows)), embeddings=np.stack(list(rows.values())))
        return path / "all.npz"
    if kind == "parquet":
        table = pyarrow.table({"id": list(rows), "embedding": [np.asarray(values).tolist() for values in rows.values()]})
        pyarrow.parquet.write_table(table, path / "all.parquet")
        return path / "all.parquet"
    builder = Stored(rows=rows, data_dir=path)
    builder.download_and_prepare()
    return builder.data_path


def build(archive, hop_seconds=0.0, splits=SPLITS):
    return teachers.build("precomputed", archive=archive, splits=splits, hop_seconds=hop_seconds)


def named(names, embeddings=EMBEDDINGS):
    return dict(zip(names, embeddings, strict=True))


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet", "tfds"])
def test_every_format_gives_the_same_store(tmp_path, kind):
    archive = write(tmp_path / "given", kind, named(EXAMPLES))
    teacher = build(archive, 0.96)
    assert (teacher.dim, teacher.hop_seconds, teacher.note) == (DIM, 0.96, "")
    store = embed_dataset(teacher, Ids(Dataset()), tmp_path / "store", dtype="float32", batch_size=2)
    assert store.frames == FRAMES
    np.testing.assert_array_equal(store.gather(EXAMPLES[::-1]), EMBEDDINGS[::-1])
    before = store.identity
    assert embed_dataset(build(archive, 0.96), Ids(Dataset()), tmp_path / "store", dtype="float32").identity == before
    with pytest.raises(ArtefactError, match=r"hop_seconds is 0\.96"):
        embed_dataset(build(archive), Ids(Dataset()), tmp_path / "store", dtype="float32")


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_other_embeddings_are_another_store(tmp_path, kind):
    first = build(write(tmp_path / "given", kind, named(EXAMPLES)))
    embed_dataset(first, Ids(Dataset()), tmp_path / "store")
    changed = build(write(tmp_path / "given", kind, named(EXAMPLES, EMBEDDINGS + 1)))
    with pytest.raises(ArtefactError, match="weight_hash is"):
        embed_dataset(changed, Ids(Dataset()), tmp_path / "store")


@pytest.mark.parametrize("names", [["loops/a.wav", "b.flac", "c.wav"], ["loops/a", "b", "c"], ["train/loops/a", "train/b.flac", "c"]])
def test_names_without_split_and_suffix(tmp_path, names):
    archive = write(tmp_path / "given", "npy", named(names))
    np.testing.assert_array_equal(build(archive).embed(EXAMPLES), EMBEDDINGS)


def test_files_as_the_hear_evaluation_leaves_them(tmp_path):
    rows = named([f"{name}.embedding" for name in EXAMPLES], EMBEDDINGS[:, 0])
    archive = write(tmp_path / "given", "npy", rows)
    np.memmap(archive / "train.embeddings.npy", np.float32, "w+", shape=(2, DIM)).flush()
    teacher = build(archive)
    np.testing.assert_array_equal(teacher.embed(EXAMPLES), EMBEDDINGS[:, :1])
    assert teacher.note == "1 of 4 belong to no example and were left out"
    with pytest.raises(DataError, match="files without a header, such as HEAR's memory maps, are not read"):
        build(archive, splits={"all": ["train.embeddings"]})


def test_integers_as_vggish_stores_them(tmp_path):
    integers = np.random.default_rng(1).integers(0, 256, (3, FRAMES, DIM)).astype(np.uint8)
    archive = write(tmp_path / "given", "npz", named(EXAMPLES, integers))
    store = embed_dataset(build(archive), Ids(Dataset()), tmp_path / "store", dtype="float16")
    np.testing.assert_array_equal(store.gather(EXAMPLES), integers)


def test_missing_and_surplus_embeddings(tmp_path):
    archive = write(tmp_path / "given", "npz", named(["loops/a.wav", "unknown", "b"]))
    looked_for = r"'test/c\.wav', looked for as 'test/c\.wav' or 'c\.wav' or 'test/c' or 'c'"
    missing = rf"1 of 3 examples have no embedding in .*, but each needs one; the first is {looked_for}\. It has 3 .*: name them by the examples' ids, or add"
    with pytest.raises(DataError, match=missing):
        build(archive)
    embeddings = np.concatenate([EMBEDDINGS, EMBEDDINGS])
    archive = write(tmp_path / "given", "npz", named([*EXAMPLES, "d", "e", "f"], embeddings))
    assert build(archive).note == "3 of 6 belong to no example and were left out"


def test_an_embedding_is_of_one_example_and_an_example_has_one(tmp_path):
    archive = write(tmp_path / "given", "npy", named(["a", "b", "c"]))
    with pytest.raises(DataError, match=r"the embedding 'a' fits two examples, 'train/a\.wav' and 'test/a\.wav'"):
        build(archive, splits={"train": ["train/a.wav"], "test": ["test/a.wav"]})
    archive = write(tmp_path / "both", "npy", named(["train/a", "a", "a.wav"]))
    with pytest.raises(DataError, match=r"two embeddings for the example 'train/a\.wav', 'a\.wav' and 'train/a'"):
        build(archive, splits={"train": ["train/a.wav"]})
    archive = write(tmp_path / "twice", "npz", {"a": EMBEDDINGS[0]})
    np.savez(archive, ids=np.array(["a", "a"]), embeddings=EMBEDDINGS[:2])
    with pytest.raises(DataError, match="two embeddings of 'a': keep one"):
        build(archive, splits={"train": ["a"]})


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (np.zeros((FRAMES, DIM + 1)), r"not equally wide: \(3, 4\) of 'train/loops/a\.wav', \(3, 5\) of 'test/c\.wav' .*: take one embedding for all"),
        (np.zeros((FRAMES - 1, DIM)), r"not equally long: .* cut or fill up all to one number of frames, or keep their mean"),
        (np.full((FRAMES, DIM), np.nan), r"'test/c\.wav' has 12 of 12 values that are NaN or infinite in float32, the first nan, .* embed that example anew"),
        (np.array([0, 1e39, 0, -1e39]), r"has 2 of 4 values that are NaN or infinite in float32, the first inf, but all must be finite"),
        (np.zeros((2, FRAMES, DIM)), r"'test/c\.wav' is float64 \(2, 3, 4\), but must be numbers"),
        (np.array(["text"] * DIM), r"'test/c\.wav' is <U4 \(4,\), but must be numbers"),
        (np.zeros((0, DIM)), r"'test/c\.wav' is float64 \(0, 4\)"),
    ],
)
def test_embeddings_that_do_not_fit_are_named(tmp_path, last, message):
    archive = write(tmp_path / "given", "npy", named(EXAMPLES, [*EMBEDDINGS[:2], last]))
    with pytest.raises(DataError, match=message):
        embed_dataset(build(archive), Ids(Dataset()), tmp_path / "store")


def test_files_that_do_not_hold_what_they_should(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    np.savez(tmp_path / "other.npz", values=EMBEDDINGS)
    np.savez(tmp_path / "unequal.npz", ids=np.array(["a"]), embeddings=EMBEDDINGS)
    np.savez(tmp_path / "objects.npz", ids=np.array(["a", None], object), embeddings=EMBEDDINGS[:2])
    np.savez(tmp_path / "single.npz", ids=np.array("a"), embeddings=np.array(1.0))
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"], "vector": [[1.0]]}), tmp_path / "other.parquet")
    for name, message in {
        "broken.npz": "should hold the arrays ids",
        "other.npz": "should hold the arrays ids",
        "unequal.npz": r"ids \(1,\) and embeddings \(3, 3, 4\): they must be equally many",
        "objects.npz": "should hold the arrays ids",
        "single.npz": r"ids \(\) and embeddings \(\): they must be equally many, ids \[n\]",
        "broken.parquet": "should be a Parquet file with the columns id and embedding",
        "other.parquet": "should be a Parquet file with the columns id and embedding",
    }.items():
        with pytest.raises(DataError, match=message):
            build(tmp_path / name)
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"], "embedding": [[[1.0], [1.0, 2.0]]]}), tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match="the embedding of 'a' is no list of numbers, nor a list of equally long ones"):
        build(tmp_path / "ragged.parquet", splits={"train": ["a"]})
    builder = Stored(rows=named(EXAMPLES), feature="vector", data_dir=tmp_path / "tfds")
    builder.download_and_prepare()
    with pytest.raises(DataError, match="has the features id, vector, but id and embedding are needed: write it anew"):
        build(builder.data_path)


def test_archives_that_are_not_there_or_of_no_kind_are_refused(tmp_path):
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "file.csv").write_text("")
    for archive, message in {
        "": "set --config.teacher.archive",
        "absent": "no such folder or file",
        tmp_path / "folder": r"holds neither a \.npy file, also in its subfolders, nor the dataset_info\.json of a TFDS data set",
        tmp_path / "folder" / "file.csv": r"must be one of \.npz, \.parquet",
    }.items():
        with pytest.raises(ConfigError, match=message):
            teachers.precomputed.check_archive(str(archive))
    for file in ("below/a.npy", "dataset_info.json"):
        (tmp_path / "folder" / file).touch()
        teachers.precomputed.check_archive(str(tmp_path / "folder"))
        (tmp_path / "folder" / file).unlink()
    with pytest.raises(ConfigError, match="precomputed embeddings have no name: set it to ''"):
        teachers.check("precomputed", "scene")
    with pytest.raises(ConfigError, match="a student's inputs must be made anew"):
        teachers.check_features("precomputed", modality="audio")


def test_ids_in_bytes_are_text(tmp_path):
    np.savez(tmp_path / "bytes.npz", ids=np.array([name.encode() for name in EXAMPLES]), embeddings=EMBEDDINGS)
    table = pyarrow.table({"id": pyarrow.array([name.encode() for name in EXAMPLES], pyarrow.binary()), "embedding": EMBEDDINGS.tolist()})
    pyarrow.parquet.write_table(table, tmp_path / "bytes.parquet")
    for name in ("bytes.npz", "bytes.parquet"):
        np.testing.assert_array_equal(build(tmp_path / name).embed(EXAMPLES), EMBEDDINGS)


def _cut(file):
    file.write_bytes(file.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("*train*array_record*", lambda file: file.unlink()),
        ("*train*array_record*", _cut),
        ("dataset_info.json", lambda file: file.write_text("{}")),
        ("dataset_info.json", _cut),
        ("features.json", lambda file: file.unlink()),
    ],
    ids=["no shard", "shard cut short", "empty description", "description cut short", "no features"],
)
def test_a_tfds_folder_that_is_damaged_or_incomplete_is_named(tmp_path, pattern, damage):
    archive = write(tmp_path / "given", "tfds", named(EXAMPLES))
    damage(next(archive.glob(pattern)))
    with pytest.raises(DataError, match=rf"the TFDS folder {archive} is damaged or incomplete \(.+\): copy it whole, or remove it and prepare it anew"):
        build(archive)
