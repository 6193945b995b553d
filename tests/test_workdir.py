"""Whose a workdir is, and what it was begun with."""

import datetime
import hashlib
import resource
import subprocess
import sys

import jax
import pytest

from jaxkd import config as configs
from jaxkd import workdir
from jaxkd.errors import ConfigError
from jaxkd.files import as_json, read_json, write_json


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


def test_a_run_keeps_the_source_and_the_day_that_it_was_begun_with(tmp_path, monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setattr(workdir, "__file__", str(tmp_path / "jaxkd" / "workdir.py"))
    (tmp_path / "jaxkd" / "losses").mkdir(parents=True)
    kept, (_, granted) = {}, resource.getrlimit(resource.RLIMIT_NOFILE)
    for source in (b"x = 1\n", b"x = 2\n"):
        (tmp_path / "jaxkd" / "losses" / "kd.py").write_bytes(source)
        workdir._source.cache_clear()
        for run in ("first", source.decode().strip()):
            (tmp_path / run).mkdir(exist_ok=True)
            resource.setrlimit(resource.RLIMIT_NOFILE, (500, granted))
            workdir.start_jax(tmp_path / run, tmp_path / "cache")
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (granted, granted)
        kept[source] = read_json(tmp_path / source.decode().strip() / "environment.json")
        assert kept[source]["versions"][workdir.SOURCE] == workdir.code()[workdir.SOURCE] == hashlib.sha256(source).hexdigest()[:12]
    workdir._source.cache_clear()
    assert {environment["date"] for environment in kept.values()} <= {(datetime.date.today() - datetime.timedelta(days)).isoformat() for days in (0, 1)}
    assert read_json(tmp_path / "first" / "environment.json") == kept[b"x = 1\n"]


def test_compiled_programs_are_kept_in_the_cache(tmp_path):
    program = f"from pathlib import Path; from jaxkd.workdir import start_jax; start_jax(Path({str(tmp_path)!r}), Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", f"{program}; import jax; jax.jit(lambda x: x + 1)(1.0)"], check=True)
    assert list((tmp_path / "compiled").glob("jit_*-cache"))
