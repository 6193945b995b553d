"""Clips as one Standard MIDI File: clip after clip with silence between, so that a bank is read once for many clips."""

import math
import struct
from collections.abc import Sequence

from jaxkd.data.compose import Clip

TICKS_PER_QUARTER = 500  # at the default tempo of 120 quarter notes a minute, a tick is one millisecond
GRID_TICKS = 4  # the renderer starts notes at blocks of 64 points: 4 ms is three blocks at 48 kHz
GAP_TICKS = 20
DRUM_CHANNEL = 9
REVERB_SEND = 91
CHORUS_SEND = 93
ALL_SOUND_OFF = 120
RESET_CONTROLLERS = 121


def period_ticks(clip_seconds: float) -> int:
    """Milliseconds from the start of one clip to the start of the next."""
    return GRID_TICKS * math.ceil((1000.0 * clip_seconds + GAP_TICKS) / GRID_TICKS)


def clips_to_midi(clips: Sequence[Clip], clip_seconds: float) -> bytes:
    """A MIDI file (format 0) in which clip i starts at `i * period_ticks(clip_seconds)` milliseconds.

    At the end of each clip all sound is cut, and there is no reverberation: no clip hears the one before it.
    """
    timed: list[tuple[int, int, bytes]] = []
    period = period_ticks(clip_seconds)
    for index, clip in enumerate(clips):
        start = index * period
        melodic = iter(channel for channel in range(16) if channel != DRUM_CHANNEL)
        for voice in clip.voices:
            channel = DRUM_CHANNEL if voice.percussion else next(melodic)
            for controller in (RESET_CONTROLLERS, REVERB_SEND, CHORUS_SEND):
                timed.append((_tick(start, 0.0), 0, bytes([0xB0 | channel, controller, 0])))
            timed.append((_tick(start, 0.0), 1, bytes([0xC0 | channel, voice.program])))
            for event in voice.events:
                timed.append((_tick(start, event.onset), 3, bytes([0x90 | channel, event.pitch, event.velocity])))
                timed.append((_tick(start, event.onset + event.duration), 2, bytes([0x80 | channel, event.pitch, 0])))
            timed.append((_tick(start, clip_seconds) + GRID_TICKS, 4, bytes([0xB0 | channel, ALL_SOUND_OFF, 0])))
    timed.append((len(clips) * period, 5, b"\xff\x2f\x00"))
    track, now = bytearray(), 0
    for tick, _, message in sorted(timed):
        track += _variable_length(tick - now) + message
        now = tick
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_PER_QUARTER) + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _tick(start: int, seconds: float) -> int:
    """The tick in the middle of a cell of the grid, where rounding of time cannot move it to another block."""
    return start + GRID_TICKS * round(1000.0 * seconds / GRID_TICKS) + GRID_TICKS // 2


def _variable_length(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))
