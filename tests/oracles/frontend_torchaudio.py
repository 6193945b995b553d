"""Log-mel values from torchaudio: the Kaldi-style front end of EAsT (arXiv 2306.17424) and the Slaney one of musicnn.

    python tests/oracles/frontend_torchaudio.py

Written: frontend_torchaudio.npz, with the first and the last 12 frames of each case (they hold both paddings) as float32 [clips, 24, F], and for Kaldi a case
with other band edges for each clip.
"""

from pathlib import Path

import numpy as np
import torch
import torchaudio
from signals import waveforms

EDGES = ((7.0, 15_000.0), (19.0, 14_100.0))


def kaldi(waveform: torch.Tensor, *, sample_rate: int, bands: int, fmin: float, fmax: float) -> torch.Tensor:
    """One clip [1, N] -> [1, T, F]."""
    emphasised = torch.nn.functional.conv1d(waveform[:, None], torch.tensor([[[-0.97, 1.0]]], dtype=waveform.dtype))[:, 0]
    window = torch.hann_window(800, periodic=False, dtype=waveform.dtype)
    spectrum = torch.stft(emphasised, 1024, hop_length=320, win_length=800, center=True, window=window, return_complex=True)
    bank, _ = torchaudio.compliance.kaldi.get_mel_banks(bands, 1024, sample_rate, fmin, fmax, 100.0, -500.0, 1.0)
    bank = torch.nn.functional.pad(bank, (0, 1)).to(waveform.dtype)
    return torch.log(bank @ spectrum.abs() ** 2 + 1e-5).transpose(1, 2)


def slaney(waveform: torch.Tensor) -> torch.Tensor:
    """[B, N] -> [B, T, 96]."""
    transform = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect", norm="slaney", mel_scale="slaney")
    return torch.log10(10_000 * transform.to(waveform.dtype)(waveform) + 1).transpose(1, 2)


def ends(log_mel: torch.Tensor) -> np.ndarray:
    return torch.cat([log_mel[:, :12], log_mel[:, -12:]], dim=1).numpy().astype(np.float32)


def tensor(sample_rate: int) -> torch.Tensor:
    return torch.from_numpy(waveforms(sample_rate=sample_rate, seconds=1.0, clips=2).astype(np.float64) / 32768)


def main() -> None:
    high, low = tensor(32_000), tensor(16_000)
    jittered = [kaldi(high[i : i + 1], sample_rate=32_000, bands=128, fmin=fmin, fmax=fmax) for i, (fmin, fmax) in enumerate(EDGES)]
    np.savez_compressed(
        Path(__file__).with_suffix(".npz"),
        openmic=ends(kaldi(high, sample_rate=32_000, bands=128, fmin=0.0, fmax=16_000.0)),
        mtat=ends(kaldi(low, sample_rate=16_000, bands=96, fmin=0.0, fmax=8_000.0)),
        jittered=ends(torch.cat(jittered)),
        edges=np.array(EDGES, np.float32),
        slaney=ends(slaney(low)),
    )


if __name__ == "__main__":
    main()
