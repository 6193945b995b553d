"""Fixtures shared by all tests: the cache that a session fetches into, and a tiny rendered data set in it."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

# Most of the time goes into compiling: little of it here, unless XLA_FLAGS says otherwise. Programs that tests start are compiled as for a user.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import pytest

from jaxkd.data import prepare
from jaxkd.data.dataset import Dataset
from jaxkd.data.instruments import INSTRUMENTS
from jaxkd.files import default_cache_dir
from jaxkd.pipeline import precompute
from jaxkd.training.prepared import Prepared
from tests.small import small_config, text_config


def pytest_configure(config: pytest.Config) -> None:
    """A shell that starts the tests in the background makes them, and the programs that they start, deaf to Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole programs first: they take longest, and would keep one worker busy alone at the end."""
    items.sort(key=lambda item: not item.path.stem.endswith(("program", "parallel", "network")))


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """$JAXKD_CACHE_DIR or the user's own cache, so that archives are fetched once for all runs."""
    return default_cache_dir()


@pytest.fixture(scope="session")
def tiny_data_config() -> SimpleNamespace:
    return SimpleNamespace(
        source="rendered_instruments",
        classes=tuple(INSTRUMENTS),
        clip_seconds=3.0,
        sample_rate=16000,
        labelled=24,
        unlabelled=24,
        valid=16,
        test=16,
        unseen=16,
        seed=0,
        unseen_bank="",
        scores_archive="",
        train_bank_archive="",
        unseen_bank_archive="",
        tfds_dir="",
        folder="",
    )


@pytest.fixture(scope="session")
def tiny_dataset(tiny_data_config: SimpleNamespace, cache_dir: Path) -> Dataset:
    """24 labelled and 24 unlabelled train clips, 16 each of valid, test and (where a package client gives the bank) unseen."""
    return prepare(tiny_data_config, cache_dir)


@pytest.fixture(scope="session")
def small_inputs(cache_dir: Path) -> Prepared:
    """The data and the embeddings of `configs/audio.py:runlocal`, in the cache."""
    return precompute(small_config(), cache_dir)


@pytest.fixture(scope="session")
def text_inputs(cache_dir: Path) -> Prepared:
    """The data, the trained teacher's embeddings and the pseudo-class targets of `configs/text.py:runlocal`, in the cache."""
    return precompute(text_config(), cache_dir)
