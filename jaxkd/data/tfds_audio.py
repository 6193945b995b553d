"""Audio features of TensorFlow Datasets: clips of one length at one rate, read row by row."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxkd.data.clips import Clips, Decoded
from jaxkd.data.labelled_split import Examples
from jaxkd.errors import DataError
from jaxkd.progress import progress

PCM_SCALE = 32768.0


def is_audio(feature: Any, rate: int | None) -> bool:
    """Whether a feature holds audio: samples, or samples by channel, of a known rate; 16-bit, or floating point in [-1, 1]."""
    return rate is not None and len(feature.shape) in (1, 2) and np.dtype(feature.np_dtype).kind in "if" and feature.shape[0] != 1


def rate_of(info: Any, feature: Any) -> int | None:
    """Samples a second, as the feature or else the metadata of the data set tell; None where neither does."""
    metadata = info.metadata if isinstance(info.metadata, Mapping) else {}
    return getattr(feature, "sample_rate", None) or metadata.get("sample_rate")


def member(row_or_features: Any, name: str) -> Any:
    """A feature, or its value in a row, by name; "instrument/family" is the member family of the feature instrument."""
    if name in row_or_features:
        return row_or_features[name]
    outer, _, inner = name.partition("/")
    return row_or_features[outer][inner]


def read_audio(
    source: Any,
    *,
    name: str,
    input_key: str,
    label_key: str,
    rate: int,
    fit: Callable[[Decoded], tuple[np.ndarray, list[str]]],
    points: int,
    remarks: Counter[str],
) -> Examples:
    """The label and the content's digest of every row of a split; the clips are decoded when they are written.

    Args:
      source: a TFDS data source.
      name: of the split; for messages.
      input_key: the audio feature.
      label_key: the label feature.
      rate: of the audio, in Hz.
      fit: from the audio to a clip int16 [points] and remarks.
      points: samples of a clip.
      remarks: counts those on the clips.
    """
    lock = threading.Lock()
    labels, digests = np.empty(len(source), np.int64), []
    for place in progress(range(len(source)), description=f"reading {name}", unit="clip"):
        row = source[place]
        labels[place] = member(row, label_key)
        digests.append(hashlib.blake2b(np.ascontiguousarray(row[input_key]).tobytes(), digest_size=16).digest())

    def clip(place: int) -> tuple[np.ndarray, list[str]]:
        with lock:
            samples = np.asarray(source[place][input_key])
        return fit(Decoded(_mono(samples, f"{name}, row {place}"), rate, len(samples)))

    return Examples(Clips(range(len(source)), clip, points, remarks), labels, digests)


def _mono(samples: np.ndarray, where: str) -> np.ndarray:
    """float32 [n] in [-1, 1], the mean of the channels."""
    peak = np.abs(samples.astype(np.float64)).max(initial=0.0)
    scale = PCM_SCALE if samples.dtype.kind == "i" else 1.0
    if not len(samples) or not np.isfinite(peak) or (scale > 1 and peak > scale):
        what = "empty" if not len(samples) else f"not of 16 bits (it reaches {peak:.0f})" if np.isfinite(peak) else "not finite"
        raise DataError(f"{where}: the audio is {what}: choose another data set or feature.")
    audio = samples.astype(np.float32) / scale
    return audio.mean(axis=1) if audio.ndim == 2 else audio
