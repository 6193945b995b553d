import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import null_space, subspace_angles
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from jaxkd.errors import ConfigError, DataError
from jaxkd.lelp import (
    ClassMoments,
    class_moments,
    classes_of_rows,
    fit_label_subspaces,
    fit_subspaces,
    project_coordinates,
    random_subspaces,
    subclass_probs,
)

KEY = jax.random.key(3)
C, D, S = 3, 12, 4


def mixture(n: int = 900, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes with different means and decaying spectra."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, C, n)
    factors = rng.standard_normal((C, D, D)) * np.geomspace(3, 0.3, D)[:, None]
    embedding = np.einsum("nd,nde->ne", rng.standard_normal((n, D)), factors[labels]) + rng.standard_normal((C, D))[labels] + offset
    return embedding.astype(np.float32), labels


EMBEDDING, LABELS = mixture()
KERNEL = np.random.default_rng(2).standard_normal((D, C)).astype(np.float32)


def fit(embedding=EMBEDDING, labels=LABELS, **options):
    options = dict(num_classes=C, num_subclasses=S, classifier_kernel=KERNEL, key=KEY) | options
    return fit_subspaces([(embedding[:100], labels[:100]), (embedding[100:], labels[100:])], **options)


def projectors(subspaces) -> np.ndarray:
    bases = [np.linalg.qr(np.asarray(directions, np.float64))[0] for directions in subspaces.directions]
    return np.stack([basis @ basis.T for basis in bases])


def null_projection(kernel: np.ndarray) -> np.ndarray:
    basis = null_space(kernel.astype(np.float64).T)
    return basis @ basis.T


@pytest.mark.parametrize("solver", ["covariance", "svd", "randomized"])
def test_digits_agree_with_pca_of_scikit_learn(solver):
    """The binary task even / odd on the pixels; the mean is not small against the spread."""
    digits = load_digits()
    embedding, labels = (digits.data + 100).astype(np.float32), digits.target % 2
    subspaces = fit_subspaces([(embedding, labels)], num_classes=2, num_subclasses=5, null_space="off", rotation="off", key=None, solver=solver)
    for c in range(2):
        pca = PCA(5, svd_solver="full").fit(embedding[labels == c].astype(np.float64))
        np.testing.assert_allclose(subspaces.mean[c], pca.mean_, rtol=1e-6)
        np.testing.assert_allclose(subspaces.eigenvalues[c], pca.explained_variance_, rtol=1e-5)
        np.testing.assert_allclose(np.abs(np.sum(pca.components_ * subspaces.directions[c].T, axis=1)), 1, atol=1e-5)
        coordinates = project_coordinates(subspaces, embedding)[:, c] * subspaces.scale[c]
        signs = np.sign(np.sum(pca.components_ * subspaces.directions[c].T, axis=1))
        np.testing.assert_allclose(coordinates, pca.transform(embedding.astype(np.float64)) * signs, atol=2e-3)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("solver", ["covariance", "svd", "randomized"])
@pytest.mark.parametrize("null", ["rows", "differences"])
def test_projected_subspace_agrees_with_float64(offset, solver, null):
    embedding, labels = mixture(offset=offset)
    subspaces = fit(embedding, labels, solver=solver, null_space=null)
    outside = null_projection(KERNEL if null == "rows" else KERNEL[:, 1:] - KERNEL[:, :1])
    for c in range(C):
        rows = embedding[labels == c].astype(np.float64)
        _, singular, vectors = np.linalg.svd((rows - rows.mean(axis=0)) @ outside, full_matrices=False)
        assert subspace_angles(subspaces.directions[c].astype(np.float64), vectors[:S].T).max() < 2e-5
        np.testing.assert_allclose(subspaces.eigenvalues[c], singular[:S] ** 2 / (len(rows) - 1), rtol=2e-5)


def test_streaming_and_svd_give_one_result():
    streamed, kept = fit(), fit(solver="svd")
    np.testing.assert_allclose(projectors(streamed), projectors(kept), atol=1e-5)
    for one, other in zip(streamed, kept, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("rotation", ["haar", "equal", "off"])
@pytest.mark.parametrize("simplex", [False, True])
def test_directions_lie_in_the_null_space_of_the_classifier(rotation, simplex):
    subspaces = fit(rotation=rotation, simplex=simplex)
    np.testing.assert_allclose(np.einsum("dk,cds->cks", KERNEL, subspaces.directions), 0, atol=5e-7)
    gram = np.einsum("cds,cdt->cst", subspaces.directions, subspaces.directions)
    expected = np.eye(S) - (1 / S if simplex else 0)
    np.testing.assert_allclose(gram, np.broadcast_to(expected, gram.shape), atol=1e-6)


def test_rotation_keeps_the_subspace_and_the_total_variance():
    plain, turned, equal = fit(rotation="off"), fit(), fit(rotation="equal")
    np.testing.assert_allclose(projectors(plain), projectors(turned), atol=1e-6)
    np.testing.assert_allclose(projectors(plain), projectors(equal), atol=1e-6)
    np.testing.assert_array_equal(plain.eigenvalues, turned.eigenvalues)
    assert not np.allclose(plain.directions, turned.directions, atol=0.1)
    for c in range(C):
        own = EMBEDDING[c == LABELS]
        variances = [np.var(np.asarray(project_coordinates(s, own))[:, c] * s.scale[c], axis=0, ddof=1) for s in (plain, turned, equal)]
        np.testing.assert_allclose(variances[0], plain.eigenvalues[c], rtol=1e-4)
        np.testing.assert_allclose(variances[1].sum(), variances[0].sum(), rtol=1e-5)
        np.testing.assert_allclose(variances[2], variances[0].mean(), rtol=1e-4)


def test_signs_are_fixed_without_rotation_and_the_key_names_the_haar_rotation():
    plain = fit(rotation="off")
    largest = np.take_along_axis(plain.directions, np.argmax(np.abs(plain.directions), axis=1)[:, None], axis=1)
    assert np.all(largest > 0)
    np.testing.assert_array_equal(fit().directions, fit().directions)
    assert not np.allclose(fit().directions, fit(key=jax.random.key(4)).directions, atol=0.1)
    turns = [np.linalg.lstsq(plain.directions[c], fit().directions[c])[0] for c in range(C)]
    assert np.max(np.abs(turns[0] - turns[1])) > 0.1  # each class has its own


@pytest.mark.parametrize("rotation", ["haar", "equal", "off"])
@pytest.mark.parametrize("simplex", [False, True])
def test_scale_by_class_makes_the_mean_variance_one(rotation, simplex):
    subspaces = fit(rotation=rotation, simplex=simplex)
    for c in range(C):
        own = np.asarray(project_coordinates(subspaces, EMBEDDING[c == LABELS]))[:, c]
        np.testing.assert_allclose(np.var(own, axis=0, ddof=1).mean(), 1, rtol=1e-4)
        assert len(set(subspaces.scale[c].tolist())) == 1
    if not simplex:
        np.testing.assert_allclose(subspaces.scale[:, 0], np.sqrt(subspaces.eigenvalues.mean(axis=1)), rtol=1e-6)


def test_whitening_and_no_scale():
    whitened, plain = fit(scale="whiten"), fit(scale="off")
    np.testing.assert_array_equal(plain.scale, 1)
    for c in range(C):
        own = np.asarray(project_coordinates(whitened, EMBEDDING[c == LABELS]))[:, c]
        np.testing.assert_allclose(np.var(own, axis=0, ddof=1), 1, rtol=1e-4)


def test_one_logit_teacher():
    weight = KERNEL[:, :1]
    two = np.concatenate([np.zeros_like(weight), weight], axis=1)
    options = dict(labels=LABELS % 2, num_classes=2)
    one = fit(**options, classifier_kernel=weight)
    np.testing.assert_allclose(np.einsum("dk,cds->cks", weight, one.directions), 0, atol=5e-7)
    assert one.null_basis.shape == (D, 1)
    for other in (fit(**options, classifier_kernel=two, null_space="differences"), fit(**options, classifier_kernel=weight, null_space="differences")):
        np.testing.assert_allclose(projectors(one), projectors(other), atol=1e-5)


def test_kernel_of_less_than_full_rank():
    kernel = np.stack([KERNEL[:, 0], KERNEL[:, 1], KERNEL[:, 0] - 2 * KERNEL[:, 1]], axis=1)
    subspaces = fit(classifier_kernel=kernel)
    assert subspaces.null_basis.shape == (D, 2)
    np.testing.assert_allclose(projectors(subspaces), projectors(fit(classifier_kernel=np.stack([*kernel.T[:2], kernel[:, 0]], axis=1))), atol=1e-5)
    np.testing.assert_allclose(np.einsum("dk,cds->cks", kernel, subspaces.directions), 0, atol=1e-6)


@pytest.mark.parametrize("solver", ["covariance", "svd", "randomized"])
@pytest.mark.parametrize("simplex", [False, True])
def test_small_and_flat_classes_have_fewer_subclasses(solver, simplex):
    """Class 0 has one row, class 1 three, class 2 many copies of two rows, class 3 enough."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((2, D)) + 50
    embedding = np.concatenate([rng.standard_normal((4, D)), np.repeat(rows, 40, axis=0), rng.standard_normal((60, D))]).astype(np.float32)
    labels = np.repeat([0, 1, 2, 3], [1, 3, 80, 60])
    kernel = rng.standard_normal((D, 4))
    subspaces = fit(embedding, labels, num_classes=4, classifier_kernel=kernel, solver=solver, simplex=simplex)
    assert subspaces.valid.sum(axis=1).tolist() == ([1, 3, 2, 4] if simplex else [1, 2, 1, 4])
    assert subspaces.counts.tolist() == [1, 3, 80, 60]
    probs = np.asarray(subclass_probs(subspaces, embedding))
    assert all(np.all(np.isfinite(field)) for field in (*subspaces, probs))
    np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=1e-6)
    assert np.all(probs[:, ~subspaces.valid] == 0)
    np.testing.assert_array_equal(subspaces.directions.transpose(0, 2, 1)[~subspaces.valid], 0)


def test_variance_in_the_classifiers_span_only_gives_one_subclass():
    rng = np.random.default_rng(0)
    embedding = (rng.standard_normal((300, C)) @ KERNEL.T).astype(np.float32)
    subspaces = fit(embedding, LABELS[:300])
    assert subspaces.valid.tolist() == [[True, False, False, False]] * C
    np.testing.assert_array_equal(np.asarray(subclass_probs(subspaces, embedding))[..., 0], 1)


@pytest.mark.parametrize("null", ["rows", "off"])
def test_random_directions_have_the_scaling_of_the_fitted_ones(null):
    moments = class_moments([(EMBEDDING, LABELS)], num_classes=C)
    subspaces = random_subspaces(moments, num_subclasses=S, classifier_kernel=KERNEL, null_space=null, key=KEY)
    read = np.abs(np.einsum("dk,cds->cks", KERNEL, subspaces.directions)).max()
    assert read < 1e-6 if null == "rows" else read > 0.1
    np.testing.assert_allclose(np.einsum("cds,cdt->cst", subspaces.directions, subspaces.directions), np.tile(np.eye(S), (C, 1, 1)), atol=1e-6)
    assert np.all(subspaces.eigenvalues.sum(axis=1) < fit(null_space=null).eigenvalues.sum(axis=1))
    for c in range(C):
        own = np.asarray(project_coordinates(subspaces, EMBEDDING[c == LABELS]))[:, c]
        np.testing.assert_allclose(np.var(own * subspaces.scale[c], axis=0, ddof=1), subspaces.eigenvalues[c], rtol=1e-4)
        np.testing.assert_allclose(np.var(own, axis=0, ddof=1).mean(), 1, rtol=1e-4)
    assert max(subspace_angles(subspaces.directions[0], subspaces.directions[1])) > 0.1


def test_multi_label_form_fits_two_classes_for_each_label():
    labels = np.stack([LABELS == 0, LABELS == 2], axis=1).astype(np.float32)
    mask = np.random.default_rng(0).random(labels.shape) < 0.8
    kernel = KERNEL[:, :2]
    subspaces = fit_label_subspaces([(EMBEDDING, labels, mask)], num_labels=2, num_subclasses=S, classifier_kernel=kernel, key=KEY)
    assert subspaces.counts.tolist() == [int(np.sum(mask[:, label] & (labels[:, label] == value))) for label in range(2) for value in range(2)]
    np.testing.assert_allclose(np.einsum("dk,cds->cks", kernel, subspaces.directions), 0, atol=1e-6)
    assert subspaces.null_basis.shape == (D, 2)
    present = mask[:, 1] & (labels[:, 1] == 1)
    alone = fit(EMBEDDING[present], np.zeros(present.sum(), int), num_classes=1, classifier_kernel=None, null_space="off", rotation="off")
    plain = fit_label_subspaces([(EMBEDDING, labels, mask)], num_labels=2, num_subclasses=S, null_space="off", rotation="off", key=None)
    np.testing.assert_allclose(plain.directions[3], alone.directions[0], atol=1e-5)
    with pytest.raises(DataError, match="are needed"):
        fit_label_subspaces([(EMBEDDING, labels, mask[:3])], num_labels=2, num_subclasses=S, null_space="off", key=KEY)


def test_classes_of_rows():
    labels, mask = np.eye(3, dtype=np.float32), np.array([[True] * 3, [False] * 3, [True] * 3])
    logits = np.array([[0, 5, 0], [0, 0, 5], [5, 0, 0]])
    assert classes_of_rows(labels, mask).tolist() == [0, -1, 2]
    assert classes_of_rows(labels, mask, logits).tolist() == [0, 2, 2]
    assert classes_of_rows(labels, mask, logits, source="teacher").tolist() == [1, 2, 0]
    assert classes_of_rows(labels[:, :2], mask[:, :2], np.array([[-1.0], [2.0], [3.0]]), source="teacher").tolist() == [0, 1, 1]
    with pytest.raises(ConfigError, match="no teacher logits"):
        classes_of_rows(labels, mask, source="teacher")
    with pytest.raises(DataError, match="3 rows of labels came with 2"):
        classes_of_rows(labels, mask, logits[:2])
    with pytest.raises(DataError, match=r"logits \(3, 3\) came with labels of 2 classes: pass \[n, 2\]"):
        classes_of_rows(labels[:, :2], mask[:, :2], logits)
    with pytest.raises(DataError, match=r"labels \(3, 3\) came with a label mask \(3, 2\)"):
        classes_of_rows(labels, mask[:, :2])


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (ConfigError, dict(classifier_kernel=KERNEL.T), r"shape \(3, 12\), but \[12, 3\]"),
        (ConfigError, dict(classifier_kernel=KERNEL[:, :1]), r"shape \(12, 1\), but \[12, 3\]"),
        (ConfigError, dict(classifier_kernel=KERNEL[:, 0]), r"shape \(12,\)"),
        (ConfigError, dict(classifier_kernel=np.zeros((D, C))), "rank 0"),
        (ConfigError, dict(classifier_kernel=np.full((D, C), np.nan)), "NaN"),
        (ConfigError, dict(classifier_kernel=None), "needs classifier_kernel"),
        (ConfigError, dict(num_subclasses=10), "10 directions .* has 12 dimensions less the 3 .* use at most 9, or null_space=.off., which leaves 12"),
        (ConfigError, dict(num_subclasses=13, null_space="off"), "use at most 12"),
        (ConfigError, dict(num_subclasses=0), "num_subclasses is 0"),
        (ConfigError, dict(num_subclasses=4.5), "num_subclasses is 4.5: pass an integer"),
        (ConfigError, dict(num_classes=0), "num_classes is 0"),
        (DataError, dict(embedding=np.zeros(D)), r"shape \(12,\) were given where \[rows, D\]"),
        (ConfigError, dict(null_space="row"), "Did you mean 'rows'"),
        (ConfigError, dict(rotation="hair"), "Did you mean 'haar'"),
        (ConfigError, dict(scale="classes"), "Did you mean 'class'"),
        (ConfigError, dict(solver="qr"), "Valid: auto, covariance, randomized, svd"),
        (ConfigError, dict(simplex=True, scale="whiten"), "simplex"),
        (ConfigError, dict(key=None), "pass key"),
        (DataError, dict(labels=LABELS % 2), "no row belongs to class 2 of 3"),
        (DataError, dict(labels=LABELS + 1), "has class 3"),
        (DataError, dict(embedding=np.where(np.arange(D) == 5, np.nan, EMBEDDING)), "NaN"),
    ],
)
@pytest.mark.parametrize("solver", ["covariance", "svd", "randomized"])
def test_bad_input_is_refused_by_name(error, options, message, solver):
    with pytest.raises(error, match=message):
        fit(**{"solver": solver} | options)


def test_the_room_of_the_null_space_can_be_used_up():
    assert fit(num_subclasses=9).valid.all()
    assert fit(num_subclasses=10, simplex=True).valid.all()
    assert fit(num_subclasses=12, null_space="off").valid.all()


def test_rows_of_another_width_or_none():
    with pytest.raises(DataError, match="shape"):
        fit_subspaces([(EMBEDDING, LABELS), (EMBEDDING[:, :5], LABELS)], num_classes=C, num_subclasses=S, null_space="off", key=KEY)
    with pytest.raises(DataError, match="no embeddings"):
        fit_subspaces([], num_classes=C, num_subclasses=S, null_space="off", key=KEY, solver="svd")
    with pytest.raises(DataError, match="do not fit subspaces of width 12"):
        project_coordinates(fit(), EMBEDDING[:, :5])


def test_moments_updated_one_batch_at_a_time_serve_as_well():
    moments = ClassMoments.zeros(C, D).update(EMBEDDING[:300], LABELS[:300]).update(EMBEDDING[300:], LABELS[300:])
    one = random_subspaces(moments, num_subclasses=S, classifier_kernel=KERNEL, key=KEY)
    other = random_subspaces(class_moments([(EMBEDDING, LABELS)], num_classes=C), num_subclasses=S, classifier_kernel=KERNEL, key=KEY)
    np.testing.assert_array_equal(one.directions, other.directions)


def test_coordinates_of_half_precision_rows_are_float32():
    subspaces = fit()
    for dtype in (jnp.bfloat16, jnp.float16):
        half = jnp.asarray(EMBEDDING, dtype)
        coordinates = jax.jit(project_coordinates)(subspaces, half)
        assert coordinates.dtype == jnp.float32
        np.testing.assert_allclose(coordinates, project_coordinates(subspaces, np.asarray(half, np.float32)), rtol=1e-6, atol=1e-6)
