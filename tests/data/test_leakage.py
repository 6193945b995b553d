from dataclasses import dataclass

import numpy as np
import pytest

from jaxkd.data import leakage
from jaxkd.data.banks import bank_bytes
from jaxkd.data.leakage import shared_samples, shared_scores
from jaxkd.data.scores import Note, Score


def test_positive_control_on_decoded_audio(timgm_sf2, timgm_sf3):
    """The train bank as someone else's Ogg Vorbis copy of it: no byte in common, every sample found."""
    report = shared_samples(timgm_sf2.read_bytes(), timgm_sf3, names=("sf2", "sf3"))
    assert report["compared"][1] > 400 and report["shared"] == report["compared"][1]


@pytest.mark.slow
def test_fluid_is_almost_independent_of_the_train_bank(timgm_sf2, fluid):
    report = shared_samples(timgm_sf2.read_bytes(), bank_bytes(fluid), names=("train", "unseen"))
    assert report["compared"][1] > 1000
    assert [pair[:2] for pair in report["examples"]] == [["OceanWaves", "Sea Shore"]] and report["shared"] == 1


@pytest.mark.parametrize("change, found", [("none", True), ("shifted", True), ("quieter", True), ("inverted", True), ("noise", False)])
def test_correlation(change, found):
    rng = np.random.default_rng(0)
    original = np.convolve(rng.normal(size=6000), np.hanning(20), mode="same")
    original -= original.mean()
    copy = {"none": original, "shifted": original[700:], "quieter": original / 9, "inverted": -original, "noise": rng.permutation(original)}[change]
    assert (leakage._peak_correlation(original, copy) > leakage.SHARED_CORRELATION) == found


def test_correlation_is_that_of_numpy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=40), rng.normal(size=25)
    best = 0.0
    for shift in range(-24, 40):
        low, high = max(shift, 0), min(shift + 25, 40)
        if high - low >= 12.5:
            one, other = a[low:high], b[low - shift : high - shift]
            best = max(best, abs(one @ other) / (np.linalg.norm(one) * np.linalg.norm(other)))
    assert leakage._peak_correlation(a, b) == pytest.approx(best, rel=1e-9)


@dataclass(frozen=True)
class _Notes:
    pitches: tuple[int, ...]

    def score(self, name):
        part = tuple(Note(float(i), 1.0, pitch) for i, pitch in enumerate(self.pitches))
        return Score(name, (part,), 90.0, "")


def test_scores_that_splits_share():
    one, higher, other = _Notes((60, 62, 64)), _Notes((65, 67, 69)), _Notes((60, 62, 63))
    assert shared_scores({"train": [one.score("a"), other.score("b")], "test": [other.score("c")]}) == [["train", "b", "test", "c"]]
    assert shared_scores({"train": [one.score("a")], "valid": [higher.score("d")], "test": [other.score("c")]}) == [["train", "a", "valid", "d"]]
    assert shared_scores({"train": [one.score("a"), higher.score("d")], "test": [other.score("c")]}) == []
