"""Sound from clips: MIDI through worker processes, then a loudness that does not depend on the bank."""

import contextlib
import importlib.util
import os
import platform
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxkd.data.compose import Clip
from jaxkd.data.midi import clips_to_midi, period_ticks
from jaxkd.data.render_worker import JOB
from jaxkd.errors import DataError, ResourceError
from jaxkd.files import available_memory_bytes, require_free_memory
from jaxkd.progress import progress

RENDERED_RATE = 48_000
SECONDS_PER_JOB = 130.0
WORKER_BYTES = 600_000_000
SILENCE_RMS = 1e-4
PEAK_LIMIT = 0.98


def require_renderer() -> None:
    """Raises ResourceError if the renderer is not installed."""
    if importlib.util.find_spec("midirenderer") is None:
        raise ResourceError(
            f"midirenderer, which renders the clips, is not installed ({platform.system()} {platform.machine()}). It has ready-made builds for Linux x86-64 "
            "and macOS arm64 only: install it there (python -m pip install midirenderer), render there and copy the cache, or use your own audio "
            "(--config.data.source=audio_folder)."
        )


def audio_bytes(clips: int, clip_seconds: float, sample_rate: int) -> int:
    """Size of the int16 array [clips, samples] that rendering fills."""
    return 2 * clips * round(clip_seconds * sample_rate)


def require_memory(clips: int, clip_seconds: float, sample_rate: int) -> None:
    """Raises ResourceError unless the audio of `clips` clips and one worker fit into memory."""
    require_free_memory(audio_bytes(clips, clip_seconds, sample_rate) + WORKER_BYTES, f"rendering {clips:,} clips")


def render_clips(bank: Path, clips: Sequence[Clip], *, clip_seconds: float, sample_rate: int, description: str) -> np.ndarray:
    """Renders clips with a SoundFont, the same bytes for the same input.

    Args:
      bank: path of an sf2 file.
      clips: what to render.
      clip_seconds: length of a clip.
      sample_rate: of the result, at most 48,000.
      description: of the progress line.

    Returns:
      int16 [clips, round(clip_seconds * sample_rate)], mono; each clip at its own `rms_decibels`, lower where its peak would clip.

    Raises:
      ResourceError: the renderer is not installed, or memory is short.
      DataError: the bank cannot be rendered with, or a clip is silent.
    """
    require_renderer()
    points = round(clip_seconds * sample_rate)
    require_memory(len(clips), clip_seconds, sample_rate)
    worker_count = _worker_count(audio_bytes(len(clips), clip_seconds, sample_rate))
    audio = np.empty((len(clips), points), np.int16)
    size = max(1, int(SECONDS_PER_JOB / (period_ticks(clip_seconds) / 1000.0)))
    jobs = range(0, len(clips), size)
    pool: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    workers = [_Worker(bank) for _ in range(min(worker_count, len(jobs)))]
    for worker in workers:
        pool.put(worker)

    def run(start: int) -> int:
        chunk = clips[start : start + size]
        worker = pool.get()
        try:
            raw = worker.render(clips_to_midi(chunk, clip_seconds), len(chunk), period_ticks(clip_seconds) * RENDERED_RATE // 1000, points, sample_rate)
        finally:
            pool.put(worker)
        audio[start : start + len(chunk)] = _at_loudness(raw, chunk)
        return len(chunk)

    try:
        with ThreadPoolExecutor(max(len(workers), 1)) as threads, progress(total=len(clips), description=description, unit="clip") as bar:
            try:
                for done in threads.map(run, jobs):
                    bar.update(done)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for worker in workers:
                    worker.kill()
                raise
    finally:
        for worker in workers:
            worker.kill()
    return audio


def _worker_count(reserved_bytes: int) -> int:
    """As many workers as there are cores and as fit into the memory that is left beside the audio."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = available_memory_bytes()
    return max(1, cores if memory is None else min(cores, (memory - reserved_bytes) // WORKER_BYTES))


def _at_loudness(audio: np.ndarray, clips: Sequence[Clip]) -> np.ndarray:
    """int16 [n, points] from float32 [n, points]."""
    rms = np.sqrt(np.mean(np.square(audio, dtype=np.float64), axis=1))
    for clip, value in zip(clips, rms, strict=True):
        if value < SILENCE_RMS:
            raise DataError(f"a clip of {', '.join(clip.labels)} from score {clip.score} is silent (RMS {value:.1e}): the bank lacks one of its programs.")
    gain = 10.0 ** (np.array([clip.rms_decibels for clip in clips]) / 20.0) / rms
    gain = np.minimum(gain, PEAK_LIMIT / np.abs(audio).max(axis=1))
    return np.round(audio * gain[:, None] * 32767.0).astype(np.int16)


class _Worker:
    """A process that holds one bank."""

    def __init__(self, bank: Path) -> None:
        self._bank = bank
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (kill closes it)
        script = Path(__file__).with_name("render_worker.py")
        self._process = subprocess.Popen([sys.executable, "-P", str(script), str(bank)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        self._lock = threading.Lock()

    def render(self, midi: bytes, clips: int, period: int, points: int, rate: int) -> np.ndarray:
        """float32 [clips, points] in [-1, 1]."""
        assert self._process.stdin is not None and self._process.stdout is not None
        size = 4 * clips * points
        try:
            self._process.stdin.write(JOB.pack(clips, period, points, rate, len(midi)) + midi)
            self._process.stdin.flush()
            data = self._process.stdout.read(size)
        except BrokenPipeError:
            data = b""
        if len(data) != size:
            raise DataError(f"rendering with {self._bank} failed (exit status {self._process.wait()}): {self._last_error()}")
        return np.frombuffer(data, "<f4").reshape(clips, points)

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it was killed, perhaps for want of memory"

    def kill(self) -> None:
        """Ends the process; harmless when it has ended."""
        with self._lock:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._errors):
                if stream is not None and not stream.closed:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
