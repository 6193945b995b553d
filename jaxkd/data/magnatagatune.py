"""Source "magnatagatune": MagnaTagATune in its released layout, clips of 29 s with tags (Law et al., ISMIR 2009), in the usual split for tagging.

The folder holds `annotations_final.csv` and the unpacked `mp3.zip`: folders 0 to 9 and a to f of MP3 files, in the folder itself or in `mp3`.

The classes are the 50 tags with the most clips among all that the file lists, most frequent first; ties keep the order of the file. A clip takes part if it
has at least one of them; a tag it does not have counts as negative. Folders 0 to b are train, c valid, d to f test. Three files of the release are empty and
are left out. That is the split with 15,244, 1,529 and 4,332 clips; the notes compare. Copies of a recording are kept as in that split, and counted.
"""

import collections
import csv
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.data.clips import require_mp3
from jaxkd.data.dataset import SPLIT_ORDER, Dataset
from jaxkd.data.recordings import Recording, prepare_released, released_folder, require_recordings
from jaxkd.errors import DataError
from jaxkd.files import sha256_file

NAME = "magnatagatune"
FORMAT_VERSION = 1
ANNOTATIONS = "annotations_final.csv"
TAGS = 50
SPLIT_OF_FOLDER = {**dict.fromkeys("0123456789ab", "train"), "c": "valid", **dict.fromkeys("def", "test")}
EMPTY_FILES = (
    "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
    "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
)
USUAL_CLIPS = {"train": 15_244, "valid": 1_529, "test": 4_332}
LICENCE = "the terms of MagnaTagATune: recordings of Magnatune under CC BY-NC-SA, for research"
UNPACK = "cat mp3.zip.001 mp3.zip.002 mp3.zip.003 > mp3.zip && unzip mp3.zip"


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Decodes the released folder that `data_config.folder` names into a data set in the cache, or opens it from there.

    Recordings are down-mixed by the mean, resampled to `data_config.sample_rate`, and cut or filled up to `clip_seconds`; the notes count what was done.
    The id of a clip is its clip_id.

    Raises:
      ConfigError: no folder is named.
      DataError: files are missing, damaged, or do not fit together; the message names them.
      ArtefactError: the data set in the cache was altered; the message names the file and what to remove.
      ResourceError: the audio library cannot decode MP3; too little disk.
    """
    require_mp3()
    folder = released_folder(NAME, data_config.folder, [ANNOTATIONS])
    audio = next((place for place in (folder, folder / "mp3") if any((place / name).is_dir() for name in SPLIT_OF_FOLDER)), None)
    if audio is None:
        raise DataError(f"{folder} lacks the folders 0 to 9 and a to f with the MP3 files, also in {folder / 'mp3'}. Unpack them there: {UNPACK}")
    tags, listed = read_annotations(folder / ANNOTATIONS, audio)
    recordings = [recording for recording in listed if str(recording.path.relative_to(audio)) not in EMPTY_FILES]
    require_recordings(recordings, folder / ANNOTATIONS, f"Unpack the released archive whole: {UNPACK}")
    return prepare_released(
        data_config,
        cache_dir,
        name=NAME,
        recordings=recordings,
        classes=tags,
        made_from={"source": NAME, "format": FORMAT_VERSION, "annotations": sha256_file(folder / ANNOTATIONS)},
        usual=USUAL_CLIPS,
        remarks={"unseen": "MagnaTagATune has no clips of another domain", "empty files of the release left out": len(listed) - len(recordings)},
        licence=LICENCE,
    )


def _wrong(line: list[str], columns: int) -> str:
    """What a line has that it should not have, or ""."""
    if len(line) != columns:
        return f"{len(line)} columns, but the header {columns}"
    odd = [value for value in line[1:-1] if value not in ("0", "1")]
    if odd:
        return f"{odd[0]!r} for a tag, but 0 or 1 is expected"
    return "" if line[-1].partition("/")[0] in SPLIT_OF_FOLDER else f"the path {line[-1]!r}, but one below a folder 0 to 9 or a to f is expected"


def read_annotations(path: Path, audio: Path) -> tuple[list[str], list[Recording]]:
    """The 50 most frequent tags of the tab-separated file, and the clips that have one of them, in its order; `audio` holds the folders 0 to f.

    Raises:
      DataError: what is wrong, with the line.
    """
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file, delimiter="\t"))
    header = lines[0] if lines else []
    if len(header) < TAGS + 2 or (header[0], header[-1]) != ("clip_id", "mp3_path"):
        found = f"{len(header)} columns, {header[0]!r} to {header[-1]!r}" if header else "nothing"
        raise DataError(
            f"{path}, line 1 has {found}, but the header should be clip_id, at least {TAGS} tags, mp3_path, separated by tabs: take the released file."
        )
    for number, line in enumerate(lines[1:], start=2):
        wrong = _wrong(line, len(header))
        if wrong:
            raise DataError(f"{path}, line {number} has {wrong}: take the released file.")
    values = np.array([line[1:-1] for line in lines[1:]]).reshape(len(lines) - 1, len(header) - 2) == "1"
    chosen = np.argsort(-values.sum(axis=0), kind="stable")[:TAGS]
    labels = values[:, chosen]
    mask = [True] * TAGS
    recordings = [
        Recording(line[0], audio / line[-1], SPLIT_OF_FOLDER[line[-1].partition("/")[0]], row.tolist(), mask)
        for line, row in zip(lines[1:], labels, strict=True)
        if row.any()
    ]
    without = [split for split in SPLIT_ORDER if not any(recording.split == split for recording in recordings)]
    twice = [clip for clip, count in collections.Counter(recording.id for recording in recordings).items() if count > 1]
    if without or twice:
        what = f"has no clip of split {', '.join(without)} with one of its {TAGS} most frequent tags" if without else f"lists the clip_id {twice[0]} twice"
        raise DataError(f"{path} {what}: take the released file.")
    return [header[1:-1][place] for place in chosen], recordings
