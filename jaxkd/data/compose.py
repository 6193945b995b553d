"""Clips from scores: which excerpt, which instruments, tempo, key and loudness, all drawn from one seed. No sound is made here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jaxkd.data.instruments import CYMBALS, INSTRUMENTS, KICKS, SNARES, Program
from jaxkd.data.scores import Note, Score
from jaxkd.errors import DataError

INSTRUMENT_COUNTS = (1, 2, 3)
INSTRUMENT_COUNT_WEIGHTS = (0.42, 0.40, 0.18)
TEMPO_FACTOR = (0.75, 1.4)
TEMPO_LIMITS = (55.0, 150.0)
TRANSPOSITION = (-5, 6)
VELOCITY = (60, 116)
VELOCITY_SPREAD = 8
RMS_DECIBELS = (-30.0, -18.0)
EXTRA_PART_PROBABILITY = 0.5
SHORTEST_NOTE_SECONDS = 0.03
MIN_SOUNDING_SECONDS = 0.5
MIN_DRUM_ONSETS = 3
DRUM_NOTE_SECONDS = 0.1
ATTEMPTS = 200
DECK_STREAM = 1_000_000_007


@dataclass(frozen=True)
class Event:
    """A note of a clip: onset and duration in seconds from the clip's start, MIDI pitch, velocity."""

    onset: float
    duration: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Voice:
    """One instrument of a clip: its class, General MIDI program, whether it is percussion, its notes."""

    label: str
    program: int
    percussion: bool
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Clip:
    """One clip to render: `rms_decibels` is its loudness relative to full scale; tempo in quarter notes a minute."""

    score: str
    start: float
    tempo: float
    transposition: int
    rms_decibels: float
    voices: tuple[Voice, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that sound."""
        return tuple(voice.label for voice in self.voices)


def split_scores(scores: Sequence[Score], weights: dict[str, float], seed: int) -> dict[str, list[Score]]:
    """Divides scores among splits in proportion to `weights`; scores of equal content stay together.

    Raises:
      DataError: fewer different scores than splits.
    """
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.content_hash, []).append(score)
    if len(groups) < len(weights):
        raise DataError(f"{len(groups)} different scores cannot be divided among {len(weights)} splits.")
    keys = sorted(groups, key=lambda key: groups[key][0].name)
    order = np.random.default_rng([seed, DECK_STREAM]).permutation(len(keys))
    shares = np.cumsum(list(weights.values())) / sum(weights.values())
    bounds = [0, *np.maximum(np.round(shares * len(keys)).astype(int), np.arange(1, len(weights) + 1))]
    return {split: [score for i in order[low:high] for score in groups[keys[i]]] for split, low, high in zip(weights, bounds[:-1], bounds[1:], strict=True)}


def compose_clips(scores: Sequence[Score], classes: Sequence[str], count: int, clip_seconds: float, stream: Sequence[int]) -> list[Clip]:
    """Draws `count` clips.

    Args:
      scores: what to draw from.
      classes: names of `INSTRUMENTS`; each is drawn equally often.
      count: number of clips; the first n are the same for every count >= n.
      clip_seconds: length of a clip.
      stream: integers that seed the draw.

    Raises:
      DataError: no excerpt of the scores has notes enough for a clip of this length.
    """
    deck = _deck(classes, np.random.default_rng([*stream, DECK_STREAM]))
    return [_compose_clip(scores, next(deck), clip_seconds, np.random.default_rng([*stream, index])) for index in range(count)]


def _deck(classes: Sequence[str], rng: np.random.Generator) -> Iterator[list[str]]:
    """Yields the classes of clip after clip, dealt from shuffled packs so that every class comes equally often."""
    pack: list[str] = []
    while True:
        size = min(int(rng.choice(INSTRUMENT_COUNTS, p=INSTRUMENT_COUNT_WEIGHTS)), len(classes))
        hand: list[str] = []
        while len(hand) < size:
            if not set(pack) - set(hand):
                pack += [classes[int(i)] for i in rng.permutation(len(classes))]
            hand.append(pack.pop(next(i for i, name in enumerate(pack) if name not in hand)))
        yield hand


def _compose_clip(scores: Sequence[Score], labels: list[str], clip_seconds: float, rng: np.random.Generator) -> Clip:
    for _ in range(ATTEMPTS):
        score = scores[int(rng.integers(len(scores)))]
        tempo = float(np.clip(score.tempo * rng.uniform(*TEMPO_FACTOR), *TEMPO_LIMITS))
        start = float(rng.uniform(0.0, max(score.length - clip_seconds * tempo / 60.0, 0.0)))
        transposition = int(rng.integers(TRANSPOSITION[0], TRANSPOSITION[1] + 1))
        voices = _orchestrate(score, labels, start, tempo, transposition, clip_seconds, rng)
        if all(_is_heard(voice, clip_seconds) for voice in voices):
            return Clip(score.name, round(start, 6), round(tempo, 6), transposition, round(float(rng.uniform(*RMS_DECIBELS)), 4), tuple(voices))
    raise DataError(f"no excerpt of {clip_seconds} s in {len(scores)} scores has notes enough for {', '.join(labels)}: choose a larger clip_seconds.")


def _is_heard(voice: Voice, clip_seconds: float) -> bool:
    if voice.percussion:
        return len({event.onset for event in voice.events}) >= min(MIN_DRUM_ONSETS, clip_seconds)
    return sum(event.duration for event in voice.events) >= min(MIN_SOUNDING_SECONDS, clip_seconds / 3.0)


def _orchestrate(score: Score, labels: list[str], start: float, tempo: float, transposition: int, clip_seconds: float, rng: np.random.Generator) -> list[Voice]:
    order = [int(i) for i in rng.permutation(len(score.parts))]
    voices = []
    for position, label in enumerate(labels):
        instrument = INSTRUMENTS[label]
        program = instrument.programs[int(rng.integers(len(instrument.programs)))]
        velocity = int(rng.integers(*VELOCITY))
        if instrument.percussion:
            notes = _drum_notes(score, rng)
        else:
            parts = [order[position % len(order)]]
            if instrument.polyphonic:
                parts += [part for part in order[len(labels) :] if rng.random() < EXTRA_PART_PROBABILITY]
            notes = [note for part in parts for note in score.parts[part]]
        heard = list(_excerpt(notes, start, tempo, clip_seconds))
        if not instrument.percussion:
            heard = _into_range(heard, transposition, program, rng)
        spread = rng.integers(-VELOCITY_SPREAD, VELOCITY_SPREAD + 1, size=len(heard))
        events = (
            Event(round(note.onset, 4), round(note.duration, 4), note.pitch, int(np.clip(velocity + s, 1, 127))) for note, s in zip(heard, spread, strict=True)
        )
        voices.append(Voice(label, program.number, instrument.percussion, tuple(events)))
    return voices


def _excerpt(notes: list[Note], start: float, tempo: float, clip_seconds: float) -> Iterator[Note]:
    """The notes that sound in the clip, in seconds; one that began before starts with the clip."""
    for note in notes:
        onset = max((note.onset - start) * 60.0 / tempo, 0.0)
        end = min((note.onset + note.duration - start) * 60.0 / tempo, clip_seconds)
        if end - onset >= SHORTEST_NOTE_SECONDS:
            yield Note(onset, end - onset, note.pitch)


def _drum_notes(score: Score, rng: np.random.Generator) -> list[Note]:
    """Kick on even beats, snare on odd ones, a cymbal on every onset of the score."""
    kick, snare, cymbal = (int(rng.choice(pieces)) for pieces in (KICKS, SNARES, CYMBALS))
    notes = []
    for onset in sorted({note.onset for part in score.parts for note in part}):
        notes.append(Note(onset, DRUM_NOTE_SECONDS, cymbal))
        if float(onset).is_integer():
            notes.append(Note(onset, DRUM_NOTE_SECONDS, kick if int(onset) % 2 == 0 else snare))
    return notes


def _into_range(notes: list[Note], transposition: int, program: Program, rng: np.random.Generator) -> list[Note]:
    """Transposes, then shifts by octaves into the instrument's range: all notes alike if they fit, else the ones outside on their own."""
    if not notes:
        return notes
    pitches = [note.pitch + transposition for note in notes]
    shifts = [shift for shift in range(-48, 49, 12) if min(pitches) + shift >= program.low and max(pitches) + shift <= program.high]
    to_the_middle = 12 * round((program.low + program.high - min(pitches) - max(pitches)) / 24)
    shift = shifts[int(rng.integers(len(shifts)))] if shifts else to_the_middle
    folded = []
    for note, pitch in zip(notes, pitches, strict=True):
        pitch += shift
        while pitch < program.low:
            pitch += 12
        while pitch > program.high:
            pitch -= 12
        folded.append(Note(note.onset, note.duration, pitch))
    return folded
