from pathlib import Path
from typing import Any

import pytest

from tests.results.digits_runs import make_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A finished run and its summary; tests that damage it copy it first."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, make_run(workdir, method="compressed", seed=0)
