import json

import jax
import numpy as np
import pytest

from jaxkd.errors import ArtefactError
from jaxkd.files import sha256_json
from jaxkd.lelp import fit_subspaces, load_subspaces, save_subspaces

IDENTITY = {"embeddings": "abc", "seed": 3, "classes_from": "label", "options": {"rotation": "haar", "num_subclasses": 4, "kinds": (1, 2)}}


@pytest.fixture(scope="module")
def subspaces():
    rng = np.random.default_rng(0)
    rows, classes, kernel = rng.standard_normal((60, 8)), rng.integers(0, 2, 60), rng.standard_normal((8, 2))
    return fit_subspaces([(rows, classes)], num_classes=2, num_subclasses=4, classifier_kernel=kernel, key=jax.random.key(3))


@pytest.fixture
def saved(subspaces, tmp_path):
    fingerprint = save_subspaces(tmp_path / "subspaces", subspaces, identity=IDENTITY)
    assert fingerprint == sha256_json(IDENTITY)
    return tmp_path / "subspaces"


def test_every_field_comes_back(subspaces, saved):
    loaded, identity = load_subspaces(saved, expected=IDENTITY)
    for name, value in subspaces._asdict().items():
        np.testing.assert_array_equal(getattr(loaded, name), value, strict=True)
    assert identity == json.loads(json.dumps(IDENTITY))
    assert sorted(file.name for file in saved.parent.iterdir()) == ["subspaces"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed is 3, 4 is wanted"),
        ({"options": {"rotation": "equal", "num_subclasses": 4, "kinds": (1, 2)}}, "options.rotation is 'haar', 'equal' is wanted"),
        ({"teacher": "other"}, "teacher is 'nothing', 'other' is wanted"),
    ],
)
def test_another_identity_is_refused_by_field(saved, change, message):
    with pytest.raises(ArtefactError, match=message):
        load_subspaces(saved, expected=IDENTITY | change)


@pytest.mark.parametrize("file", ["subspaces.npz", "subspaces.json"])
def test_damage_is_seen(saved, file):
    data = bytearray((saved / file).read_bytes())
    for place in (len(data) // 3, len(data) // 2):
        damaged = data.copy()
        damaged[place] ^= 1
        (saved / file).write_bytes(damaged)
        with pytest.raises(ArtefactError, match=file):
            load_subspaces(saved)
    (saved / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtefactError, match=file):
        load_subspaces(saved)
    (saved / file).unlink()
    with pytest.raises(ArtefactError, match=f"{file} is missing"):
        load_subspaces(saved)


def test_another_version_is_refused(saved):
    content = json.loads((saved / "subspaces.json").read_text())
    del content["digest"]
    content["version"] = 9
    (saved / "subspaces.json").write_text(json.dumps({**content, "digest": sha256_json(content)}))
    with pytest.raises(ArtefactError, match="version 9; this jaxkd reads jaxkd-subspaces version 2"):
        load_subspaces(saved)


def test_a_second_save_replaces_the_first(subspaces, saved):
    save_subspaces(saved, subspaces._replace(mean=subspaces.mean + 1), identity=IDENTITY | {"seed": 4})
    loaded, identity = load_subspaces(saved)
    assert identity["seed"] == 4
    np.testing.assert_array_equal(loaded.mean, subspaces.mean + 1)
