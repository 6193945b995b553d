"""What a training cost: added up over interruptions, with a peak of its own."""

import mmap
import sys
import time

import pytest

from jaxkd.training.cost import measured, training_cost

LARGE = 200_000_000


def test_seconds_of_interrupted_trainings_add_up(tmp_path):
    assert training_cost(tmp_path) is None
    with pytest.raises(KeyboardInterrupt), measured(tmp_path, 7):
        time.sleep(0.05)
        raise KeyboardInterrupt
    first = training_cost(tmp_path)
    with measured(tmp_path, 7):
        time.sleep(0.05)
    second = training_cost(tmp_path)
    assert 0.05 <= first["seconds"] < second["seconds"]
    assert second["seconds"] >= 0.1
    assert second["trained_parameters"] == 7
    assert second["peak_memory_bytes"] >= first["peak_memory_bytes"] > 10_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the whole process")
def test_peak_is_that_of_this_training(tmp_path):
    peaks = {}
    for name, size in (("before", 1), ("large", LARGE), ("after", 1)):
        (tmp_path / name).mkdir()
        with measured(tmp_path / name, 0), mmap.mmap(-1, size) as memory:  # new pages, whatever the process has freed and kept
            for page in range(0, size, mmap.PAGESIZE):
                memory[page] = 1
        peaks[name] = training_cost(tmp_path / name)["peak_memory_bytes"]
    assert peaks["large"] > max(peaks["before"], peaks["after"]) + 0.9 * LARGE
