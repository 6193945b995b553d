"""WordLlama against the package itself (stored values), and archives that do not fit."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from jaxkd.data.fetch import fetch
from jaxkd.data.packages import PACKAGES
from jaxkd.errors import ArtefactError
from jaxkd.teachers import wordllama

ORACLES = np.load(Path(__file__).parent.parent / "oracles" / "wordllama_package.npz")
TEXTS = [str(text) for text in ORACLES["texts"]]


@pytest.fixture(scope="module")
def archive(cache_dir):
    return fetch(PACKAGES["wordllama"], cache_dir)


@pytest.fixture(scope="module")
def teacher(archive):
    return wordllama.build("wordllama", embedding="mean", archive=archive)


def test_agrees_with_the_package(teacher):
    embedding = teacher.embed(TEXTS)
    assert embedding.shape == (len(TEXTS), 1, 256)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding[:, 0], ORACLES["embedding"], rtol=1e-5, atol=1e-6)


def test_a_text_does_not_depend_on_its_neighbours(teacher):
    together = teacher.embed(TEXTS)
    np.testing.assert_array_equal(teacher.embed(TEXTS[::-1])[::-1], together)
    for i, text in enumerate(TEXTS):
        np.testing.assert_array_equal(teacher.embed([text])[0], together[i])
    assert not together[TEXTS.index("")].any()
    assert teacher.embed([]).shape == (0, 1, 256)


def test_description(teacher):
    assert (teacher.name, teacher.embedding, teacher.dim, teacher.sample_rate, teacher.hop_seconds) == ("wordllama", "mean", 256, None, 0.0)
    assert teacher.parameters == 32_000 * 256
    assert teacher.macs_per_example(30) == 0
    assert json.loads(json.dumps(teacher.preprocessing)) == teacher.preprocessing
    assert len(teacher.weight_hash) == 64


def altered(archive, path, **replaced):
    with zipfile.ZipFile(archive) as wheel, zipfile.ZipFile(path, "w") as other:
        for name in (wordllama.WEIGHTS, wordllama.TOKENIZER):
            other.writestr(f"wordllama/{name}", replaced.get(name, wheel.read(f"wordllama/{name}")))
    return path


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (wordllama.WEIGHTS, save({wordllama.TENSOR: np.zeros((31_999, 8), np.float16)}), "has 32000 ids, but the table 31999 rows"),
        (wordllama.WEIGHTS, save({"other": np.zeros((3, 8), np.float16)}), r"should hold one table, embedding\.weight, but holds other"),
        (wordllama.WEIGHTS, b"x", "l2_supercat_256.safetensors is truncated or altered"),
        (wordllama.TOKENIZER, b"{}", "tokenizer_config.json is damaged or of an unknown kind"),
    ],
)
def test_archives_that_are_refused(archive, tmp_path, name, data, message):
    with pytest.raises(ArtefactError, match=message):
        wordllama.build("wordllama", embedding="mean", archive=altered(archive, tmp_path / "w.whl", **{name: data}))


def test_archive_of_another_package(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("other/__init__.py", "")
    with pytest.raises(ArtefactError, match=r"other\.whl has no tokenizers/l2_supercat_tokenizer_config\.json, weights/l2_supercat_256\.safetensors"):
        wordllama.build("wordllama", embedding="mean", archive=tmp_path / "other.whl")
