import numpy as np
import pytest

from jaxkd.data.banks import TRAIN_MEMBER, bank_bytes, prepared_sf2, read_member, train_bank, unseen_bank
from jaxkd.data.fetch import fetch
from jaxkd.data.packages import PACKAGES
from jaxkd.data.soundfont import read_soundfont, samples, to_sf2
from jaxkd.errors import DataError, FetchError


@pytest.fixture(scope="module")
def timgm(cache_dir):
    return read_member(fetch(PACKAGES["pretty_midi"], cache_dir), TRAIN_MEMBER)


def test_rewriting_an_sf2_keeps_every_sample(timgm):
    before = list(samples(read_soundfont(timgm, "a"), "a"))
    after = list(samples(read_soundfont(to_sf2(read_soundfont(timgm, "a"), "a"), "b"), "b"))
    assert len(before) == len(after) == 520
    for one, other in zip(before, after, strict=True):
        assert (one.name, one.rate, one.loop) == (other.name, other.rate, other.loop)
        np.testing.assert_array_equal(one.pcm, other.pcm)


def test_sf3_decodes_to_the_samples_of_the_sf2(timgm, timgm_sf3):
    """The same bank, compressed by someone else: same points, same loops, nearly the same sound."""
    originals = {sample.name: sample for sample in samples(read_soundfont(timgm, "a"), "a")}
    converted = list(samples(read_soundfont(to_sf2(read_soundfont(timgm_sf3, "a"), "a"), "b"), "b"))
    assert len(converted) == 520
    correlations = []
    for sample in converted:
        original = originals[sample.name]
        assert sample.rate == original.rate and sample.header[9] == original.header[9]
        assert abs(len(sample.pcm) - len(original.pcm)) <= 1
        assert np.abs(np.subtract(sample.loop, original.loop)).max() <= 1 or sample.loop[1] == len(sample.pcm)
        length = min(len(sample.pcm), len(original.pcm))
        if length > 1000 and original.pcm.any():
            correlations.append(np.corrcoef(sample.pcm[:length], original.pcm[:length])[0, 1])
    assert len(correlations) > 400 and min(correlations) > 0.97


def test_fluid_is_read_from_its_archive(fluid):
    decoded = list(samples(read_soundfont(bank_bytes(fluid), "a"), "a"))
    assert len(decoded) == 1037
    assert all(0 <= sample.loop[0] <= sample.loop[1] <= len(sample.pcm) + 1 for sample in decoded if sample.loop[1])


@pytest.mark.parametrize("cut", [100, 2_000_000, -1000])
def test_truncated_bank(timgm, cut):
    with pytest.raises(DataError, match=r"bank\.sf2 is (cut short|not a whole)"):
        read_soundfont(timgm[:cut], "bank.sf2")


def test_not_a_bank():
    with pytest.raises(DataError, match="not a SoundFont"):
        read_soundfont(b"RIFF....WAVE", "a.wav")


def test_altered_prepared_bank_is_made_again(cache_dir, tmp_path):
    bank = train_bank(cache_dir, "")
    path = prepared_sf2(bank, tmp_path)
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert prepared_sf2(bank, tmp_path).read_bytes() == good


def test_own_bank_off_and_wrong_choices(timgm, tmp_path):
    assert unseen_bank(tmp_path, "off", "") == (None, "switched off by data.unseen_bank=off")
    file = tmp_path / "mine.sf2"
    file.write_bytes(timgm)
    bank, reason = unseen_bank(tmp_path, str(file), "")
    assert bank is not None and bank_bytes(bank) == timgm and reason == ""
    with pytest.raises(DataError, match="no such file"):
        unseen_bank(tmp_path, str(tmp_path / "absent.sf2"), "")
    with pytest.raises(FetchError, match=r"data\.unseen_bank=FILE"):
        unseen_bank(tmp_path, "", str(file))


def test_without_any_client_the_reason_names_both(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    bank, reason = unseen_bank(tmp_path, "", "")
    assert bank is None and "apt-get, which is not there" in reason and "npm, which is not there" in reason
