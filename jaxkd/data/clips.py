"""Audio that is decoded row by row, as it is written: clips of one length, so that a data set need not fit into memory."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from jaxkd.errors import DataError, ResourceError
from jaxkd.files import sha256_file
from jaxkd.progress import progress

ROWS_AT_ONCE = 64
THREADS = 4
STREAMED_BYTES = 0x7FFF0000  # headers of this size or more were written before the length was known
SPARE_SECONDS = 0.1  # read beyond the clip's end, for the resampling filter


class Decoded(NamedTuple):
    """The beginning of a recording.

    Attributes:
      audio: mono, float32 [n] in [-1, 1], at `rate`.
      rate: samples a second.
      frames: samples of the whole recording.
    """

    audio: np.ndarray
    rate: int
    frames: int


class Clips:
    """Clips of one length that are decoded when they are read.

    Args:
      keys: what names each clip.
      read: from a key to int16 [points] and remarks on what was done to the recording.
      points: samples of a clip.
      remarks: counts of the remarks on the clips that were read; shared by those that `take` gives.
    """

    def __init__(self, keys: Sequence[Any], read: Callable[[Any], tuple[np.ndarray, list[str]]], points: int, remarks: Counter[str] | None = None):
        self.keys = keys
        self.shape = (len(keys), points)
        self.nbytes = 2 * len(keys) * points
        self.remarks = Counter() if remarks is None else remarks
        self._read = read
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> np.ndarray:
        clip, remarks = self._read(self.keys[row])
        with self._lock:
            self.remarks.update(remarks)
        return clip

    def take(self, rows: Iterable[int]) -> "Clips":
        """The clips of these rows, in this order."""
        return Clips([self.keys[row] for row in rows], self._read, self.shape[1], self.remarks)

    def chunks(self, description: str) -> Iterator[np.ndarray]:
        """All clips in order, int16 [at most ROWS_AT_ONCE, points] at a time, with a progress line."""
        for clips in in_threads(self.__getitem__, range(len(self)), description, "clip"):
            yield np.stack(clips)


def decode_file(path: Path, seconds: float) -> Decoded:
    """The first `seconds` of an audio file, down-mixed to mono by the mean of its channels.

    Raises:
      DataError: the file is empty, not audio, not finite, or ends before its header says (WAV and AIFF; of FLAC libsndfile sees it, OGG has no such header).
    """
    try:
        with soundfile.SoundFile(path) as file:
            audio = file.read(int(np.ceil((seconds + SPARE_SECONDS) * file.samplerate)), dtype="float32", always_2d=True).mean(axis=1)
            decoded = Decoded(audio, file.samplerate, file.frames)
            shorter = re.search(r"\b(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info)
    except soundfile.LibsndfileError as error:
        size = path.stat().st_size
        raise DataError(f"{path} is {'empty (0 bytes)' if not size else f'not audio that can be decoded ({error.error_string})'}.") from error
    if shorter and int(shorter[2]) < int(shorter[1]) < STREAMED_BYTES:
        raise DataError(f"{path} is cut off: it holds {shorter[2]} bytes of audio, but its header says {shorter[1]}. Copy it again, or leave it out.")
    if not len(audio):
        raise DataError(f"{path} is empty: it holds no samples.")
    if not np.all(np.isfinite(audio)):
        raise DataError(f"{path} holds samples that are NaN or infinite.")
    return decoded


def require_mp3() -> None:
    """Raises ResourceError if the audio library here cannot decode MP3."""
    if "MP3" not in soundfile.available_formats():
        raise ResourceError(
            f"libsndfile {soundfile.__libsndfile_version__} cannot decode MP3 (1.1 and newer can): install soundfile from a wheel (python -m pip install "
            "--force-reinstall soundfile), or update the system's libsndfile."
        )


def fit_clip(decoded: Decoded, rate: int, points: int) -> tuple[np.ndarray, list[str]]:
    """A clip int16 [points] at `rate`, and remarks on what was done.

    The audio is resampled by a polyphase filter, cut, or filled up with silence.
    """
    audio, remarks = decoded.audio, []
    if decoded.rate != rate:
        from scipy.signal import resample_poly  # a second to import, and only this needs it

        factor = gcd(rate, decoded.rate)
        audio = resample_poly(audio, rate // factor, decoded.rate // factor)
        remarks.append(f"resampled from {decoded.rate} Hz")
    length = decoded.frames * rate / decoded.rate
    if abs(length - points) >= 1:
        remarks.append("cut" if length > points else "filled up with silence")
    audio = audio[:points]
    clip = np.zeros(points, np.int16)
    clip[: len(audio)] = np.clip(np.round(audio * 32767.0), -32768, 32767).astype(np.int16)
    return clip, remarks


def checksums(paths: Sequence[Path], description: str) -> list[str]:
    """Hex sha256 of each file, with a progress line."""
    return [digest for digests in in_threads(sha256_file, paths, description, "file") for digest in digests]


def in_threads(function: Callable[[Any], Any], items: Sequence[Any], description: str, unit: str) -> Iterator[list[Any]]:
    """What `function` gives for each item, in order, ROWS_AT_ONCE at a time, so that Ctrl-C need not wait for all of them; with a progress line."""
    with ThreadPoolExecutor(THREADS) as threads, progress(total=len(items), description=description, unit=unit) as bar:
        for start in range(0, len(items), ROWS_AT_ONCE):
            found = list(threads.map(function, items[start : start + ROWS_AT_ONCE]))
            yield found
            bar.update(len(found))
