"""Miniature folders in exactly the layout of released data sets, with clips that were rendered from scores."""

import csv
import json
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile

from jaxkd.data.dataset import Dataset

OPENMIC_CLASSES = (
    "accordion banjo bass cello clarinet cymbals drums flute guitar mallet_percussion mandolin organ piano saxophone synthesizer trombone trumpet ukulele "
    "violin voice"
).split()
OPENMIC_NAMES = {"sax": "saxophone", "synth": "synthesizer"}
VALID_OF_32 = (3, 15, 22, 25, 28, 29, 30)  # of a train list of 32 lines, by Python's random with seed 2022


def rendered(dataset: Dataset, count: int) -> tuple[np.ndarray, list[set[str]]]:
    """The first clips of a rendered data set, int16 [count, samples], and the instruments of each."""
    ids = [example for split in ("train", "valid", "test") for example in dataset.splits[split] if dataset.label_mask([example]).any()][:count]
    return dataset.gather(ids), [{dataset.classes[k] for k in np.flatnonzero(row)} for row in dataset.labels(ids)]


def write_openmic(folder: Path, dataset: Dataset, *, train: int = 32, test: int = 12) -> list[str]:
    """Writes OpenMIC-2018 with few clips: Ogg Vorbis, every fourth in stereo at 44.1 kHz; returns the keys, those of train first."""
    audio, instruments = rendered(dataset, train + test)
    keys = [f"{137 * number:06d}_{3840 * number}" for number in range(train + test)]
    rng = np.random.default_rng(0)
    observed = rng.random((len(keys), len(OPENMIC_CLASSES))) < 0.6
    relevance = np.full(observed.shape, 0.5)
    for row, names in enumerate(instruments):
        heard = [name in {OPENMIC_NAMES.get(name, name) for name in names} for name in OPENMIC_CLASSES]
        relevance[row] = np.where(observed[row], np.where(heard, 0.93, 0.15055), 0.5)
    relevance[0, 2], observed[0, 2] = 0.5, True  # annotators who did not agree
    order = rng.permutation(len(keys))  # the rows of the arrays are not in the order of the lists
    vggish = np.zeros((len(keys), 10, 128), np.int64)
    folder.mkdir(parents=True)
    np.savez(folder / "openmic-2018.npz", X=vggish, Y_true=relevance[order], Y_mask=observed[order], sample_key=np.array(keys, object)[order])
    (folder / "class-map.json").write_text(json.dumps({name: number for number, name in enumerate(OPENMIC_CLASSES)}))
    (folder / "partitions").mkdir()
    for name, listed in (("train", keys[:train]), ("test", keys[train:])):
        (folder / "partitions" / f"split01_{name}.csv").write_text("\n".join(listed) + "\n")
    for number, (key, clip) in enumerate(zip(keys, audio, strict=True)):
        file = folder / "audio" / key[:3] / f"{key}.ogg"
        file.parent.mkdir(parents=True, exist_ok=True)
        sound, rate = clip / 32768.0, dataset.sample_rate
        if number % 4 == 0:
            sound, rate = scipy.signal.resample(sound, len(sound) * 44_100 // rate), 44_100
            sound = np.stack([sound, 0.3 * sound], axis=1)
        soundfile.write(file, sound, rate, format="OGG", subtype="VORBIS")
    return keys


def write_magnatagatune(folder: Path, dataset: Dataset, *, clips: int = 32, mp3: str = "") -> dict[str, list[str]]:
    """Writes MagnaTagATune with few clips, 60 tags, and the three empty files; returns by path the tags of each clip."""
    audio, instruments = rendered(dataset, clips)
    tags = [*dataset.classes, *(f"mood {number}" for number in range(60 - len(dataset.classes)))]
    paths = [f"{number % 16:x}/artist{number % 5}-album-{number:02d}-title-0-29.mp3" for number in range(clips)]
    moods = [{f"mood {place}" for place in range(44) if (number * (place + 3)) % 7 == 0} for number in range(clips)]
    tagged = {path: [tag for tag in tags if tag in names | mood] for path, names, mood in zip(paths, instruments, moods, strict=True)}
    tagged[paths[-1]] = []  # a clip without any tag
    empty = [
        "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
        "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
        "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
    ]
    tagged |= {path: tags[:1] for path in empty}
    folder.mkdir(parents=True)
    with (folder / "annotations_final.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writerow(["clip_id", *tags, "mp3_path"])
        writer.writerows([2 + 4 * number, *(int(tag in own) for tag in tags), path] for number, (path, own) in enumerate(tagged.items()))
    for path, clip in zip(paths, audio, strict=True):
        (folder / mp3 / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / mp3 / path, clip / 32768.0, dataset.sample_rate, format="MP3", subtype="MPEG_LAYER_III")
    for path in empty[1:]:  # some archives unpack without the first
        (folder / mp3 / path).touch()
    return tagged
