"""Brings clips to the sample rate of a teacher."""

from math import gcd
from typing import NamedTuple

import numpy as np

METHOD = "polyphase, Kaiser window of beta 5"
"""How it is done, for the identity of a store."""


class Clips(NamedTuple):
    """The clips of a data set: sample rate in Hz, and samples of each."""

    sample_rate: int
    samples: int

    def preprocessing(self, wanted: int) -> dict[str, int | str]:
        """What `resampled` does to them for a teacher of the rate `wanted`, as JSON values; empty for nothing."""
        return {} if self.sample_rate == wanted else {"resampled_from": self.sample_rate, "resampling": METHOD}


def resampled_length(samples: int, rate: int, wanted: int) -> int:
    """Number of samples after `resampled`."""
    common = gcd(rate, wanted)
    return -(-samples * (wanted // common) // (rate // common))


def resampled(audio: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """int16 [B, samples] at `rate` Hz -> float32 in [-1, 1], [B, samples'] at `wanted` Hz; only divided by 32768 where the rates agree.

    Where the wanted rate is the higher one, nothing is added above half the old rate: a teacher then hears an empty upper band.
    """
    waveform = np.asarray(audio).astype(np.float32) / 32768
    if rate == wanted:
        return waveform
    from scipy.signal import resample_poly

    common = gcd(rate, wanted)
    return np.clip(resample_poly(waveform, wanted // common, rate // common, axis=1), -1, 1).astype(np.float32)
