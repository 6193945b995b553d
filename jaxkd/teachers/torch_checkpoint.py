"""Reads what `torch.save` wrote (the zip format of torch 1.6 and later), without torch: tensors become numpy arrays.

A pickle can name any function to be called. Here each name is looked up in `_CONSTRUCTORS`, whose functions do nothing but build numbers, arrays and
dicts; any other name refuses the file.
"""

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxkd.errors import ArtefactError

STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
"""Kinds of torch storage that are read, with numpy's name of their elements."""

DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What zipfile, pickle and numpy raise on bytes that are cut short or altered."""


class _Storage(NamedTuple):
    """The name of a kind of storage, as the pickle refers to it."""

    kind: str


class _Dtype:
    """A numpy dtype by its name; the byte order that the pickle sets afterwards is always little for files of today's machines, and checked."""

    def __init__(self, name: str, *_: bool) -> None:
        if name[:1] not in "fiub":
            raise ValueError(f"numpy numbers of type {name!r} are not read")
        self.value = np.dtype(f"<{name}")

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", "|"):
            raise ValueError(f"numpy numbers of byte order {state[1]!r} are not read")


def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """A view of a storage; numpy raises ValueError or TypeError where it would leave the storage."""
    if not isinstance(storage, np.ndarray):
        raise TypeError(f"a tensor is made of {type(storage).__name__}, not of a storage")
    item = storage.itemsize
    if min((offset, *size, *stride)) < 0:
        raise ValueError(f"a tensor has offset {offset}, size {size} and stride {stride}")
    return np.ndarray(size, storage.dtype, storage, offset * item, tuple(step * item for step in stride))


def _scalar(dtype: _Dtype, data: bytes) -> int | float | bool:
    """A numpy number as a Python one."""
    return np.frombuffer(data, dtype.value, 1)[0].item()


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes written as {encoding!r} text are not read")
    return text.encode("latin1")


_CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _encoded,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}/data.pkl")))
        self._archive, self._folder = archive, folder
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; raises UnpicklingError for any that is not in the table."""
        if module == "torch" and name in STORAGES:
            return _Storage(name)
        try:
            return _CONSTRUCTORS[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which holds no weights") from None

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The elements of a storage: ("storage", kind, key, device, number of elements) -> [n]."""
        tag, storage, key, _, count = pid
        if tag != "storage" or not isinstance(storage, _Storage):
            raise pickle.UnpicklingError(f"it refers to {pid!r}, which is no storage")
        if key not in self._storages:
            values = np.frombuffer(self._archive.read(f"{self._folder}/data/{key}"), STORAGES[storage.kind])
            if len(values) != count:
                raise ValueError(f"storage {key} has {len(values)} elements, but should have {count}")
            self._storages[key] = values
        return self._storages[key]


def read_checkpoint(data: bytes, *, name: str) -> Any:
    """The object that was saved, with read-only numpy arrays in place of its tensors (shapes as in torch).

    Args:
      data: bytes of the file.
      name: of the file, for messages.

    Raises:
      ArtefactError: the file is truncated, altered, not such a file, of another byte order, or names anything that is not in the tables above.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (member,) = [entry for entry in archive.namelist() if entry.endswith("/data.pkl") and entry.count("/") == 1]
            folder = member.removesuffix("/data.pkl")
            if f"{folder}/byteorder" in archive.namelist() and archive.read(f"{folder}/byteorder") != b"little":
                raise ValueError("its numbers are big-endian")
            return _Unpickler(archive, folder).load()
    except DAMAGE as error:
        raise ArtefactError(f"{name} is damaged, or not a file of torch.save that can be read safely ({error}): fetch it again.") from error
