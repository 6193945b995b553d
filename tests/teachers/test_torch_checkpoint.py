"""Files of torch.save read without torch: against a file that torch wrote, and what is refused."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxkd.errors import ArtefactError
from jaxkd.teachers.torch_checkpoint import read_checkpoint

FILE = Path(__file__).parent.parent / "oracles" / "torch_checkpoint.pt"


def of_pickle(data: bytes, **members: bytes) -> bytes:
    """A file of torch.save's layout around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def test_tensors_of_torch_come_back_as_arrays():
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    saved = read_checkpoint(FILE.read_bytes(), name="file")
    expected = {
        "whole": values,
        "transposed": values.T,
        "strided": values[1::2, ::3],
        "half": values.astype(np.float16),
        "double": values.astype(np.float64),
        "integers": np.arange(5),
        "small_integers": np.arange(5, dtype=np.uint8),
        "truth": values > 0,
        "scalar": np.float32(3.5),
        "empty": np.empty((0, 3), np.float32),
    }
    for name, array in expected.items():
        assert saved[name].dtype == array.dtype, name
        np.testing.assert_array_equal(saved[name], array, err_msg=name)
    np.testing.assert_array_equal(saved["state"]["weight"], values[:2])
    np.testing.assert_array_equal(saved["state"]["bias"], values[2, :2])
    assert saved["numbers"] == (0.25, 7, "text", None, [1, 2])
    with pytest.raises(ValueError, match="read-only"):
        saved["whole"][0] = 0


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", [(os.system, "touch intruder"), (eval, "open('intruder', 'w')"), (getattr, "text", "upper")])
def test_nothing_is_called_that_is_not_in_the_table(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"weights": Evil(*call)})
    with pytest.raises(ArtefactError, match=r"wants to call .*, which holds no weights"):
        read_checkpoint(of_pickle(data), name="file")
    assert not list(tmp_path.iterdir())


def test_a_tensor_beyond_its_storage_is_refused():
    def tensor(offset, size, stride):
        protocol = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
        numbers = b"".join(b"J" + int(value).to_bytes(4, "little", signed=True) for value in (offset, size, stride))
        return protocol + numbers[:5] + numbers[5:10] + b"\x85" + numbers[10:] + b"\x85tR."

    content = {"data/0": np.arange(4, dtype="<f4").tobytes()}
    np.testing.assert_array_equal(read_checkpoint(of_pickle(tensor(1, 3, 1), **content), name="file"), [1, 2, 3])
    for case in ((2, 3, 1), (0, 3, 2), (-1, 2, 1), (3, 2, -1)):
        with pytest.raises(ArtefactError, match="file is damaged"):
            read_checkpoint(of_pickle(tensor(*case), **content), name="file")
    with pytest.raises(ArtefactError, match="storage 0 has 3 elements, but should have 4"):
        read_checkpoint(of_pickle(tensor(0, 3, 1), **{"data/0": b"\0" * 12}), name="file")


def test_other_byte_order_is_refused():
    with pytest.raises(ArtefactError, match="big-endian"):
        read_checkpoint(of_pickle(pickle.dumps(1), byteorder=b"big"), name="file")


def test_altered_files_are_never_another_error():
    data = FILE.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        altered = bytearray(data)
        altered[generator.integers(len(data))] ^= 1 << generator.integers(8)
        try:
            read_checkpoint(bytes(altered), name="file")
        except ArtefactError:
            refused += 1
    assert refused > 100
    for length in (0, 10, len(data) // 2, len(data) - 1):
        with pytest.raises(ArtefactError, match="file is damaged, or not a file of torch"):
            read_checkpoint(data[:length], name="file")


def test_altered_pickles_are_never_another_error():
    with zipfile.ZipFile(FILE) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    pickled = members.pop("data.pkl")
    generator = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        altered = bytearray(pickled)
        altered[generator.integers(len(pickled))] ^= 1 << generator.integers(8)
        try:
            read_checkpoint(of_pickle(bytes(altered), **members), name="file")
        except ArtefactError:
            refused += 1
    assert refused > 100
