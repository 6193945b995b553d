import jax
import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss, roc_auc_score

from jaxkd import metrics
from jaxkd.errors import DataError
from jaxkd.metrics import multiclass
from jaxkd.metrics.roc import weighted_roc_auc

CLASSES = (2, 10)


@pytest.fixture(scope="module", params=CLASSES, ids=lambda count: f"{count} classes")
def split(request) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Classes [400], mask and two systems' probabilities on digits, or their parity: one sees half of the image, the other less. Rounded, so that they tie."""
    images, digits = load_digits(return_X_y=True)
    classes = digits % request.param
    mask = np.repeat(np.random.default_rng(0).random((400, 1)) < 0.7, request.param, axis=1)

    def system(pixels: slice) -> np.ndarray:
        scores = LogisticRegression(max_iter=2000).fit(images[400:, pixels] / 16, classes[400:]).predict_proba(images[:400, pixels] / 16).round(2)
        return scores / scores.sum(axis=1, keepdims=True)

    return classes[:400], mask, system(slice(0, 32)), system(slice(0, 16))


def one_hot(classes: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[classes]


def area(classes, scores):
    return roc_auc_score(classes, scores[:, 1] if scores.shape[1] == 2 else scores, multi_class="ovr", average="macro")


def calibration_error(classes, scores):
    confidence = scores.max(axis=1)
    shares, means = calibration_curve(scores.argmax(axis=1) == classes, confidence, n_bins=metrics.CALIBRATION_BINS, strategy="uniform")
    sizes = np.bincount(np.digitize(confidence, np.linspace(0, 1, metrics.CALIBRATION_BINS + 1)[1:-1], right=True))
    return np.average(np.abs(shares - means), weights=sizes[sizes > 0])


def brier_by_class(classes, scores):
    return sum(brier_score_loss(classes == k, scores[:, k]) for k in range(scores.shape[1]))


ORACLES = {
    "accuracy": lambda classes, scores: accuracy_score(classes, scores.argmax(axis=1)),
    "f1_macro": lambda classes, scores: f1_score(classes, scores.argmax(axis=1), average="macro"),
    "roc_auc": area,
    "ece": calibration_error,
    "brier": brier_by_class,
    "nll": lambda classes, scores: log_loss(classes, scores, labels=range(scores.shape[1])),
}


@pytest.mark.parametrize("name", ORACLES)
def test_each_metric_equals_scikit_learn(split, name):
    classes, mask, scores, _ = split
    labels, labelled = one_hot(classes, scores.shape[1]), mask[:, 0]
    ours = getattr(multiclass, name)
    assert ours(labels, scores) == pytest.approx(ORACLES[name](classes, scores), rel=1e-12)
    assert ours(labels, scores, mask) == pytest.approx(ORACLES[name](classes[labelled], scores[labelled]), rel=1e-12)


def test_a_split_has_all_metrics_and_agreement_counts_unlabelled_rows(split):
    classes, mask, scores, teacher = split
    labels = np.where(mask, one_hot(classes, scores.shape[1]), np.nan)
    result = metrics.multiclass_metrics(labels, scores, mask, teacher=teacher)
    assert result.pop("agreement") == accuracy_score(teacher.argmax(axis=1), scores.argmax(axis=1))
    assert result == metrics.multiclass_metrics(labels, scores, mask)
    assert result == {name: getattr(multiclass, name)(labels, scores, mask) for name in ORACLES}
    assert all(type(value) is float for value in result.values())


def test_of_equal_probabilities_the_lowest_index_is_predicted_on_both_sides():
    scores = np.full((4, 4), 0.25)
    assert multiclass.accuracy(np.eye(4), scores) == 0.25
    assert multiclass.agreement(scores, np.eye(4)) == 0.25
    assert multiclass.agreement(scores, scores) == 1


@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "roc_auc"])
def test_a_resample_equals_scikit_learn_on_the_repeated_rows(split, name):
    classes, mask, scores, _ = split
    counts = np.random.default_rng(5).multinomial(400, np.full(400, 1 / 400), size=12).astype(float)
    found = multiclass.resampled(name, one_hot(classes, scores.shape[1]), scores, mask, counts)
    drawn = [np.repeat(np.arange(400), row.astype(int)) for row in counts]
    expected = [ORACLES[name](classes[rows], scores[rows]) for rows in (rows[mask[rows, 0]] for rows in drawn)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_resample_without_a_class_leaves_it_out_and_without_any_is_nan():
    """Class 2 is drawn in no row of the second resample; the third draws one class alone; the fourth draws unlabelled rows alone."""
    classes, labelled = np.array([0, 0, 1, 1, 2, 0]), np.array([True, True, True, True, True, False])
    scores = metrics.softmax(np.random.default_rng(0).normal(size=(6, 3)))
    scores[:4, 2] = 0  # so that no row of the second resample is predicted as class 2 either
    mask = np.repeat(labelled[:, None], 3, axis=1)
    counts = np.array([[1, 1, 1, 1, 1, 0], [1, 2, 1, 1, 0, 0], [2, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 3.0]])
    rows = np.array([0, 1, 1, 2, 3])
    areas = multiclass.resampled("roc_auc", one_hot(classes, 3), scores, mask, counts)
    assert areas[1] == pytest.approx(np.mean([roc_auc_score(classes[rows] == k, scores[rows, k]) for k in (0, 1)]))
    assert np.isnan(areas[2]) and np.isnan(areas[3])
    f1 = multiclass.resampled("f1_macro", one_hot(classes, 3), scores, mask, counts)
    assert f1[1] == pytest.approx(f1_score(classes[rows], scores[rows].argmax(axis=1), average="macro"))
    accuracies = multiclass.resampled("accuracy", one_hot(classes, 3), scores, mask, counts)
    np.testing.assert_array_equal(np.isnan(accuracies), [False, False, False, True])


def test_area_does_not_depend_on_how_resamples_are_grouped():
    rng = np.random.default_rng(0)
    positive, scores, weights = rng.random(3000) < 0.3, rng.random(3000).round(2), rng.integers(0, 4, (50, 3000)).astype(float)
    whole = weighted_roc_auc(positive, ~positive, scores, weights)
    np.testing.assert_array_equal(whole, [weighted_roc_auc(positive, ~positive, scores, row[None])[0] for row in weights])
    assert whole[7] == pytest.approx(roc_auc_score(positive, scores, sample_weight=weights[7]), rel=1e-12)


def test_softmax_and_its_logarithm_equal_jax_and_do_not_overflow():
    logits = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32) * 5
    np.testing.assert_allclose(metrics.softmax(logits), jax.nn.softmax(logits), rtol=1e-5)
    np.testing.assert_allclose(metrics.log_probabilities(metrics.softmax(logits)), jax.nn.log_softmax(logits), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(metrics.softmax(np.array([[1000.0, -1000.0]])), [[1, 0]])
    assert metrics.softmax(logits).dtype == np.float32
    assert np.all(np.isfinite(metrics.log_probabilities(np.zeros(3))))


EYE, THIRDS = np.eye(3), np.full((3, 3), 1 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: multiclass.accuracy(EYE, np.full((3, 2), 0.5)), r"labels \(3, 3\), scores \(3, 2\)"),
        (lambda: multiclass.accuracy(np.ones((3, 1)), np.ones((3, 1))), "at least two classes"),
        (lambda: multiclass.nll(EYE, THIRDS * 2), "row 0 is no distribution.*sum 2. Apply the softmax"),
        (lambda: multiclass.nll(EYE, np.where(EYE == 1, np.nan, THIRDS)), "row 0 is no distribution"),
        (lambda: multiclass.brier(EYE, np.array([[1.0, 0, 0], [2, -1, 0], [0, 0, 1]])), "row 1 is no distribution"),
        (lambda: multiclass.ece(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]), THIRDS), "label of row 1.*one-hot"),
        (lambda: multiclass.f1_macro(EYE * 0.5, THIRDS), "label of row 0.*one-hot"),
        (lambda: multiclass.f1_macro(EYE, THIRDS, EYE > 0), "mask of row 0.*all True"),
        (lambda: metrics.multiclass_metrics(EYE, THIRDS, np.zeros((3, 3), bool)), "none of the 3 rows"),
        (lambda: metrics.multiclass_metrics(EYE, THIRDS, teacher=np.ones((3, 2))), r"teacher's \(3, 2\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()
