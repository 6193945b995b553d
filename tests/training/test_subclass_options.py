"""Every option of `config.lelp` that subclasses are fitted by changes them and the folder that they are kept in; on a few random rows."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from jaxkd.config import default_config
from jaxkd.lelp import subspaces as fits
from jaxkd.lelp.artefact import load_subspaces
from jaxkd.training.subclasses import subclass_targets
from tests.training.few_rows import ROWS, few_rows

OF_ALL = {"lelp.subclass_temperature": 0.5, "lelp.null_space": "off", "lelp.scale": "off", "lelp.classes_from": "teacher", "lelp.subclasses": 3, "seed": 1}
OF_PRINCIPAL = {"lelp.rotation": "off", "lelp.simplex": True}
CHANGES = [*(("lelp", change) for change in (OF_ALL | OF_PRINCIPAL).items()), *(("random_directions", change) for change in OF_ALL.items())]


def _config(method: str, **changed):
    config = default_config()
    config.method = method
    config.lelp.subclasses = 4
    config.update_from_flattened_dict(changed)
    return config


def _subspaces(cache):
    return load_subspaces(next((cache / "subclasses").iterdir()) / "subspaces")[0]


@pytest.fixture(scope="module", params=["multiclass", "multilabel"])
def prepared(request, tmp_path_factory):
    return few_rows(tmp_path_factory.mktemp("few"), request.param)


@pytest.mark.parametrize(("method", "change"), CHANGES, ids=[f"{method}-{field}" for method, (field, _) in CHANGES])
def test_an_option_changes_the_targets_and_their_folder(prepared, tmp_path, method, change):
    plain, changed = (subclass_targets(_config(method, **options), prepared, tmp_path).values for options in ({}, dict([change])))
    assert len(list((tmp_path / "subclasses").iterdir())) == 2
    assert plain.shape != changed.shape or np.abs(plain - changed).max() > 0.01


def test_the_solver_is_the_one_that_is_named(prepared, tmp_path, monkeypatch):
    solved, from_rows = [], fits.from_rows
    monkeypatch.setattr(fits, "from_rows", lambda *arguments: solved.append(True) or from_rows(*arguments))
    covariance = subclass_targets(_config("lelp"), prepared, tmp_path).values
    assert not solved
    svd = subclass_targets(_config("lelp", **{"lelp.solver": "svd"}), prepared, tmp_path).values
    assert solved
    assert len(list((tmp_path / "subclasses").iterdir())) == 2
    np.testing.assert_allclose(svd, covariance, atol=1e-3)


def test_random_directions_span_something_else_in_the_same_null_space(prepared, tmp_path):
    found = []
    for method in ("lelp", "random_directions"):
        subclass_targets(_config(method), prepared, tmp_path / method)
        found.append(_subspaces(tmp_path / method))
    assert np.abs(np.einsum("dk,cds->cks", prepared.classifier.kernel, found[1].directions)).max() < 1e-5
    for principal, drawn in zip(*(one.directions for one in found), strict=True):
        assert subspace_angles(principal, drawn).max() > 0.1
    assert (found[1].eigenvalues.sum(axis=1) < found[0].eigenvalues.sum(axis=1)).all()


def test_augmented_views_are_given_targets_but_not_fitted_on(prepared, tmp_path):
    plain = subclass_targets(_config("lelp"), prepared, tmp_path / "lelp")
    counts = np.reshape(_subspaces(tmp_path / "lelp").counts, (-1, 2 if prepared.dataset.task == "multilabel" else 3))
    np.testing.assert_array_equal(counts.sum(axis=1), ROWS)
    permuted = subclass_targets(_config("permuted"), prepared, tmp_path / "permuted")
    views = prepared.dataset.splits["train"][1::2]
    assert np.any(plain.gather(views) != permuted.gather(views), axis=(1, 2)).mean() > 0.9
