"""Log-mel front ends in jnp: the Kaldi-style one of EAsT (arXiv 2306.17424) and the Slaney one of musicnn (arXiv 1909.06654).

All functions work in jit and vmap and compute in float32, whatever floating type comes in.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.errors import ConfigError, DataError
from jaxkd.types import Array

PRE_EMPHASIS = 0.97
KALDI_LOG_OFFSET = 1e-5
KALDI_SHIFT, KALDI_SCALE = 3.7, 3.1
SLANEY_GAIN = 10_000.0
SLANEY_LINEAR_HZ, SLANEY_LINEAR_MEL, SLANEY_LOG_STEP = 1000.0, 15.0, np.log(6.4) / 27.0
_AT_ONCE = 8
"""Clips that a CPU works on at the same time: what XLA computes on one core for one of them goes on beside the others."""


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Settings of a log-mel front end; hashable, so that it can be a static argument of jit.

    Attributes:
      kind: "kaldi" (pre-emphasis, symmetric Hann, triangles linear in Kaldi mel without area normalisation, natural logarithm) or
        "slaney" (periodic Hann, triangles linear in Hz with area normalisation, log10(10000 x + 1)).
      sample_rate: of the waveform, in Hz.
      n_fft: length of the Fourier transform, in samples.
      window: length of the Hann window, centred in `n_fft`, in samples.
      hop: distance of two frames, in samples.
      bands: number of mel bands F.
      fmin: lower edge of the lowest band, in Hz.
      fmax: upper edge of the highest band, in Hz.

    Raises:
      ConfigError: a value is out of range.
    """

    kind: Literal["kaldi", "slaney"]
    sample_rate: int
    n_fft: int
    window: int
    hop: int
    bands: int
    fmin: float
    fmax: float

    def __post_init__(self) -> None:
        if self.kind not in ("kaldi", "slaney"):
            raise ConfigError(f"unknown front end {self.kind!r}. Valid: kaldi, slaney.")
        for name in ("sample_rate", "n_fft", "window", "hop", "bands"):
            if getattr(self, name) < 1:
                raise ConfigError(f"front end: {name}={getattr(self, name)} must be at least 1.")
        if self.n_fft % 2 or self.window > self.n_fft:
            raise ConfigError(f"front end: n_fft={self.n_fft} must be even and at least as long as window={self.window}.")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ConfigError(f"front end: need 0 <= fmin < fmax <= {self.sample_rate / 2:g} Hz (half the sample rate), got {self.fmin:g} and {self.fmax:g}.")

    def frames(self, samples: int) -> int:
        """Number of frames T of a waveform of `samples` samples.

        Raises:
          DataError: the waveform is too short for reflect padding by n_fft / 2.
        """
        transformed = samples - (self.kind == "kaldi")
        if transformed <= self.n_fft // 2:
            shortest = self.n_fft // 2 + 1 + (self.kind == "kaldi")
            raise DataError(
                f"a waveform of {samples} samples ({samples / self.sample_rate:.3f} s) is too short for this front end: it needs at least {shortest}."
            )
        return 1 + transformed // self.hop


EAST_OPENMIC = LogMel("kaldi", sample_rate=32_000, n_fft=1024, window=800, hop=320, bands=128, fmin=0.0, fmax=16_000.0)
EAST_MTAT = LogMel("kaldi", sample_rate=16_000, n_fft=1024, window=800, hop=320, bands=96, fmin=0.0, fmax=8_000.0)
MUSICNN = LogMel("slaney", sample_rate=16_000, n_fft=512, window=512, hop=256, bands=96, fmin=0.0, fmax=8_000.0)


def pcm_to_float(audio: Array) -> jax.Array:
    """Sixteen-bit samples to float32 in [-1, 1): any shape, divided by 32768.

    Raises:
      TypeError: the samples are not int16.
    """
    if audio.dtype != jnp.int16:
        raise TypeError(
            f"pcm_to_float takes int16 samples, got {audio.dtype}: for floats in [-1, 1], as librosa and soundfile give them, write "
            "np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16)."
        )
    return jnp.asarray(audio).astype(jnp.float32) / 32768.0


def _hann(settings: LogMel) -> np.ndarray:
    """Hann window centred in n_fft zeros, float32 [n_fft]; symmetric for Kaldi, periodic for Slaney."""
    period = settings.window - (settings.kind == "kaldi")
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(settings.window) / period)
    left = (settings.n_fft - settings.window) // 2
    return np.pad(window, (left, settings.n_fft - settings.window - left)).astype(np.float32)


