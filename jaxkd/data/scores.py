"""Scores: MusicXML from a zip archive into notes, with nothing but the standard library. Times are in quarter notes from the start."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from jaxkd.errors import DataError

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
DEFAULT_TEMPO = 90.0
BACH_FOLDER = "music21/corpus/bach/"


@dataclass(frozen=True)
class Note:
    """One sounding note: onset and duration in quarter notes, MIDI pitch. Tied notes are one note."""

    onset: float
    duration: float
    pitch: int


@dataclass(frozen=True)
class Score:
    """One piece.

    Attributes:
      name: its file name without the ending.
      parts: the notes of each part, by onset.
      tempo: quarter notes a minute at the start, 90 where the file does not tell.
      rights: what the file itself says about rights, or "".
    """

    name: str
    parts: tuple[tuple[Note, ...], ...]
    tempo: float
    rights: str

    @property
    def length(self) -> float:
        """End of the last note, in quarter notes."""
        return max(note.onset + note.duration for part in self.parts for note in part)

    @property
    def content_hash(self) -> str:
        """Equal for two scores that hold the same notes, in whatever key and under whatever name."""
        notes = sorted((note.onset, note.pitch, note.duration) for part in self.parts for note in part)
        first = notes[0][1]
        relative = [(round(onset, 4), pitch - first, round(duration, 4)) for onset, pitch, duration in notes]
        return hashlib.sha256(repr(relative).encode()).hexdigest()


def load_scores(archive: Path, *, folder: str = BACH_FOLDER, min_parts: int = 3) -> list[Score]:
    """All scores (`.mxl`) below a folder of a zip archive that have at least `min_parts` parts with notes, by name.

    Raises:
      DataError: the archive is not a zip archive, a score cannot be read, or there are none; the message names the file.
    """
    try:
        with zipfile.ZipFile(archive) as outer:
            names = sorted(name for name in outer.namelist() if name.startswith(folder) and name.endswith(".mxl"))
            scores = [_read_score(name, outer.read(name)) for name in names]
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive} cannot be read as a zip archive ({error}).") from error
    scores = [score for score in scores if len(score.parts) >= min_parts]
    if not scores:
        raise DataError(f"{archive} holds no score of {min_parts} parts or more below {folder}.")
    return scores


def read_licence(archive: Path, *, folder: str = BACH_FOLDER) -> str:
    """The text of the licence file nearest to a folder of the archive, looking upwards; "" if there is none."""
    with zipfile.ZipFile(archive) as outer:
        names = set(outer.namelist())
        for parent in [Path(folder), *Path(folder).parents]:
            name = (parent / "license.txt").as_posix()
            if name in names:
                return outer.read(name).decode("utf-8", errors="replace")
    return ""


def _read_score(name: str, data: bytes) -> Score:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as inner:
            container = ElementTree.fromstring(inner.read("META-INF/container.xml"))
            rootfile = next(element for element in container.iter() if element.tag.endswith("rootfile"))
            root = ElementTree.fromstring(inner.read(rootfile.attrib["full-path"]))
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, StopIteration) as error:
        raise DataError(f"{name} is not compressed MusicXML ({error!r}).") from error
    parts = [tuple(sorted(_read_part(part), key=lambda note: (note.onset, note.pitch))) for part in root.findall("part")]
    tempo = next((float(sound.attrib["tempo"]) for sound in root.iter("sound") if "tempo" in sound.attrib), DEFAULT_TEMPO)
    rights = "; ".join(element.text.strip() for element in root.iter("rights") if element.text)
    return Score(Path(name).stem, tuple(part for part in parts if part), tempo, rights)


def _read_part(part: ElementTree.Element) -> list[Note]:
    notes: list[Note] = []
    open_ties: dict[int, int] = {}
    measure_start, divisions, transposition = 0.0, 1.0, 0
    for measure in part.findall("measure"):
        position = previous_onset = longest = 0.0
        for element in measure:
            if element.tag == "attributes":
                divisions = float(element.findtext("divisions", str(divisions)))
                transposition = _transposition(element, transposition)
            elif element.tag in ("backup", "forward"):
                step = float(element.findtext("duration", "0")) / divisions
                position += step if element.tag == "forward" else -step
            elif element.tag == "note" and element.find("grace") is None:
                duration = float(element.findtext("duration", "0")) / divisions
                in_chord = element.find("chord") is not None
                onset = previous_onset if in_chord else position
                if not in_chord:
                    position += duration
                previous_onset = onset
                for pitch in _pitches(element, transposition):
                    _add_note(notes, open_ties, Note(measure_start + onset, duration, pitch), {tie.attrib["type"] for tie in element.findall("tie")})
            longest = max(longest, position)
        measure_start += longest
    return notes


def _add_note(notes: list[Note], open_ties: dict[int, int], note: Note, ties: set[str]) -> None:
    if "stop" in ties and note.pitch in open_ties:
        index = open_ties.pop(note.pitch)
        notes[index] = Note(notes[index].onset, note.onset + note.duration - notes[index].onset, note.pitch)
    else:
        index = len(notes)
        notes.append(note)
    if "start" in ties:
        open_ties[note.pitch] = index


def _transposition(attributes: ElementTree.Element, current: int) -> int:
    transpose = attributes.find("transpose")
    if transpose is None:
        return current
    return round(float(transpose.findtext("chromatic", "0"))) + 12 * int(transpose.findtext("octave-change", "0"))


def _pitches(note: ElementTree.Element, transposition: int) -> Iterator[int]:
    pitch = note.find("pitch")
    if pitch is not None:
        alter = round(float(pitch.findtext("alter", "0")))
        yield 12 * (int(pitch.findtext("octave", "4")) + 1) + STEPS[pitch.findtext("step", "C")] + alter + transposition
