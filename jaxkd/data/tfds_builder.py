"""An audio data set as a TensorFlow Datasets folder (array_record), written and read without TensorFlow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from jaxkd.data.dataset import Dataset

ROWS_AT_ONCE = 256


class JaxkdAudio(tfds.core.GeneratorBasedBuilder):
    """Clips as int16 PCM, their labels and label mask.

    Features: `id` text; `audio` int16 [samples]; `labels` float32 [K], 0 where masked; `label_mask` bool [K], all False for an unlabelled clip.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}

    def __init__(self, *, dataset: Dataset, data_dir: Path) -> None:
        self._dataset = dataset
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        dataset = self._dataset
        features = tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16),
                "labels": tfds.features.Tensor(shape=(len(dataset.classes),), dtype=np.float32),
                "label_mask": tfds.features.Tensor(shape=(len(dataset.classes),), dtype=np.bool_),
            }
        )
        metadata = tfds.core.MetadataDict(
            sample_rate=dataset.sample_rate, classes=list(dataset.classes), fingerprint=dataset.fingerprint, licences=dataset.notes.get("licences", {})
        )
        return tfds.core.DatasetInfo(builder=self, description=f"jaxkd {dataset.name}", features=features, metadata=metadata)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in self._dataset.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        ids = self._dataset.splits[split]
        for start in range(0, len(ids), ROWS_AT_ONCE):
            chunk = ids[start : start + ROWS_AT_ONCE]
            rows = zip(chunk, self._dataset.gather(chunk), self._dataset.labels(chunk), self._dataset.label_mask(chunk), strict=True)
            for offset, (example, audio, labels, mask) in enumerate(rows):
                yield start + offset, {"id": example, "audio": audio, "labels": labels, "label_mask": mask}


def write_tfds(dataset: Dataset, data_dir: str | Path) -> Path:
    """Writes a data set as a TFDS folder and returns its path, which `tfds.builder_from_directory(path).as_data_source(split)` reads.

    A folder that is there already is left as it is. Examples are in TFDS's own shuffled order; their `id` tells which is which.
    """
    builder = JaxkdAudio(dataset=dataset, data_dir=Path(data_dir).expanduser() / dataset.fingerprint[:16])
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(verify_ssl=True))
    return Path(builder.data_dir)
