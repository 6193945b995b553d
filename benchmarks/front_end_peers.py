"""The peers' side of `benchmarks.front_end`: log-mel of the same clips by librosa or by torchaudio, in its usual way, as a batch or clip by clip.

Reads one command a line and answers with one JSON line: "SETTING CALLS" -> {"wall_s"}, the mean of so many calls in a row, each for all clips, by the faster
way; "SETTING 0" -> {"way"}, and writes the result of the first two clips, [2, T, F], to SIDE-SETTING.npy. Needs the package that it measures alone.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def librosa_side(setting: dict[str, Any], folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Clips [..., N] -> log-mel [..., F, T]."""
    import librosa

    names = {"n_fft": setting["n_fft"], "hop_length": setting["hop"], "pad_mode": "reflect"}
    if setting["kind"] == "slaney":
        edges = {"fmin": setting["fmin"], "fmax": setting["fmax"], "n_mels": setting["bands"]}

        def slaney(clips: np.ndarray) -> np.ndarray:
            power = librosa.feature.melspectrogram(y=clips, sr=setting["sample_rate"], win_length=setting["window"], **names, **edges)
            return np.log10(10_000 * power + 1)

        return slaney
    bank, window = np.ascontiguousarray(np.load(folder / f"bank-{setting['name']}.npy").T), np.load(folder / f"window-{setting['name']}.npy")

    def kaldi(clips: np.ndarray) -> np.ndarray:
        spectrum = librosa.stft(clips[..., 1:] - np.float32(0.97) * clips[..., :-1], window=window, **names)
        return np.log(bank @ (np.abs(spectrum) ** 2) + np.float32(1e-5))

    return kaldi


def torchaudio_side(setting: dict[str, Any], folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Clips [..., N] -> log-mel [..., F, T]."""
    import torch
    import torchaudio

    torch.set_num_threads(os.cpu_count() or 1)
    names = {"n_fft": setting["n_fft"], "win_length": setting["window"], "hop_length": setting["hop"], "pad_mode": "reflect", "power": 2.0}
    if setting["kind"] == "slaney":
        edges = {"f_min": setting["fmin"], "f_max": setting["fmax"], "n_mels": setting["bands"], "norm": "slaney", "mel_scale": "slaney"}
        transform = torchaudio.transforms.MelSpectrogram(setting["sample_rate"], **names, **edges)
        return lambda clips: torch.log10(10_000 * transform(torch.from_numpy(clips)) + 1).numpy()
    spectrogram = torchaudio.transforms.Spectrogram(**names, window_fn=lambda length: torch.hann_window(length, periodic=False))
    sizes = (setting["bands"], setting["n_fft"], setting["sample_rate"], setting["fmin"], setting["fmax"])
    bank = torch.nn.functional.pad(torchaudio.compliance.kaldi.get_mel_banks(*sizes, 100.0, -500.0, 1.0)[0], (0, 1))

    def kaldi(clips: np.ndarray) -> np.ndarray:
        waveform = torch.from_numpy(clips)
        return torch.log(bank @ spectrogram(waveform[..., 1:] - 0.97 * waveform[..., :-1]) + 1e-5).numpy()

    return kaldi


SIDES = {"librosa": librosa_side, "torchaudio": torchaudio_side}


class Ways:
    """The log-mel of one setting, as a batch or clip by clip, whichever is faster."""

    def __init__(self, side: str, setting: dict[str, Any], folder: Path):
        log_mel, clips = SIDES[side](setting, folder), np.load(folder / f"clips-{setting['sample_rate']}.npy")
        self.ways: dict[str, Callable[[], Any]] = {"batch": lambda: log_mel(clips), "clip by clip": lambda: [log_mel(clip) for clip in clips]}
        np.save(folder / f"{side}-{setting['name']}.npy", np.swapaxes(log_mel(clips[:2]), 1, 2))
        self.seconds(3)
        self.chosen = min(self.ways, key=lambda way: self.seconds(3, way))

    def seconds(self, calls: int, way: str | None = None) -> float:
        """Mean of so many calls of one way, or of each."""
        started = time.perf_counter()
        for run in [self.ways[way]] if way else self.ways.values():
            for _ in range(calls):
                run()
        return (time.perf_counter() - started) / calls


def main() -> None:
    """Answers until the input ends."""
    side, folder = sys.argv[1], Path(sys.argv[2])
    settings = {setting["name"]: setting for setting in json.loads((folder / "settings.json").read_text())}
    ways: dict[str, Ways] = {}
    for line in sys.stdin:
        name, calls = line.split()
        if name not in ways:
            ways[name] = Ways(side, settings[name], folder)
        answer = {"wall_s": ways[name].seconds(int(calls), ways[name].chosen)} if int(calls) else {"way": ways[name].chosen}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
