"""Source "rendered_instruments": excerpts of real scores, re-orchestrated at random and rendered with recorded instrument samples.

Scores are divided among train, valid and test. The unseen split holds the test clips once more, rendered with a bank that is never heard in training:
`unseen/00012` is `test/00012` on that bank.

The renderer's version is in the notes and not in the fingerprint: a data set in the cache stays valid when midirenderer is updated, and the notes of
each data set tell what it was rendered with.
"""

import importlib.metadata
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.data.banks import Bank, prepared_sf2, train_bank, unseen_bank
from jaxkd.data.compose import Clip, compose_clips, split_scores
from jaxkd.data.dataset import Dataset, Split, write_dataset
from jaxkd.data.fetch import fetch
from jaxkd.data.instruments import INSTRUMENTS
from jaxkd.data.leakage import shared_samples, shared_scores
from jaxkd.data.packages import PACKAGES
from jaxkd.data.render import render_clips, require_memory, require_renderer
from jaxkd.data.rendered_config import check_config
from jaxkd.data.scores import Score, load_scores, read_licence
from jaxkd.files import read_json, require_free_disk, sha256_json, write_json

FORMAT_VERSION = 2
LEAKAGE_VERSION = 1
NAME = "rendered_instruments"
SCORE_SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
STREAMS = {"labelled": 0, "unlabelled": 1, "valid": 2, "test": 3}


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Renders the data set that `data_config` describes, or opens it from the cache.

    Raises:
      ConfigError: see `check_config`.
      FetchError: scores or train bank cannot be fetched (a missing unseen bank is a note, not an error).
      ArtefactError: the data set in the cache was altered; the message names the file and what to remove.
      DataError, ResourceError: a damaged input; too little disk or memory.
    """
    check_config(data_config)
    scores_archive = fetch(PACKAGES["music21"], cache_dir, local_file=data_config.scores_archive)
    train = train_bank(cache_dir, data_config.train_bank_archive)
    unseen, reason = unseen_bank(cache_dir, data_config.unseen_bank if data_config.unseen else "off", data_config.unseen_bank_archive)
    if not data_config.unseen:
        reason = "data.unseen=0"
    fingerprint = _fingerprint(data_config, train, unseen)
    path = Path(cache_dir) / "datasets" / f"{NAME}-{fingerprint[:16]}"
    if path.exists():
        return Dataset.open_verified(path)
    require_renderer()
    clips_total = data_config.labelled + data_config.unlabelled + data_config.valid + data_config.test + data_config.unseen
    require_free_disk(cache_dir, int(2.5 * clips_total * data_config.clip_seconds * data_config.sample_rate), f"rendering {clips_total:,} clips")
    require_memory(clips_total, data_config.clip_seconds, data_config.sample_rate)
    everything = load_scores(scores_archive)
    scores = split_scores(everything, SCORE_SHARES, data_config.seed)
    clips = _compose(data_config, scores)
    splits = _render(data_config, clips, train, cache_dir)
    splits["train"].label_mask[data_config.labelled :] = False
    licences = {"scores": PACKAGES["music21"].licence, "train bank": f"{train.name}: {train.licence}"}
    leakage: dict[str, Any] = {"scores": shared_scores(scores)}
    notes: dict[str, Any] = {"licences": licences, "leakage": leakage, "scores": {split: len(members) for split, members in scores.items()}}
    notes["score_terms"] = {"folder": read_licence(scores_archive), "files": sorted({score.rights for score in everything} - {""})}
    notes["renderer"] = f"midirenderer {importlib.metadata.version('midirenderer')}"
    if unseen is None:
        notes["unseen"] = reason
    else:
        paired = {"unseen": clips["test"][: data_config.unseen]}
        clips |= paired
        splits |= _render(data_config, paired, unseen, cache_dir)
        licences["unseen bank"] = f"{unseen.name}: {unseen.licence}"
        leakage["samples"] = _shared_samples(train, unseen, cache_dir)
    records = {split: {example: asdict(clip) for example, clip in zip(splits[split].ids, drawn, strict=True)} for split, drawn in clips.items()}
    return write_dataset(
        path,
        name=NAME,
        fingerprint=fingerprint,
        modality="audio",
        task="multilabel",
        sample_rate=data_config.sample_rate,
        classes=data_config.classes,
        splits=splits,
        notes=notes,
        licence="; ".join(licences.values()),
        records=records,
    )


def _shared_samples(train: Bank, unseen: Bank, cache_dir: Path) -> dict[str, Any]:
    """The leakage report of two banks, made once for each pair."""
    path = Path(cache_dir) / "leakage" / f"{train.sha256[:12]}-{unseen.sha256[:12]}-{LEAKAGE_VERSION}.json"
    if not path.exists():
        banks = (prepared_sf2(bank, cache_dir).read_bytes() for bank in (train, unseen))
        write_json(path, shared_samples(*banks, names=(train.name, unseen.name)))
    return read_json(path)


def _fingerprint(data_config: Any, train: Bank, unseen: Bank | None) -> str:
    fields = ("clip_seconds", "sample_rate", "labelled", "unlabelled", "valid", "test", "unseen", "seed")
    made_from = {field: getattr(data_config, field) for field in fields}
    made_from |= {"format": FORMAT_VERSION, "classes": list(data_config.classes), "scores": PACKAGES["music21"].sha256}
    made_from |= {"instruments": {name: asdict(INSTRUMENTS[name]) for name in data_config.classes}}
    made_from |= {"train_bank": train.sha256, "unseen_bank": unseen.sha256 if unseen else None}
    return sha256_json(made_from)


def _compose(data_config: Any, scores: dict[str, list[Score]]) -> dict[str, list[Clip]]:
    def draw(stream: str, split: str, count: int) -> list[Clip]:
        return compose_clips(scores[split], data_config.classes, count, data_config.clip_seconds, (data_config.seed, STREAMS[stream]))

    train = draw("labelled", "train", data_config.labelled) + draw("unlabelled", "train", data_config.unlabelled)
    return {"train": train, "valid": draw("valid", "valid", data_config.valid), "test": draw("test", "test", data_config.test)}


def _render(data_config: Any, clips: dict[str, list[Clip]], bank: Bank, cache_dir: Path) -> dict[str, Split]:
    everything = [clip for drawn in clips.values() for clip in drawn]
    description = f"rendering {', '.join(clips)}"
    sf2 = prepared_sf2(bank, cache_dir)
    audio = render_clips(sf2, everything, clip_seconds=data_config.clip_seconds, sample_rate=data_config.sample_rate, description=description)
    labels = np.array([[name in clip.labels for name in data_config.classes] for clip in everything], np.float32)
    splits, start = {}, 0
    for split, drawn in clips.items():
        rows = slice(start, start + len(drawn))
        ids = [f"{split}/{index:05d}" for index in range(len(drawn))]
        splits[split] = Split(ids, audio[rows], labels[rows], np.ones(labels[rows].shape, np.bool_))
        start += len(drawn)
    return splits
