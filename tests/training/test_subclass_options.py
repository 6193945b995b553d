"""Every option of `config.lelp` that subclasses are fitted by changes them and the folder that they are kept in; on a few random rows."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from jaxkd.config import default_config
from jaxkd.lelp import passes
from jaxkd.lelp import subspaces as fits
from jaxkd.lelp.artefact import load_subspaces
from jaxkd.training.subclasses import subclass_notes, subclass_targets
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
    solved: list[str] = []
    solvers = {name: getattr(fits, name) for name in ("from_covariance", "from_rows", "from_passes")}
    for name in solvers:
        monkeypatch.setattr(fits, name, lambda *arguments, name=name: solved.append(name) or solvers[name](*arguments))
    covariance = subclass_targets(_config("lelp"), prepared, tmp_path).values
    assert set(solved) == {"from_covariance"}
    for solver, name in (("svd", "from_rows"), ("randomized", "from_passes")):
        solved.clear()
        values = subclass_targets(_config("lelp", **{"lelp.solver": solver}), prepared, tmp_path).values
        assert set(solved) == {name}
        np.testing.assert_allclose(values, covariance, atol=1e-3)
    assert len(list((tmp_path / "subclasses").iterdir())) == 3


def test_a_width_beyond_the_moments_is_fitted_by_passes_and_their_error_is_noted(prepared, tmp_path, monkeypatch):
    targets = subclass_targets(_config("lelp"), prepared, tmp_path)
    assert "directions" not in subclass_notes(_config("lelp"), prepared._replace(targets=targets), tmp_path)
    monkeypatch.setattr(fits, "WIDE_DIM", 1)
    monkeypatch.setattr(passes, "SINE", -1.0)
    monkeypatch.setattr(passes, "PASSES", 1)
    targets = subclass_targets(_config("lelp"), prepared, tmp_path / "wide")
    note = subclass_notes(_config("lelp"), prepared._replace(targets=targets), tmp_path / "wide")["directions"]
    assert note == f"known up to an angle of sine {_subspaces(tmp_path / 'wide').sine.max():.2g}"


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
