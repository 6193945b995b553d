"""aiSFX (Ma and Lerch, ISMIR 2022) as a teacher: embeddings for sound effects, from the weights in the wheel of the package aisfx.

The front end is the one that the weights were trained with, Essentia's, which the package uses by default. Its other one, by librosa, hands the network a
spectrogram with time and frequency exchanged, and is not offered.
"""

import functools
import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.errors import ArtefactError, DataError
from jaxkd.models import aisfx as network
from jaxkd.models.frozen import computed_in, with_kernels
from jaxkd.models.macs import count_macs
from jaxkd.teachers.resampling import Clips, resampled, resampled_length
from jaxkd.teachers.torch_checkpoint import read_checkpoint
from jaxkd.types import Array

SAMPLE_RATE = 44_100
N_FFT, HOP, BANDS = 2048, 1024, 96
FMIN, FMAX = 0.0, 22_050.0
MEL_SCALE, MEL_HZ = 1127.01048, 700.0
GAIN = 10_000.0
LARGEST = 9.457798957824707
BLOCK_FRAMES, BLOCK_HOP = 100, 50
MAX_BLOCKS = 16
MEMBER = "aisfx/models/checkpoint.pth"
PREPROCESSING = {
    "kind": "essentia",
    "sample_rate": SAMPLE_RATE,
    "n_fft": N_FFT,
    "hop": HOP,
    "bands": BANDS,
    "fmin": FMIN,
    "fmax": FMAX,
    "compression": "log10(10000 x + 1)",
    "divided_by": LARGEST,
    "block_frames": BLOCK_FRAMES,
    "block_hop": BLOCK_HOP,
}
VARIABLES = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}


