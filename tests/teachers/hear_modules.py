"""Modules of the HEAR interface for tests: real mel statistics in numpy, framed and stamped as the interface's own naive baseline does it.

`write(folder, NAME=SOURCE)` makes the package `small_hear` with the module `mel` and others.
"""

import shutil
from pathlib import Path

MEL = """
import numpy as np

HOP_MS, N_FFT, BANDS = 250, 2048, 24


class Model:
    sample_rate = 22_050
    scene_embedding_size = 2 * BANDS
    timestamp_embedding_size = BANDS

    def __init__(self, path):
        self.gain = np.load(path) if path else np.ones(BANDS, np.float32)
        edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + self.sample_rate / 2 / 700), BANDS + 2) / 2595) - 1)
        bins = np.arange(N_FFT // 2 + 1) * self.sample_rate / N_FFT
        rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
        self.bank = np.maximum(0, np.minimum(rising, falling))


def load_model(model_file_path=""):
    return Model(model_file_path)


def get_timestamp_embeddings(audio, model):
    if audio.ndim != 2:
        raise ValueError("audio input must be 2D with shape (n_sounds, num_samples)")
    if not isinstance(model, Model):
        raise ValueError("Model must be an instance of Model")
    assert audio.dtype == np.float32 and np.abs(audio).max() <= 1
    padded = np.pad(audio, ((0, 0), (N_FFT // 2, N_FFT // 2)))
    hop = HOP_MS * model.sample_rate / 1000
    count = 1 + int((padded.shape[1] - N_FFT) // hop)
    starts = np.round(hop * np.arange(count)).astype(int)
    frames = np.stack([padded[:, start : start + N_FFT] for start in starts], axis=1)
    power = np.abs(np.fft.rfft(frames * np.hanning(N_FFT))) ** 2
    embeddings = np.log(power @ model.bank + 1e-4) * model.gain
    timestamps = np.tile(HOP_MS * np.arange(count, dtype=np.float32), (len(audio), 1))
    return embeddings.astype(np.float32), timestamps


def get_scene_embeddings(audio, model):
    embeddings, _ = get_timestamp_embeddings(audio, model)
    return np.concatenate([embeddings.mean(axis=1), embeddings.std(axis=1)], axis=-1)
"""


def write(folder: Path, **modules: str) -> Path:
    """Writes the package `small_hear` with `mel` and other modules (name -> source) below `folder`, and returns that."""
    package = folder / "small_hear"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    # a package that must not be imported by a mere check
    (package / "__init__.py").write_text("import sys\n\nsys.modules[__name__].imported = True\n")
    for name, source in {"mel": MEL, **modules}.items():
        (package / f"{name}.py").write_text(source)
    return folder
