"""A process that renders MIDI with one SoundFont. It reads jobs from standard input and writes audio to standard output.

Run by path with `python -P`, so it imports nothing of jaxkd. A job is five uint32 (clips, points of a clip and gap at the renderer's rate,
points of a clip at the wanted rate, wanted rate, bytes of MIDI) and the MIDI; the answer is float32 [clips, points] in [-1, 1], mono.
"""

import io
import math
import struct
import sys
import wave

import numpy as np

JOB = struct.Struct("<5I")


def render(bank: bytes, midi: bytes, clips: int, period: int, points: int, rate: int) -> np.ndarray:
    """Float32 [clips, points], mono at `rate`."""
    import midirenderer  # here, so that the protocol can be read quickly, and where there is no renderer
    from scipy.signal import resample_poly

    with wave.open(io.BytesIO(midirenderer.render_wave_from(bank, midi))) as file:
        rendered_rate, channels = file.getframerate(), file.getnchannels()
        pcm = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, channels)
    mono = np.zeros(clips * period, np.float32)
    mono[: len(pcm)] = pcm[: len(mono)].mean(axis=1, dtype=np.float32) / np.float32(32768.0)
    factor = math.gcd(rate, rendered_rate)
    resampled = resample_poly(mono.reshape(clips, period), rate // factor, rendered_rate // factor, axis=1)
    return resampled[:, :points].astype("<f4")


def main() -> None:
    """Serves jobs until standard input ends."""
    with open(sys.argv[1], "rb") as file:
        bank = file.read()
    while head := sys.stdin.buffer.read(JOB.size):
        clips, period, points, rate, size = JOB.unpack(head)
        audio = render(bank, sys.stdin.buffer.read(size), clips, period, points, rate)
        sys.stdout.buffer.write(audio.tobytes())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
