"""Whose a workdir is."""

import pytest

from jaxkd import config as configs
from jaxkd import workdir
from jaxkd.errors import ConfigError
from jaxkd.files import as_json, write_json


def test_a_workdir_that_was_begun_before_a_field_was_added_goes_on_with_its_default(tmp_path):
    config = configs.default_config()
    fields = as_json(config)
    del fields["parallel"]["parameters"]
    write_json(tmp_path / "config.json", fields)
    workdir.claim(tmp_path, as_json(config))
    config.parallel.parameters = "sharded"
    with pytest.raises(ConfigError, match=r"parallel\.parameters: 'sharded' here, 'replicated' there"):
        workdir.claim(tmp_path, as_json(config))


def test_a_workdir_of_a_comparison_goes_on_and_is_not_one_of_a_run(tmp_path):
    run = as_json(configs.default_config())
    compared = {name: value for name, value in run.items() if name not in ("method", "seed")}
    for _ in range(2):
        workdir.claim(tmp_path, compared)
    with pytest.raises(ConfigError, match="method: 'compressed' here, absent there"):
        workdir.claim(tmp_path, run)
