"""Reads a TensorFlow V2 checkpoint (tensor bundle) with numpy.

A bundle is `PREFIX.index`, a LevelDB table from tensor name to a BundleEntryProto, and `PREFIX.data-00000-of-00001`, the raw little-endian tensors.
Only what released checkpoints of this kind use is read: uncompressed blocks, one shard, float32 tensors.
"""

import math
from collections.abc import Iterator

import numpy as np

from jaxkd.errors import ArtefactError

FOOTER_BYTES = 48
BLOCK_TRAILER_BYTES = 5
TABLE_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
DT_FLOAT = 1
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The base-128 number at `position`, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one table block, whose keys share prefixes."""
    if offset + size + BLOCK_TRAILER_BYTES > len(table):
        raise ValueError("a block lies beyond the end")
    if table[offset + size] != 0:
        raise ValueError("a block is compressed, which this reader does not support")
    block = table[offset : offset + size]
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protocol buffer message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == VARINT:
            value, position = _varint(message, position)
        elif kind == LENGTH_DELIMITED:
            length, position = _varint(message, position)
            value = message[position : position + length]
            position += length
        elif kind in (FIXED32, FIXED64):
            width = 4 if kind == FIXED32 else 8
            value = message[position : position + width]
            position += width
        else:
            raise ValueError(f"an entry has a field of unknown wire type {kind}")
        yield tag >> 3, value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a number was expected in an entry")
    return value


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a message was expected in an entry")
    return value


def _entry(message: bytes) -> tuple[tuple[int, ...], int, int]:
    """Shape, offset and size in bytes of a BundleEntryProto that describes a float32 tensor in shard 0."""
    fields = dict(_fields(message))
    data_type, shard, offset, size = (_number(fields.get(field, 0)) for field in (1, 3, 4, 5))
    dimensions = [dict(_fields(_message(dimension))) for _, dimension in _fields(_message(fields.get(2, b"")))]
    shape = tuple(_number(dimension.get(1, 0)) for dimension in dimensions)
    if data_type != DT_FLOAT or shard != 0:
        raise ValueError(f"a tensor has data type {data_type} in shard {shard}; only float32 in shard 0 is supported")
    if 4 * math.prod(shape) != size:
        raise ValueError(f"a tensor of shape {shape} is said to take {size} bytes")
    return shape, offset, size


def read_checkpoint(index: bytes, data: bytes, *, name: str) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint.

    Args:
      index: bytes of the `.index` file.
      data: bytes of the `.data-00000-of-00001` file.
      name: of the checkpoint, for messages.

    Returns:
      Read-only float32 arrays by TensorFlow variable name.

    Raises:
      ArtefactError: the files are truncated, altered or of a kind that is not supported.
    """
    if len(index) < FOOTER_BYTES or index[-8:] != TABLE_MAGIC:
        raise ArtefactError(f"the index of checkpoint {name} is truncated or not a TensorFlow checkpoint ({len(index)} bytes): fetch the archive again.")
    tensors: dict[str, np.ndarray] = {}
    try:
        footer = index[-FOOTER_BYTES:]
        _, position = _varint(footer, 0)
        _, position = _varint(footer, position)
        root_offset, position = _varint(footer, position)
        root_size, _ = _varint(footer, position)
        for _, handle in _block(index, root_offset, root_size):
            offset, position = _varint(handle, 0)
            size, _ = _varint(handle, position)
            for key, message in _block(index, offset, size):
                if key:
                    shape, start, length = _entry(message)
                    if start + length > len(data):
                        raise ValueError(f"tensor {key.decode()} ends at byte {start + length}, but the data has {len(data)} bytes")
                    tensors[key.decode()] = np.frombuffer(data, "<f4", length // 4, start).reshape(shape)
    except (ValueError, IndexError) as error:
        raise ArtefactError(f"checkpoint {name} is damaged ({error}): fetch the archive again.") from error
    return tensors
