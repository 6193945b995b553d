import sys

import numpy as np
import tensorflow_datasets as tfds

from jaxkd.data.tfds_builder import write_tfds


def test_round_trip_without_tensorflow(tiny_dataset, tmp_path):
    path = write_tfds(tiny_dataset, tmp_path)
    builder = tfds.builder_from_directory(path)
    assert builder.info.metadata["sample_rate"] == 16000 and builder.info.metadata["classes"] == list(tiny_dataset.classes)
    assert set(builder.info.splits) == set(tiny_dataset.splits)
    for split, ids in tiny_dataset.splits.items():
        source = builder.as_data_source(split)
        rows = {row["id"].decode(): row for row in source}
        assert sorted(rows) == sorted(ids)
        np.testing.assert_array_equal([rows[example]["audio"] for example in ids], tiny_dataset.gather(ids))
        np.testing.assert_array_equal([rows[example]["labels"] for example in ids], tiny_dataset.labels(ids))
        np.testing.assert_array_equal([rows[example]["label_mask"] for example in ids], tiny_dataset.label_mask(ids))
        assert source[0]["audio"].dtype == np.int16
    assert write_tfds(tiny_dataset, tmp_path) == path
    assert "tensorflow" not in sys.modules
