import dataclasses
from collections import Counter

import librosa
import mido
import numpy as np
import pytest

from jaxkd.data import render
from jaxkd.data.banks import prepared_sf2
from jaxkd.data.compose import Clip, Event, Voice, compose_clips, split_scores
from jaxkd.data.instruments import CYMBALS, INSTRUMENTS, KICKS, SNARES
from jaxkd.data.midi import clips_to_midi, period_ticks
from jaxkd.data.render import render_clips
from jaxkd.errors import DataError, ResourceError

CLASSES = tuple(INSTRUMENTS)


def solo(label: str, program: int, pitch: int, onset: float = 0.0, duration: float = 0.9) -> Clip:
    percussion = INSTRUMENTS[label].percussion
    return Clip("none", 0.0, 100.0, 0, -20.0, (Voice(label, program, percussion, (Event(onset, duration, pitch, 90),)),))


def sound(bank, clips, seconds=1.0):
    return render_clips(bank, clips, clip_seconds=seconds, sample_rate=16000, description="test")


def test_midi_is_read_back_by_mido(scores, tmp_path):
    clips = compose_clips(scores, CLASSES, 5, 3.0, (1,))
    (tmp_path / "a.mid").write_bytes(clips_to_midi(clips, 3.0))
    file = mido.MidiFile(tmp_path / "a.mid")
    started, now = Counter(), 0.0
    for message in file:
        now += message.time
        if message.type == "note_on":
            started[int(now / (period_ticks(3.0) / 1000))] += 1
    assert started == {i: sum(len(voice.events) for voice in clip.voices) for i, clip in enumerate(clips)}
    assert file.length == pytest.approx(5 * period_ticks(3.0) / 1000)


def test_the_same_bytes_every_time_and_whatever_stands_before(scores, timgm_sf2):
    clips = compose_clips(scores, CLASSES, 12, 1.0, (2,))
    first = sound(timgm_sf2, clips)
    np.testing.assert_array_equal(first, sound(timgm_sf2, clips))
    np.testing.assert_array_equal(first[::-1], sound(timgm_sf2, clips[::-1]))


def test_several_workers_give_the_same_bytes(scores, timgm_sf2, monkeypatch):
    clips = compose_clips(scores, CLASSES, 6, 1.0, (3,))
    whole = sound(timgm_sf2, clips)
    monkeypatch.setattr(render, "SECONDS_PER_JOB", 2.2)
    monkeypatch.setattr(render, "_worker_count", lambda reserved_bytes: 2)
    np.testing.assert_array_equal(whole, sound(timgm_sf2, clips))


def test_pitch_and_onset(timgm_sf2):
    pitches = (60, 69, 79)
    audio = sound(timgm_sf2, [solo("flute", 73, pitch, onset=0.3, duration=0.6) for pitch in pitches])
    for row, pitch in zip(audio / 32768.0, pitches, strict=True):
        assert np.abs(row[: int(0.295 * 16000)]).max() < 1e-3 < np.abs(row[int(0.3 * 16000) : int(0.35 * 16000)]).max()
        heard = librosa.yin(row[int(0.4 * 16000) : int(0.85 * 16000)], fmin=100, fmax=2000, sr=16000)
        assert 12 * np.log2(np.median(heard) / librosa.midi_to_hz(pitch)) == pytest.approx(0.0, abs=0.3)


def test_loudness(scores, timgm_sf2):
    clips = compose_clips(scores, CLASSES, 12, 1.0, (4,))
    audio = sound(timgm_sf2, clips).astype(np.float64)
    decibels = 20 * np.log10(np.sqrt((audio**2).mean(axis=1)) / 32767)
    limited = np.abs(audio).max(axis=1) >= 0.979 * 32767
    wanted = np.array([clip.rms_decibels for clip in clips])
    np.testing.assert_allclose(decibels[~limited], wanted[~limited], atol=0.05)
    assert np.all(decibels[limited] <= wanted[limited] + 0.05) and not limited.all()


