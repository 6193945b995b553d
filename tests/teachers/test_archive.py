"""Names of teachers, and archives that are missing, truncated, altered or something else."""

import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from jaxkd import teachers
from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.teachers import musicnn as family
from jaxkd.teachers.tf_checkpoint import read_checkpoint


@pytest.fixture(scope="module")
def checkpoint(musicnn_archive):
    with zipfile.ZipFile(musicnn_archive) as wheel:
        return wheel.read("musicnn/MTT_vgg/.index"), wheel.read("musicnn/MTT_vgg/.data-00000-of-00001")


def test_names_are_checked_without_jax():
    code = "import sys; from jaxkd import teachers; teachers.check('MTT_musicnn', 'logits'); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "default"), [("MTT_musicnn", "max_mean_pool"), ("MSD_vgg", "pool5")])
def test_default_embedding(name, default):
    assert teachers.check(name) == default


@pytest.mark.parametrize(
    ("name", "embedding", "message"),
    [("MTT_musicn", "", "Did you mean 'MTT_musicnn'"), ("MTT_musicnn", "penultimat", "Did you mean 'penultimate'"), ("MTT_vgg", "max_pool", "logits, pool5")],
)
def test_unknown_names(name, embedding, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        teachers.build(name, embedding=embedding, archive=tmp_path)


def test_teacher_of_your_own(monkeypatch, tmp_path):
    (tmp_path / "own_teacher.py").write_text("def build(name, *, embedding, archive):\n    return name, embedding, archive\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert teachers.build("own_teacher:build", embedding="x", archive=tmp_path) == ("own_teacher:build", "x", tmp_path)
    with pytest.raises(ConfigError, match="no_such_module"):
        teachers.build("no_such_module:build", archive=tmp_path)


def test_missing_archive(tmp_path):
    with pytest.raises(ArtefactError, match=r"absent\.whl, is missing"):
        teachers.build("MTT_musicnn", archive=tmp_path / "absent.whl")


def test_truncated_archive(musicnn_archive, tmp_path):
    broken = tmp_path / "musicnn.whl"
    broken.write_bytes(musicnn_archive.read_bytes()[:10_000_000])
    with pytest.raises(ArtefactError, match=r"musicnn\.whl is truncated"):
        teachers.build("MTT_musicnn", archive=broken)


def test_altered_weights(musicnn_archive, tmp_path):
    broken = tmp_path / "musicnn.whl"
    shutil.copy(musicnn_archive, broken)
    with zipfile.ZipFile(broken) as wheel:
        member = wheel.getinfo("musicnn/MTT_vgg/.data-00000-of-00001")
    with open(broken, "r+b") as file:
        file.seek(member.header_offset + 30 + len(member.filename) + member.compress_size // 2)
        old = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([old[0] ^ 0x10]))
    teachers.build("MTT_musicnn", archive=broken)
    with pytest.raises(ArtefactError, match="altered"):
        teachers.build("MTT_vgg", archive=broken)


def test_archive_of_another_package(tmp_path):
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as wheel:
        wheel.writestr("other/__init__.py", "")
    with pytest.raises(ArtefactError, match=r"not the wheel musicnn 0\.1\.0"):
        teachers.build("MTT_musicnn", archive=other)


def test_checkpoint_holds_all_weights(checkpoint):
    tensors = read_checkpoint(*checkpoint, name="MTT_vgg")
    assert tensors["5CNN/kernel"].shape == (3, 3, 128, 128)
    assert tensors["dense/kernel"].shape == (256, 50)
    assert sum(values.nbytes for values in tensors.values()) == len(checkpoint[1])
    assert all(np.isfinite(values).all() for values in tensors.values())


def test_truncated_checkpoint(checkpoint):
    index, data = checkpoint
    with pytest.raises(ArtefactError, match="the data has 1000000 bytes"):
        read_checkpoint(index, data[:1_000_000], name="MTT_vgg")
    for length in (0, 47, len(index) // 2):
        with pytest.raises(ArtefactError, match="index of checkpoint MTT_vgg is truncated"):
            read_checkpoint(index[:length], data, name="MTT_vgg")


def test_altered_index_is_never_another_error(checkpoint):
    index, data = checkpoint
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        position, bit = generator.integers(len(index)), generator.integers(8)
        altered = bytearray(index)
        altered[position] ^= 1 << bit
        try:
            read_checkpoint(bytes(altered), data, name="MTT_vgg")
        except ArtefactError:
            refused += 1
    assert refused > 100


def test_missing_variable(checkpoint, monkeypatch, musicnn_archive):
    monkeypatch.setattr(family, "read_checkpoint", lambda index, data, name: {"1CNN/kernel": np.zeros(1)})
    with pytest.raises(ArtefactError, match="has no variable"):
        family.load_params("MTT_vgg", musicnn_archive)