@functools.cache
def _filterbank() -> np.ndarray:
    """Triangles linear in HTK mel, the weights of each of sum 1: float32 [n_fft / 2 + 1, F]."""
    bins = MEL_SCALE * np.log1p(np.arange(N_FFT // 2 + 1) * (SAMPLE_RATE / N_FFT) / MEL_HZ)
    low, high = MEL_SCALE * np.log1p(np.array([FMIN, FMAX]) / MEL_HZ)
    position = (bins[:, None] - low) / ((high - low) / (BANDS + 1)) - np.arange(BANDS)
    bank = np.maximum(0.0, np.minimum(position, 2.0 - position))
    return (bank / bank.sum(axis=0)).astype(np.float32)


def count_frames(samples: int) -> int:
    """Spectrogram frames of a clip of `samples` samples at 44.1 kHz: all that begin before its end."""
    return 1 + (samples + N_FFT // 2 - 1) // HOP


def count_blocks(samples: int) -> int:
    """Number of blocks T of a clip at 44.1 kHz: 100 frames each, 50 apart, without a last one that is not full; a clip shorter than a block gives one.

    Raises:
      DataError: the clip has no more frames than the distance of two blocks.
    """
    frames = count_frames(samples)
    if frames <= BLOCK_HOP:
        shortest = BLOCK_HOP * HOP - N_FFT // 2 + 1
        raise DataError(f"a clip of {samples / SAMPLE_RATE:.3f} s is too short for the aisfx teacher: it needs {shortest / SAMPLE_RATE:.3f} s.")
    return max(1, (frames - BLOCK_FRAMES) // BLOCK_HOP + 1)


def spectrogram(waveform: Array) -> jax.Array:
    """float32 [B, samples] at 44.1 kHz -> float32 [B, frames, 96] in about [0, 1]: log-mel divided by the largest value of the training data.

    The first frame is centred on the first sample, with zeros before it; the window is a symmetric Hann.
    """
    frames = count_frames(waveform.shape[1])
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / (N_FFT - 1))).astype(np.float32)
    padded = jnp.pad(waveform, ((0, 0), (N_FFT // 2, (frames + 1) * HOP - waveform.shape[1] - N_FFT // 2)))
    halves = padded.reshape(waveform.shape[0], frames + 1, HOP)
    spectrum = jnp.fft.rfft(jnp.concatenate([halves[:, :-1], halves[:, 1:]], axis=-1) * window)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    mel = jnp.matmul(power, _filterbank(), precision=jax.lax.Precision.HIGHEST)
    return jnp.log1p(GAIN * mel) / np.float32(np.log(10.0) * LARGEST)


def audio_blocks(waveform: Array) -> jax.Array:
    """float32 [B, samples] at 44.1 kHz -> float32 [B, T, 100, 96]; a clip shorter than a block is filled up with zeros.

    Raises:
      DataError: the clips are too short.
    """
    count = count_blocks(waveform.shape[1])
    values = spectrogram(waveform)
    needed = (count - 1) * BLOCK_HOP + BLOCK_FRAMES
    values = jnp.pad(values, ((0, 0), (0, max(0, needed - values.shape[1])), (0, 0)))
    return jnp.stack([values[:, start : start + BLOCK_FRAMES] for start in range(0, count * BLOCK_HOP, BLOCK_HOP)], axis=1)


def load_params(archive: Path) -> dict[str, dict[str, np.ndarray]]:
    """The weights of the network, named as `jaxkd.models.aisfx` wants them; float32.

    Raises:
      ArtefactError: the archive is missing, truncated, altered, or lacks a variable.
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            data = wheel.read(MEMBER)
    except FileNotFoundError:
        raise ArtefactError(f"the archive of the aisfx teacher, {archive}, is missing.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ArtefactError(f"{archive} is truncated, altered or not the wheel aisfx 0.1.2 ({error}): remove it and fetch it again.") from error
    weights, _ = read_checkpoint(data, name=f"{archive}, {MEMBER}")
    params = {}
    try:
        for number in range(network.LAYERS):
            block, layer = f"embedding_net.conv_block{number // 2 + 1}", number % 2 + 1
            kernel = weights[f"{block}.conv{layer}.weight"].transpose(2, 3, 1, 0)
            norm = {ours: weights[f"{block}.bn{layer}.{theirs}"] for ours, theirs in VARIABLES.items()}
            params[f"conv_{number + 1}"] = {"kernel": np.ascontiguousarray(kernel), **norm}
    except KeyError as error:
        raise ArtefactError(f"{MEMBER} in {archive} has no variable {error}: it is not the wheel aisfx 0.1.2.") from error
    return params


def _weight_hash(params: dict[str, dict[str, np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for layer, variables in params.items():
        for name, values in variables.items():
            digest.update(f"{layer}/{name}{values.shape}".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


class AisfxTeacher:
    """The network on blocks of 2.3 s, 1.16 s apart, as frames T; see `jaxkd.teachers.Teacher`. Clips of another rate are resampled to 44.1 kHz.

    Args:
      name: in the table.
      embedding: "embedding", the one that there is.
      params: from `load_params`.
      clips: what it is to embed.
      compute_dtype: of the operands of its products, "float32" or "bfloat16"; sums and all else are float32.
    """

    hop_seconds = BLOCK_HOP * HOP / SAMPLE_RATE
    native_rate = SAMPLE_RATE
    tags: tuple[str, ...] = ()

    def __init__(self, name: str, embedding: str, params: dict[str, dict[str, np.ndarray]], clips: Clips, compute_dtype: str = "float32") -> None:
        count_blocks(resampled_length(clips.samples, clips.sample_rate, SAMPLE_RATE))
        self.name, self.embedding, self.sample_rate = name, embedding, clips.sample_rate
        self.preprocessing: dict[str, Any] = {**PREPROCESSING, **clips.preprocessing(SAMPLE_RATE), **computed_in(compute_dtype)}
        self.weight_hash = _weight_hash(params)
        self.parameters = sum(values.size for layer in params.values() for name, values in layer.items() if name not in ("mean", "variance"))
        self.dim = params[f"conv_{network.LAYERS}"]["kernel"].shape[-1]
        self._params = with_kernels(params, compute_dtype)
        self._blocks, self._network = jax.jit(audio_blocks), jax.jit(network.aisfx)
        self._macs_per_block = count_macs(network.aisfx, params, jax.ShapeDtypeStruct((1, BLOCK_FRAMES, BANDS), jnp.float32))

    def macs_of(self, audio: np.ndarray) -> int:
        """Multiply-accumulates of the network for one clip of int16 [B, samples]."""
        return self._macs_per_block * count_blocks(resampled_length(audio.shape[1], self.sample_rate, SAMPLE_RATE))

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """int16 [B, samples] -> float32 [B, T, 512]; raises DataError for clips that are too short. Runs in groups of at most 16 blocks, of one shape."""
        blocks = self._blocks(resampled(audio, self.sample_rate, SAMPLE_RATE))
        rows = blocks.reshape(-1, *blocks.shape[2:])
        group = min(len(rows), MAX_BLOCKS)
        padded = jnp.pad(rows, ((0, -len(rows) % group), (0, 0), (0, 0)))
        results = [np.asarray(self._network(self._params, padded[start : start + group])) for start in range(0, len(rows), group)]
        return np.concatenate(results)[: len(rows)].reshape(*blocks.shape[:2], -1)


def build(name: str, *, embedding: str, archive: Path, clips: Clips, compute_dtype: str = "float32") -> AisfxTeacher:
    """Loads the network from the wheel aisfx 0.1.2 (read as a zip, never installed), for these clips.

    Raises:
      DataError: the clips are too short.
      ArtefactError: the archive is missing, truncated, altered or another package.
    """
    return AisfxTeacher(name, embedding, load_params(archive), clips, compute_dtype)
