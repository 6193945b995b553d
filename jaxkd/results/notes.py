"""The notes of a run as lines of words."""

from collections.abc import Callable
from typing import Any

from jaxkd.results.numbers import flat_lines


def note_lines(notes: dict[str, Any]) -> list[str]:
    """Notes as lines of text: those of every data set in words, others by name, "decoded, filled up with silence: 3"."""
    lines = []
    for name, note in notes.items():
        in_words = _WRITERS[name](note) if name in _WRITERS and isinstance(note, dict) else []
        lines += in_words or [f"{name.replace('.', ', ').replace('_', ' ')}: {text}" for name, text in flat_lines({name: note})]
    return lines


def brief(line: str) -> str:
    """A note as the screen shows it: a long text, such as a citation, is left to the report."""
    return line if len(line) <= 240 and "\n" not in line else f"{line.partition(':')[0]}: see report.md"


def _licences(note: dict[str, Any]) -> list[str]:
    return [*(f"licence of the {what}: {licence}" for what, licence in note.items()), "licences of all that was fetched: --mode=cache"] if note else []


def _terms(note: dict[str, Any]) -> list[str]:
    beside = ["license.txt in their archive, with its text in report.json"] if note.get("folder") else []
    return [f"terms of the scores: {'; '.join([*beside, *note.get('files', ())]) or 'none'}"]


def _scores(note: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{split} {count}" for split, count in note.items())
    return [f"scores that the clips of each split are of: {counts}"]


def _leakage(note: dict[str, Any]) -> list[str]:
    lines = []
    if "scores" in note:
        pairs = ", ".join(f"{score} ({split}) and {other} ({there})" for split, score, there, other in note["scores"])
        lines.append(f"leakage: {f'scores of equal content in two splits: {pairs}' if pairs else 'no score is in two splits'}")
    if "samples" in note:
        found = note["samples"]
        (first, second), (of_first, of_second) = found["banks"], found["compared"]
        such = "".join(f", {theirs!r} as {ours!r}" for ours, theirs, _ in found["examples"][:1])
        heard = f"{found['shared']:,} of {of_second:,} (correlation of at least {found['threshold']}){such}"
        lines.append(f"leakage: recorded samples of {second} that sound like one of the {of_first:,} of {first}: {heard}")
    return lines + [f"leakage: {count} {what}" for what, count in note.items() if what.startswith("rows left out")]


def _duplicates(note: dict[str, Any]) -> list[str]:
    left_out, differing = note.get("copies left out of train"), note.get("of them with another label than the first")
    if left_out is None or differing is None:
        return []
    others = [f"{count} {name}" for name, count in note.items() if name.startswith("copies within")]
    return [f"duplicates: {'; '.join([f'{left_out} copies left out of train, {differing} of them with another label than the first', *others])}"]


_WRITERS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "licences": _licences,
    "score_terms": _terms,
    "scores": _scores,
    "leakage": _leakage,
    "duplicates": _duplicates,
    "rows": lambda note: [f"rows of {split}: {counts}" for split, counts in note.items()],
    "classes": lambda note: [f"class {name}: {members}" for name, members in note.items()],
}
"""For notes that are keys and numbers; one that finds others than it knows writes no line."""