@pytest.mark.parametrize("which", ["train", "unseen"])
def test_every_program_sounds_at_every_pitch_it_is_given(which, timgm_sf2, cache_dir, request):
    bank = timgm_sf2 if which == "train" else prepared_sf2(request.getfixturevalue("fluid"), cache_dir)
    clips = []
    for label, instrument in INSTRUMENTS.items():
        for program in instrument.programs:
            pitches = (*KICKS, *SNARES, *CYMBALS) if instrument.percussion else range(program.low, program.high + 1)
            clips += [solo(label, program.number, pitch, duration=0.08) for pitch in pitches]
    audio = sound(bank, clips, seconds=0.1).astype(np.float64)  # a silent one raises
    assert len(audio) > 1500 and np.all(np.sqrt((audio**2).mean(axis=1)) > 100)


def test_clips_are_balanced_and_their_instruments_are_heard(scores):
    clips = compose_clips(scores, CLASSES, 320, 3.0, (5,))
    counts = Counter(label for clip in clips for label in clip.labels)
    assert set(counts) == set(CLASSES) and max(counts.values()) - min(counts.values()) <= 2
    assert 0.10 < sum(counts.values()) / (320 * 16) < 0.12
    assert {len(clip.labels) for clip in clips} == {1, 2, 3} and all(len(set(clip.labels)) == len(clip.labels) for clip in clips)
    for clip in clips:
        for voice in clip.voices:
            program = next(p for p in INSTRUMENTS[voice.label].programs if p.number == voice.program)
            assert all(program.low <= e.pitch <= program.high and e.onset >= 0 and e.onset + e.duration <= 3.0001 for e in voice.events)
            assert voice.percussion or sum(e.duration for e in voice.events) >= 0.5


def test_more_clips_begin_with_the_same_ones(scores):
    assert compose_clips(scores, CLASSES, 10, 3.0, (6,)) == compose_clips(scores, CLASSES, 20, 3.0, (6,))[:10]
    assert compose_clips(scores, CLASSES, 10, 3.0, (6,)) != compose_clips(scores, CLASSES, 10, 3.0, (7,))


def test_scores_are_divided_without_overlap_and_twins_stay_together(scores):
    splits = split_scores(scores, {"train": 0.6, "valid": 0.2, "test": 0.2}, seed=0)
    names = [score.name for members in splits.values() for score in members]
    assert sorted(names) == sorted(score.name for score in scores)
    twins = [split for split, members in splits.items() for score in members if score.name in ("bwv197.7-a", "bwv398")]
    assert len(twins) == 2 and twins[0] == twins[1]
    assert [score.name for score in splits["test"]] != [score.name for score in split_scores(scores, {"train": 0.6, "valid": 0.2, "test": 0.2}, seed=1)["test"]]


def test_silent_clip_is_refused(timgm_sf2):
    silent = dataclasses.replace(solo("flute", 73, 69), voices=(Voice("flute", 73, False, ()),))
    with pytest.raises(DataError, match="flute from score none is silent"):
        sound(timgm_sf2, [silent])


def test_bank_that_the_renderer_refuses(tmp_path):
    (tmp_path / "bad.sf2").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"rendering with .*bad\.sf2 failed \(exit status 1\)"):
        sound(tmp_path / "bad.sf2", [solo("flute", 73, 69)])


def test_memory_is_asked_for_before_any_worker_starts(timgm_sf2, monkeypatch):
    monkeypatch.setattr("jaxkd.files.available_memory_bytes", lambda: 601_000_000)
    monkeypatch.setattr(render, "_Worker", None)
    with pytest.raises(ResourceError, match=r"rendering 1 clips needs 603 MB of memory, but 601 MB are available\. Close other programs"):
        sound(timgm_sf2, [solo("flute", 73, 69)], seconds=100.0)


def test_workers_fit_beside_the_audio(monkeypatch):
    monkeypatch.setattr(render.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(render, "available_memory_bytes", lambda: 2_500_000_000)
    assert [render._worker_count(reserved) for reserved in (0, 1_000_000_000, 2_000_000_000)] == [4, 2, 1]
    monkeypatch.setattr(render, "available_memory_bytes", lambda: None)
    assert render._worker_count(0) == 8


def test_without_the_renderer(tmp_path, monkeypatch):
    monkeypatch.setattr(render.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="midirenderer, which renders the clips, is not installed"):
        sound(tmp_path / "any.sf2", [solo("flute", 73, 69)])
