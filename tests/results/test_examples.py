"""What a run keeps of the examples that it is scored on."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxkd.data.dataset import Split, write_dataset
from jaxkd.results.examples import Examples, write_predictions
from jaxkd.results.predictions import load_predictions, predictions_path

FINE = np.array([2, 0, 1, 2], np.int32)


@pytest.mark.parametrize("fine_classes", [("red", "pear", "green"), ()])
def test_predictions_hold_the_hidden_classes_of_data_that_has_them(tmp_path, fine_classes):
    labels = np.eye(2, dtype=np.float32)[FINE % 2]
    rows = Split([f"test/{row}" for row in range(4)], ["a b"] * 4, labels, np.ones((4, 2), bool), fine_labels=FINE if fine_classes else None)
    kind = {"name": "small", "fingerprint": "small", "modality": "text", "task": "multiclass", "classes": ("even", "odd"), "notes": {}, "licence": ""}
    data: Any = SimpleNamespace(dataset=write_dataset(tmp_path / "data", splits={"test": rows}, fine_classes=fine_classes, **kind))
    write_predictions(tmp_path, {"test": Examples(data, "test")}, {"test": np.full((4, 2), 0.5, np.float32)})
    kept = load_predictions(predictions_path(tmp_path, "test"))
    np.testing.assert_array_equal(kept.labels, labels)
    if fine_classes:
        np.testing.assert_array_equal(kept.fine_labels, FINE)
    else:
        assert kept.fine_labels is None
