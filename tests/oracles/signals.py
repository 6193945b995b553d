"""Inputs of the oracles, made from a seed with numpy alone, so that script and test see the same numbers and only outputs are stored."""

import numpy as np


def waveforms(*, sample_rate: int, seconds: float, clips: int, seed: int = 0) -> np.ndarray:
    """Clips of plucked harmonic notes, a chirp and noise bursts: int16 [clips, samples]."""
    generator = np.random.default_rng(seed)
    samples = int(sample_rate * seconds)
    time = np.arange(samples) / sample_rate
    result = np.zeros((clips, samples))
    for clip in result:
        for _ in range(int(6 * seconds)):
            start, pitch = generator.uniform(0, seconds), 55.0 * 2 ** generator.uniform(0, 5)
            decay, brightness = generator.uniform(2, 12), generator.uniform(0.4, 0.8)
            since = time - start
            envelope = np.where(since >= 0, np.exp(-decay * np.maximum(since, 0)), 0.0)
            for harmonic in range(1, 9):
                if harmonic * pitch < sample_rate / 2:
                    clip += 0.08 * brightness**harmonic * envelope * np.sin(2 * np.pi * harmonic * pitch * since)
        sweep = 100.0 * time + (0.2 * sample_rate / seconds) * time**2
        clip += 0.03 * np.sin(2 * np.pi * sweep)
        bursts = (np.floor(time * generator.uniform(2, 5)) % 2) * 0.02
        clip += bursts * generator.standard_normal(samples)
    return np.round(np.clip(result, -1, 1) * 32767).astype(np.int16)


def log_mel_patches(*, patches: int, seed: int = 1) -> np.ndarray:
    """Patches with the range and the smoothness of musicnn's log-mel: float32 [patches, 187, 96]."""
    generator = np.random.default_rng(seed)
    power = generator.gamma(0.5, 1.0, (patches, 187, 96)) * np.exp(-np.linspace(0, 8, 96)) * generator.uniform(0, 1, (patches, 187, 1)) ** 2
    return np.log10(1 + 10_000 * power).astype(np.float32)
