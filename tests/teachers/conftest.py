"""The archives with the released weights, from the cache or through pip."""

from pathlib import Path

import pytest

from jaxkd.data.fetch import fetch
from jaxkd.data.packages import PACKAGES
from jaxkd.files import default_cache_dir


@pytest.fixture(scope="session")
def musicnn_archive() -> Path:
    return fetch(PACKAGES["musicnn"], default_cache_dir())


@pytest.fixture(scope="session")
def aisfx_archive() -> Path:
    return fetch(PACKAGES["aisfx"], default_cache_dir())