def _power_spectrum(waveform: Array, settings: LogMel) -> jax.Array:
    """Centred short-time power spectrum with reflect padding: [B, N] -> float32 [B, T, n_fft / 2 + 1].

    Frames are a sum of shifted blocks of one hop, each padded to its place: XLA makes one pass of it, where joined blocks took three times as long on a CPU.
    """
    frames = 1 + waveform.shape[1] // settings.hop
    starts = range(0, settings.n_fft, settings.hop)
    padded = jnp.pad(waveform, ((0, 0), (settings.n_fft // 2, settings.n_fft // 2)), mode="reflect")
    needed = (frames + len(starts) - 1) * settings.hop
    padded = jnp.pad(padded, ((0, 0), (0, max(0, needed - padded.shape[1]))))[:, :needed]
    blocks = padded.reshape(waveform.shape[0], -1, settings.hop)

    def in_place(index: int, start: int) -> jax.Array:
        width = min(settings.hop, settings.n_fft - start)
        return jnp.pad(blocks[:, index : index + frames, :width], ((0, 0), (0, 0), (start, settings.n_fft - start - width)))

    framed = sum(in_place(index, start) for index, start in enumerate(starts))
    spectrum = jnp.fft.rfft(framed * _hann(settings))
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def _hz_to_slaney(frequency: np.ndarray) -> np.ndarray:
    """Slaney's Auditory Toolbox scale: linear below 1 kHz, logarithmic above."""
    logarithmic = SLANEY_LINEAR_MEL + np.log(np.maximum(frequency, SLANEY_LINEAR_HZ) / SLANEY_LINEAR_HZ) / SLANEY_LOG_STEP
    return np.where(frequency < SLANEY_LINEAR_HZ, frequency * SLANEY_LINEAR_MEL / SLANEY_LINEAR_HZ, logarithmic)


def _slaney_to_hz(mel: np.ndarray) -> np.ndarray:
    exponential = SLANEY_LINEAR_HZ * np.exp(SLANEY_LOG_STEP * (mel - SLANEY_LINEAR_MEL))
    return np.where(mel < SLANEY_LINEAR_MEL, mel * SLANEY_LINEAR_HZ / SLANEY_LINEAR_MEL, exponential)


def _slaney_filterbank(settings: LogMel) -> np.ndarray:
    """Triangles linear in Hz, each of unit area per Hz, float64 [n_fft / 2 + 1, F]."""
    bins = np.arange(settings.n_fft // 2 + 1) * (settings.sample_rate / settings.n_fft)
    low, high = _hz_to_slaney(np.array([settings.fmin, settings.fmax]))
    edges = _slaney_to_hz(np.linspace(low, high, settings.bands + 2))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - left) / (centre - left)
    falling = (right - bins[:, None]) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (right - left))


def kaldi_filterbank(settings: LogMel, fmin: Array, fmax: Array, *, numpy: bool = False) -> Array:
    """Kaldi's mel bank: triangles linear in mel(f) = 1127 ln(1 + f / 700), no area normalisation, nothing at the Nyquist bin.

    Args:
      settings: of kind "kaldi"; its own fmin and fmax are not read.
      fmin: lower edge of the lowest band in Hz, any shape [...].
      fmax: upper edge of the highest band in Hz, the same shape.
      numpy: compute in numpy float64, for a constant bank.

    Returns:
      [..., n_fft / 2 + 1, F], float32 (float64 with `numpy`).
    """
    xp, dtype = (np, np.float64) if numpy else (jnp, jnp.float32)
    bins = xp.arange(settings.n_fft // 2, dtype=dtype) * (settings.sample_rate / settings.n_fft)
    low = 1127.0 * xp.log1p(xp.asarray(fmin, dtype) / 700.0)[..., None, None]
    high = 1127.0 * xp.log1p(xp.asarray(fmax, dtype) / 700.0)[..., None, None]
    step = (high - low) / (settings.bands + 1)
    position = (1127.0 * xp.log1p(bins / 700.0)[:, None] - low) / step - xp.arange(settings.bands, dtype=dtype)
    bank = xp.maximum(0.0, xp.minimum(position, 2.0 - position))
    return xp.concatenate([bank, xp.zeros_like(bank[..., :1, :])], axis=-2)


@functools.lru_cache(maxsize=16)
def _constant_filterbank(settings: LogMel) -> np.ndarray:
    if settings.kind == "slaney":
        return _slaney_filterbank(settings).astype(np.float32)
    return kaldi_filterbank(settings, settings.fmin, settings.fmax, numpy=True).astype(np.float32)


def mel_power(waveform: Array, settings: LogMel, *, fmin: Array | None = None, fmax: Array | None = None) -> jax.Array:
    """Mel power spectrogram, before the logarithm.

    Args:
      waveform: floating point in [-1, 1], [B, N].
      settings: of the front end.
      fmin: lower edge per clip in Hz, [B]; `settings.fmin` if None. Kaldi only.
      fmax: upper edge per clip in Hz, [B]; `settings.fmax` if None. Kaldi only.

    Returns:
      float32 [B, T, F] with T = `settings.frames(N)`.

    Raises:
      TypeError: the waveform is not floating point.
      ConfigError: edges per clip for a Slaney bank.
      DataError: the waveform is too short.
    """
    if not jnp.issubdtype(waveform.dtype, jnp.floating):
        raise TypeError(f"the waveform must be floating point in [-1, 1], got {waveform.dtype}; convert 16-bit samples with pcm_to_float.")
    settings.frames(waveform.shape[1])
    waveform = jnp.asarray(waveform).astype(jnp.float32)
    if settings.kind == "kaldi":
        waveform = waveform[:, 1:] - PRE_EMPHASIS * waveform[:, :-1]
    if fmin is None and fmax is None:
        return _by_clip(lambda rows: _in_bands(rows, settings, _constant_filterbank(settings)), waveform)
    if settings.kind == "slaney":
        raise ConfigError("fmin and fmax per clip are for the kaldi front end; the slaney one has a constant bank.")
    clips = waveform.shape[:1]
    edges = [
        jnp.broadcast_to(jnp.asarray(edge, jnp.float32), clips) for edge in (settings.fmin if fmin is None else fmin, settings.fmax if fmax is None else fmax)
    ]
    return _by_clip(lambda rows, low, high: _in_bands(rows, settings, kaldi_filterbank(settings, low, high)), waveform, *edges)


def _in_bands(waveform: jax.Array, settings: LogMel, bank: Array) -> jax.Array:
    return jnp.matmul(_power_spectrum(waveform, settings), bank, precision=jax.lax.Precision.HIGHEST)


def _by_clip(function: Callable[..., jax.Array], *clips: jax.Array) -> jax.Array:
    """A function of clips, on a CPU of a few at once: their frames and spectra stay in its caches, and to allocate those of a batch takes half the time.

    Args:
      function: of arrays with one leading axis of clips, each clip treated by itself, to such an array.
      *clips: its arguments, each [B, ...].

    Returns:
      What the function gives of all clips, [B, ...], of the function's dtype.
    """
    of_one = jax.eval_shape(function, *(jax.ShapeDtypeStruct((1, *rows.shape[1:]), rows.dtype) for rows in clips))
    # of the kind of the clips: over a mapped axis that they are split over, each device has its own
    start = jnp.zeros_like(clips[0], of_one.dtype, (len(clips[0]), *of_one.shape[1:]))
    if not len(start):
        return start

    def few(start: jax.Array, *clips: jax.Array) -> jax.Array:
        number = math.gcd(len(start), _AT_ONCE)

        def add(step: jax.Array, made: jax.Array) -> jax.Array:
            for clip in range(number):
                place = step * number + clip
                made = jax.lax.dynamic_update_slice_in_dim(made, function(*(jax.lax.dynamic_slice_in_dim(rows, place, 1) for rows in clips)), place, 0)
            return made

        return jax.lax.fori_loop(0, len(start) // number, add, start)

    return jax.lax.platform_dependent(start, *clips, cpu=few, default=lambda _, *clips: function(*clips))


def log_mel(waveform: Array, settings: LogMel, *, fmin: Array | None = None, fmax: Array | None = None) -> jax.Array:
    """Log-mel spectrogram before normalisation: ln(x + 1e-5) for Kaldi, log10(10000 x + 1) for Slaney.

    Args, shapes and errors as for `mel_power`. SpecAugment belongs between this and `normalise`.
    """
    power = mel_power(waveform, settings, fmin=fmin, fmax=fmax)
    if settings.kind == "kaldi":
        return jnp.log(power + KALDI_LOG_OFFSET)
    return slaney_log(power)


def slaney_log(power: Array) -> jax.Array:
    """Musicnn's compression of mel power, log10(10000 x + 1), float32 of the same shape."""
    return jnp.log1p(SLANEY_GAIN * jnp.asarray(power).astype(jnp.float32)) / np.float32(np.log(10.0))


def normalise(log_mel: Array, settings: LogMel) -> jax.Array:
    """The input of the network: (v + 3.7) / 3.1 for Kaldi (arXiv 2306.17424), unchanged for Slaney. Any shape, float32."""
    values = jnp.asarray(log_mel).astype(jnp.float32)
    return (values + KALDI_SHIFT) / KALDI_SCALE if settings.kind == "kaldi" else values


def _mask(key: jax.Array, size: int, max_width: int) -> jax.Array:
    """True inside one band of uniform width in {0 .. max_width - 1} at a uniform place, bool [size]."""
    width_key, start_key = jax.random.split(key)
    width = jax.random.uniform(width_key) * min(max_width, size)
    start = jnp.floor(jax.random.uniform(start_key) * (size - width))
    position = jnp.arange(size)
    return (position >= start) & (position < start + jnp.floor(width))


def spec_augment(keys: jax.Array, log_mel: Array, max_frequency_width: int, max_time_width: int) -> jax.Array:
    """One frequency mask and one time mask per clip (arXiv 1904.08779), filled with 0.0.

    Args:
      keys: one typed random key per clip, [B].
      log_mel: before normalisation, [B, T, F].
      max_frequency_width: widths are uniform in {0 .. max_frequency_width - 1} bands (0: no frequency mask).
      max_time_width: the same for frames.

    Returns:
      float32 [B, T, F].
    """

    def one_clip(key: jax.Array, clip: jax.Array) -> jax.Array:
        frequency_key, time_key = jax.random.split(key)
        bands = _mask(frequency_key, clip.shape[1], max_frequency_width)
        frames = _mask(time_key, clip.shape[0], max_time_width)
        return jnp.where(frames[:, None] | bands[None, :], 0.0, clip)

    return jax.vmap(one_clip)(keys, jnp.asarray(log_mel).astype(jnp.float32))
