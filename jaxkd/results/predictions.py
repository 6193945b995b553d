"""What a finished run left in its workdir: predictions by split, and the metrics logged while it trained."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.errors import ArtefactError

SPLIT_ORDER = ("train", "valid", "test", "unseen")
TASKS = ("multilabel", "multiclass")
PROBE_SUFFIX = "_probe"  # of a split that is scored by a probe fitted for it on frozen vectors
SIDES = {"student": "student", "probe": "teacher's probe", "teacher": "teacher"}  # whose predictions they are, and how tables name them


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Scores of one model on one split.

    Attributes:
      ids: example ids, n of them.
      scores: probabilities (after the sigmoid or the softmax), float64 [n, K].
      labels: targets in {0, 1}, bool [n, K]; False where masked.
      label_mask: True where a label counts, bool [n, K].
      task: "multilabel" or "multiclass".
      fine_labels: the hidden subclass of each row, integers [n]; None where there is none.
    """

    ids: tuple[str, ...]
    scores: np.ndarray
    labels: np.ndarray
    label_mask: np.ndarray
    task: str = "multilabel"
    fine_labels: np.ndarray | None = None

    def same_examples(self, other: "Predictions") -> bool:
        """Whether both are about the same examples in the same order with the same labels."""
        return self.ids == other.ids and np.array_equal(self.labels, other.labels) and np.array_equal(self.label_mask, other.label_mask)


def predictions_path(workdir: Path, split: str, *, side: str = "student") -> Path:
    """Where a run keeps the predictions of a side of `SIDES` on a split: its student, the teacher's probe, or the teacher's own classifier."""
    return Path(workdir) / "predictions" / f"{'' if side == 'student' else f'{side}_'}{split}.npz"


def load_predictions(path: Path) -> Predictions:
    """Reads one file of predictions.

    Raises:
      ArtefactError: the file is missing or damaged, its task is unknown, or its arrays do not fit together or hold a score that is not finite.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("ids", "scores", "labels", "label_mask", *(name for name in ("task", "fine_labels") if name in file))}
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing: run with --mode=evaluate.") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtefactError(f"{path} is not a file of predictions ({error}): it is damaged; remove it and run with --mode=evaluate.") from error
    shape = arrays["scores"].shape
    expected = {"ids": shape[:1], "labels": shape, "label_mask": shape, "fine_labels": shape[:1]}
    if len(shape) != 2 or any(name in arrays and arrays[name].shape != of_array for name, of_array in expected.items()):
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ArtefactError(f"{path}: the arrays do not fit together ({shapes}); remove it and run with --mode=evaluate.")
    task = str(arrays.get("task", "multilabel"))
    if task not in TASKS:
        raise ArtefactError(f"{path} is of the task {task!r}, but this version of jaxkd knows {' and '.join(TASKS)}; remove it and run with --mode=evaluate.")
    mask = arrays["label_mask"].astype(bool)
    finite = np.isfinite(arrays["scores"]).all(axis=1)
    if not finite.all():
        raise ArtefactError(f"{path}: the score of {arrays['ids'][~finite][0]!r} is not finite; the student is unusable: train it again.")
    labels = (arrays["labels"] > 0.5) & mask
    return Predictions(tuple(str(name) for name in arrays["ids"]), arrays["scores"].astype(np.float64), labels, mask, task, arrays.get("fine_labels"))


def split_names(workdir: Path) -> list[str]:
    """The splits that a run has predictions of, in the order train, valid, test, unseen, then others by name."""
    others = tuple(f"{side}_" for side in SIDES if side != "student")
    names = [file.stem for file in (Path(workdir) / "predictions").glob("*.npz") if not file.stem.startswith(others)]
    return sorted(names, key=lambda name: (SPLIT_ORDER.index(name) if name in SPLIT_ORDER else len(SPLIT_ORDER), name))


def read_curves(workdir: Path) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    """The logged metrics of a run as {split: {name: (steps, values)}}; empty if nothing was logged.

    Raises:
      ArtefactError: a line that is not an object with step, split and values.
    """
    path = Path(workdir) / "metrics.jsonl"
    curves: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    if not path.exists():
        return curves
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            entry: dict[str, Any] = json.loads(line)
            step, split, values = int(entry["step"]), str(entry["split"]), dict(entry["values"])
        except (ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f"{path}, line {number} is not a line of metrics ({error}): it is damaged; remove that line.") from error
        for name, value in values.items():
            steps, series = curves.setdefault(split, {}).setdefault(name, ([], []))
            steps.append(step)
            series.append(float(value))
    return curves
