"""Runs the package aisfx as released, front end by Essentia and network by torch, and stores what it returns.

    python tests/oracles/aisfx_torch.py aisfx-0.1.2-py2.py3-none-any.whl

Written: aisfx_torch.npz. For each case (a length in seconds of `signals.waveforms` at 44.1 kHz) the first and the last 12 frames of the normalised spectrogram
of the first clip, and the embedding of every block; "whole" adds the number of frames.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from signals import waveforms

CASES = {"long": 3.6, "short": 1.5}


def main(wheel: str) -> None:
    stored = {}
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)
        sys.path.insert(0, scratch)
        from aisfx import inference
        from aisfx.spectrogram.spectrogram_essentia import compute_spectrogram

        # the package's own loader, which the torch of its time let read the numpy numbers in this file
        weights, heads = torch.load(inference.get_path_modelWeights(), map_location="cpu", weights_only=False)
        model = inference.load_bestModel(weights, heads, "cpu")
        for case, seconds in CASES.items():
            embeddings = []
            for number, clip in enumerate(waveforms(sample_rate=44_100, seconds=seconds, clips=2)):
                file = f"{scratch}/clip.wav"
                soundfile.write(file, clip, 44_100)
                spectrogram = compute_spectrogram(file, sr=44_100.0, block_size=2048, hop_size=1024, n_mels=96, f_min=0.0, f_max=22_050.0)
                normalised = inference.spectrogram_normalize(spectrogram)
                if number == 0:
                    stored[f"{case}/spectrogram"] = np.concatenate([normalised[:12], normalised[-12:]]).astype(np.float32)
                    stored[f"{case}/frames"] = np.array(len(normalised))
                embeddings.append(inference.model_get_embedding(normalised, 0.5, True, model, "cpu").numpy())
            stored[f"{case}/embedding"] = np.stack(embeddings)
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **stored)


if __name__ == "__main__":
    main(sys.argv[1])
