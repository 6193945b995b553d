"""Prepares and reads a TFDS data set with TFDS's own audio feature, which needs TensorFlow; test_tfds_audio.py runs it where that is installed."""

import sys
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from jaxkd.data import prepare
from tests.data.corpora import data_config

RATE = 22_050
GENRES = "blues classical country disco hiphop jazz metal pop reggae rock".split()


class Released(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the released builder of GTZAN leaves in its folder; that one then reads it."""

    VERSION = tfds.core.Version("1.0.0")
    name = "gtzan"

    def _info(self):
        features = {
            "audio": tfds.features.Audio(sample_rate=RATE),
            "label": tfds.features.ClassLabel(names=GENRES),
            "audio/filename": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for row, clip in enumerate(CLIPS):
            yield row, {"audio": clip, "label": row % len(GENRES), "audio/filename": f"{row}.wav"}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    CLIPS = np.load(folder / "clips.npy")
    Released(data_dir=folder / "tfds", file_format="array_record").download_and_prepare()
    fields = {
        "tfds_name": "gtzan",
        "tfds_data_dir": str(folder / "tfds"),
        "sample_rate": RATE,
        "clip_seconds": CLIPS.shape[1] / RATE,
        "valid": 10,
        "labelled": 20,
    }
    dataset = prepare(data_config("tfds", **fields), folder / "cache")
    ids = [example for of_split in dataset.splits.values() for example in of_split]
    np.savez(folder / "read.npz", clips=dataset.gather(ids), labels=dataset.labels(ids), known=dataset.label_mask(ids))
