"""The sixteen instrument classes: their General MIDI programs, ranges, and whether they play several voices at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """A General MIDI program (counted from 0) and the MIDI pitches that it plays, an octave at least."""

    number: int
    low: int
    high: int


@dataclass(frozen=True)
class Instrument:
    """A class of sounds: any of its programs may stand for it. A polyphonic one may play several parts of a score."""

    programs: tuple[Program, ...]
    polyphonic: bool = False
    percussion: bool = False


def _programs(numbers: tuple[int, ...], low: int, high: int) -> tuple[Program, ...]:
    return tuple(Program(number, low, high) for number in numbers)


INSTRUMENTS: dict[str, Instrument] = {
    "piano": Instrument(_programs((0, 1, 2), 36, 96), polyphonic=True),
    "harpsichord": Instrument(_programs((6,), 36, 84), polyphonic=True),
    "organ": Instrument(_programs((16, 17, 18, 19), 36, 84), polyphonic=True),
    "guitar": Instrument(_programs((24, 25, 26, 27, 29, 30), 40, 76), polyphonic=True),
    "bass": Instrument(_programs((32, 33, 34, 35), 28, 55)),
    "violin": Instrument(_programs((40,), 55, 91)),
    "cello": Instrument(_programs((42,), 36, 69)),
    "harp": Instrument(_programs((46,), 36, 91), polyphonic=True),
    "choir": Instrument(_programs((52, 53), 43, 79), polyphonic=True),
    "trumpet": Instrument(_programs((56, 59), 55, 82)),
    "trombone": Instrument(_programs((57,), 40, 70)),
    "sax": Instrument((Program(64, 56, 87), Program(65, 65, 80), Program(66, 44, 75), Program(67, 36, 68))),  # TimGM6mb's alto is mute at pitch 64
    "clarinet": Instrument(_programs((71,), 50, 86)),
    "flute": Instrument(_programs((73,), 60, 93)),
    "synth": Instrument(_programs((62, 63, 80, 81, 87, 90), 40, 88), polyphonic=True),
    "drums": Instrument(_programs((0, 8, 16, 24, 32, 40), 35, 81), percussion=True),
}

KICKS = (35, 36)
SNARES = (38, 40)
CYMBALS = (42, 44, 46, 51)
