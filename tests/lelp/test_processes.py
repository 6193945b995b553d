"""The benchmark of LELP's subspaces from a store by one process and by several: its data, and a whole run in tiny size."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lelp_processes import stored
from jaxkd.embeddings.store import EmbeddingStore
from tests.small import user_environment

ROOT = Path(__file__).parents[2]


def test_an_interrupted_store_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    rows, dim, classes = 8500, 4, 3
    whole = stored(tmp_path / "whole", rows, dim, classes)
    embedding = whole.gather(whole.ids)
    assert embedding.shape == (rows, 1, dim)
    assert len(np.unique(embedding[:, 0], axis=0)) == rows  # no block repeats another
    writer = EmbeddingStore.create(tmp_path / "part", identity=whole.identity, dim=dim, dtype="float16", shard_rows=4096)
    writer.append(whole.ids[:5000], embedding[:5000])  # one shard is full, the next is lost
    np.testing.assert_array_equal(stored(tmp_path / "part", rows, dim, classes).gather(whole.ids), embedding)
    monkeypatch.setattr(EmbeddingStore, "create", None)
    assert stored(tmp_path / "part", rows, dim, classes).ids == whole.ids


@pytest.mark.slow
def test_a_job_finds_the_subspaces_of_one_process_and_of_float64(tmp_path):
    sizes = ("--rows", "9000", "--dim", "24", "--classes", "2", "--subclasses", "3", "--processes", "2")
    command = [sys.executable, "-m", "benchmarks.lelp_processes", "--workdir", str(tmp_path), f"--out={tmp_path}", *sizes]
    result = subprocess.run(command, cwd=ROOT, env=user_environment(), check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(result.stdout.splitlines()[-1])
    assert [one["rows"] for one in figures["job"]] == [4096 + 9000 - 2 * 4096, 4096]
    assert figures["one"][0]["rows"] == 9000
    assert 0 < max(figures["angles"].values()) < 1e-4
    assert {one["merged_bytes"] for one in figures["job"]} == {4 * 2 * (24**2 + 2 * (1 + 24))}
