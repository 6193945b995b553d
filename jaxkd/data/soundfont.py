"""SoundFont 2 and 3: reading the samples of a bank, and rewriting an sf3 (Ogg Vorbis samples) as an sf2 (16-bit PCM)."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

from jaxkd.errors import DataError

SAMPLE_HEADER = struct.Struct("<20sIIIIIBbHH")
VORBIS_FLAG = 0x10
EFFECT_SENDS = (15, 16)  # generators chorusEffectsSend and reverbEffectsSend
SILENCE_AFTER_SAMPLE = 46  # zero points that the format asks for after each sample
PDTA_ORDER = (b"phdr", b"pbag", b"pmod", b"pgen", b"inst", b"ibag", b"imod", b"igen", b"shdr")


@dataclass(frozen=True)
class Sample:
    """One recorded sample of a bank.

    Attributes:
      name: its name in the bank.
      rate: samples a second.
      pcm: int16 [points].
      loop: first and last point of the loop, counted from the sample's start.
      header: the fields of its header record, as stored.
    """

    name: str
    rate: int
    pcm: np.ndarray
    loop: tuple[int, int]
    header: tuple


@dataclass(frozen=True)
class SoundFont:
    """The chunks of a bank: `info` and `pdta` by their four letters, `smpl` the sample data."""

    info: dict[bytes, bytes]
    smpl: bytes
    pdta: dict[bytes, bytes]


def read_soundfont(data: bytes, name: str) -> SoundFont:
    """Reads the chunks of an sf2 or sf3 file; `name` is for messages.

    Raises:
      DataError: not a SoundFont, or cut short.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise DataError(f"{name} is not a SoundFont (.sf2 or .sf3): it does not start with RIFF ... sfbk.")
    lists: dict[bytes, dict[bytes, bytes]] = {}
    for kind, body in _chunks(data, 12, len(data), name):
        if kind == b"LIST":
            lists[body[:4]] = dict(_chunks(body, 4, len(body), name))
    missing = {b"INFO", b"sdta", b"pdta"} - set(lists)
    if missing or b"smpl" not in lists[b"sdta"] or set(PDTA_ORDER) - set(lists[b"pdta"]):
        raise DataError(f"{name} is not a whole SoundFont: chunks are missing. It is cut short or damaged.")
    return SoundFont(lists[b"INFO"], lists[b"sdta"][b"smpl"], lists[b"pdta"])


def _chunks(data: bytes, start: int, end: int, name: str) -> Iterator[tuple[bytes, bytes]]:
    while start + 8 <= end:
        kind, size = struct.unpack_from("<4sI", data, start)
        if start + 8 + size > end:
            raise DataError(f"{name} is cut short: its chunk {kind!r} says {size:,} bytes, {end - start - 8:,} are there.")
        yield kind, data[start + 8 : start + 8 + size]
        start += 8 + size
        if size % 2 and data[start : start + 1] == b"\0":  # writers of sf3 leave out the pad byte
            start += 1


def samples(font: SoundFont, name: str) -> Iterator[Sample]:
    """Yields the decoded samples of a bank in the order of their headers.

    Raises:
      DataError: a compressed sample cannot be decoded.
    """
    records = font.pdta[b"shdr"]
    for offset in range(0, len(records) - SAMPLE_HEADER.size, SAMPLE_HEADER.size):
        header = SAMPLE_HEADER.unpack_from(records, offset)
        title, start, end, loop_start, loop_end, rate, _, _, _, kind = header
        title = title.split(b"\0")[0].decode("latin-1")
        if kind & VORBIS_FLAG:
            yield Sample(title, rate, _decode_vorbis(font.smpl[start:end], f"{name}, sample {title!r}"), (loop_start, loop_end), header)
        else:
            pcm = np.frombuffer(font.smpl, dtype="<i2", count=max(end - start, 0), offset=2 * start)
            yield Sample(title, rate, pcm, (loop_start - start, loop_end - start), header)


def _decode_vorbis(data: bytes, where: str) -> np.ndarray:
    try:
        decoded, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise DataError(f"{where} cannot be decoded as Ogg Vorbis ({error}).") from error
    return np.clip(np.round(decoded * 32767.0), -32768, 32767).astype("<i2")


def to_sf2(font: SoundFont, name: str) -> bytes:
    """The bank as sf2, dry: every sample decoded to 16-bit PCM, the sample headers rewritten, no reverb and no chorus; all else as it was.

    Without effects, nothing sounds on after a note is cut, so that clips can be rendered one after another.
    """
    pieces: list[bytes] = []
    headers: list[bytes] = []
    position = 0
    for sample in samples(font, name):
        title, _, _, _, _, rate, pitch, correction, link, kind = sample.header
        end = position + len(sample.pcm)
        loop = [min(position + point, end) for point in sample.loop]
        headers.append(SAMPLE_HEADER.pack(title, position, end, *loop, rate, pitch, correction, link, kind & ~VORBIS_FLAG))
        pieces += [sample.pcm.tobytes(), bytes(2 * SILENCE_AFTER_SAMPLE)]
        position = end + SILENCE_AFTER_SAMPLE
    headers.append(SAMPLE_HEADER.pack(b"EOS", *([0] * 9)))
    info = {**font.info, b"ifil": struct.pack("<HH", 2, 1)}
    changed = {b"shdr": b"".join(headers), b"pgen": _dry(font.pdta[b"pgen"]), b"igen": _dry(font.pdta[b"igen"])}
    pdta = {kind: changed.get(kind, font.pdta[kind]) for kind in PDTA_ORDER}
    body = b"sfbk" + _list(b"INFO", info) + _list(b"sdta", {b"smpl": b"".join(pieces)}) + _list(b"pdta", pdta)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _dry(generators: bytes) -> bytes:
    records = np.frombuffer(generators, "<u2").reshape(-1, 2).copy()
    records[np.isin(records[:, 0], EFFECT_SENDS), 1] = 0
    return records.tobytes()


def _list(kind: bytes, chunks: dict[bytes, bytes]) -> bytes:
    body = kind + b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks.items())
    return b"LIST" + struct.pack("<I", len(body)) + body
