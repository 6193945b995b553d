"""Leakage checks: recorded samples that two banks share, and scores that splits share.

Banks are compared as they sound, on decoded audio: a sample that was compressed with Ogg Vorbis never equals its original byte for byte.
Each sample is brought to one rate; the candidates for a match are those of nearest long-term spectrum; a match is a peak of the normalised
cross-correlation over all shifts.
"""

from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any

import numpy as np
from scipy.fft import next_fast_len
from scipy.signal import resample_poly

from jaxkd.data.scores import Score
from jaxkd.data.soundfont import Sample, read_soundfont, samples

RATE = 11_025
COMPARED_SECONDS = 0.5
SHORTEST_SECONDS = 0.02
BANDS = 48
LOWEST_HERTZ = 40.0
CANDIDATES = 5
SHARED_CORRELATION = 0.98
LISTED = 50


def shared_scores(scores: Mapping[str, Sequence[Score]]) -> list[list[str]]:
    """Scores of equal content in more than one split, as [split, score, split, score]; empty when nothing leaks."""
    seen: dict[str, tuple[str, str]] = {}
    shared = []
    for split, members in scores.items():
        for score in members:
            first = seen.setdefault(score.content_hash, (split, score.name))
            if first[0] != split:
                shared.append([*first, split, score.name])
    return shared


def shared_samples(first: bytes, second: bytes, *, names: tuple[str, str]) -> dict[str, Any]:
    """Recorded samples that two SoundFonts share.

    Args:
      first: bytes of an sf2 or sf3 file.
      second: bytes of another.
      names: of both, for messages.

    Returns:
      A JSON-able report: "compared" (samples long enough, of each bank), "shared" (how many of the second bank's samples are in the first),
      "examples" ([first, second, correlation], the strongest 50), "threshold".

    Raises:
      DataError: a bank is damaged.
    """
    left, right = (_comparable(data, name) for data, name in zip((first, second), names, strict=True))
    matches = _matches(left, right)
    matches.sort(key=lambda match: -match[2])
    return {
        "banks": list(names),
        "compared": [len(left), len(right)],
        "shared": len({match[1] for match in matches}),
        "examples": [[left[i][0], right[j][0], round(correlation, 4)] for i, j, correlation in matches[:LISTED]],
        "threshold": SHARED_CORRELATION,
    }


def _comparable(data: bytes, name: str) -> list[tuple[str, np.ndarray]]:
    heard = [(sample.name, _excerpt(sample)) for sample in samples(read_soundfont(data, name), name)]
    return [(title, audio) for title, audio in heard if len(audio) >= SHORTEST_SECONDS * RATE and np.any(audio)]


def _excerpt(sample: Sample) -> np.ndarray:
    """The first half second at the common rate, mean removed, of unit length."""
    audio = sample.pcm[: int(COMPARED_SECONDS * sample.rate)].astype(np.float32)
    if len(audio) < SHORTEST_SECONDS * sample.rate:
        return audio[:0]
    factor = gcd(RATE, sample.rate)
    audio = resample_poly(audio, RATE // factor, sample.rate // factor)
    audio = audio - audio.mean()
    return audio / max(float(np.linalg.norm(audio)), 1e-12)


def _spectra(excerpts: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Log band energies [n, BANDS], each row of zero mean and unit length."""
    size = int(COMPARED_SECONDS * RATE)
    edges = np.geomspace(LOWEST_HERTZ, RATE / 2, BANDS + 1) / RATE * size
    bins = np.searchsorted(edges, np.arange(size // 2 + 1), side="right") - 1
    bands = np.stack([bins == band for band in range(BANDS)]).astype(np.float64)
    power = np.stack([np.square(np.abs(np.fft.rfft(audio, size))) for _, audio in excerpts])
    levels = np.log(power @ bands.T + 1e-6)
    levels -= levels.mean(axis=1, keepdims=True)
    return levels / np.linalg.norm(levels, axis=1, keepdims=True)


def _matches(left: list[tuple[str, np.ndarray]], right: list[tuple[str, np.ndarray]]) -> list[tuple[int, int, float]]:
    if not left or not right:
        return []
    nearness = _spectra(right) @ _spectra(left).T
    found = []
    for j, row in enumerate(nearness):
        best = max((_peak_correlation(left[i][1], right[j][1]), int(i)) for i in np.argsort(-row)[:CANDIDATES])
        if best[0] >= SHARED_CORRELATION:
            found.append((best[1], j, best[0]))
    return found


def _peak_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Largest absolute normalised cross-correlation over all shifts that overlap in at least half of the shorter one."""
    size = next_fast_len(len(a) + len(b) - 1, real=True)
    products = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    shifts = np.arange(-(len(b) - 1), len(a))
    start, end = np.maximum(shifts, 0), np.minimum(shifts + len(b), len(a))
    energy_a, energy_b = (np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))]) for x in (a, b))
    energy = (energy_a[end] - energy_a[start]) * (energy_b[end - shifts] - energy_b[start - shifts])
    enough = (end - start >= 0.5 * min(len(a), len(b))) & (energy > 1e-6)
    return float(np.max(np.abs(products[shifts[enough]]) / np.sqrt(energy[enough]), initial=0.0))
