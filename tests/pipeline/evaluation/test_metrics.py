import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_metrics import BY_SKLEARN
from sklearn import metrics as reference

from pipeline.evaluation.metrics import METRICS, influence, measure, score


def random_case(seed, n_rows=None, n_classes=None, sharpness=None):
    """Labels and probabilities; classes of very different sizes, some without rows."""
    rng = np.random.default_rng(seed)
    n_rows = n_rows or int(rng.integers(1, 200))
    n_classes = n_classes or int(rng.integers(2, 7))
    y = rng.choice(n_classes, n_rows, p=rng.dirichlet(np.full(n_classes, 0.7)))
    logits = rng.normal(size=(n_rows, n_classes)) * (sharpness or rng.uniform(0.1, 8))
    logits[np.arange(n_rows), y] += rng.uniform(0, 3)
    proba = np.exp(logits - logits.max(axis=1, keepdims=True))
    proba /= proba.sum(axis=1, keepdims=True)
    # Above the 2e-16 that scikit-learn's log-loss clips at; see the test of a truth without any.
    proba = (1 - 1e-9) * proba + 1e-9 / n_classes
    return y, proba, [f"class {k}" for k in range(n_classes)]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_figures_are_those_of_sklearn(seed):
    y, proba, names = random_case(seed)
    predicted, classes = proba.argmax(axis=1), range(len(names))
    result = measure(y, proba, names)
    precision, recall, f1, rows = reference.precision_recall_fscore_support(
        y, predicted, labels=classes, zero_division=0
    )
    assert result.rows == len(y)
    assert list(result.figures) == list(METRICS)
    assert result.figures == pytest.approx({m: of(y, proba) for m, of in BY_SKLEARN.items()})
    assert [c.label for c in result.classes] == names
    for name, expected in zip(
        ("precision", "recall", "f1", "rows"), (precision, recall, f1, rows), strict=True
    ):
        np.testing.assert_allclose([getattr(c, name) for c in result.classes], expected)
    confusion = reference.confusion_matrix(y, predicted, labels=classes)
    assert result.confusion == confusion.tolist()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_weights_are_those_of_sklearn_and_of_rows_taken_twice(seed):
    y, proba, names = random_case(seed)
    times = np.random.default_rng(seed).integers(0, 4, len(y))
    times[0] = 1
    weighted = measure(y, proba, names, weight=times.astype(float))
    repeated = measure(np.repeat(y, times), np.repeat(proba, times, axis=0), names)
    assert weighted.log_loss == pytest.approx(repeated.log_loss)
    assert weighted.calibration_error == pytest.approx(repeated.calibration_error)
    expected = reference.log_loss(y, proba, labels=range(len(names)), sample_weight=times)
    assert weighted.log_loss == pytest.approx(expected)
    assert score("log-loss", y, proba, times.astype(float)) == weighted.log_loss
    # Rows are counted as they are, and so is the bootstrap over them.
    plain = measure(y, proba, names)
    assert (
        dataclasses.replace(
            weighted,
            figures=weighted.figures | {"log-loss": plain.log_loss},
            calibration_error=plain.calibration_error,
        )
        == plain
    )


def test_class_without_rows():
    y = np.array([0, 0, 2, 2])
    proba = np.eye(3)[[0, 1, 2, 2]]
    result = measure(y, proba, ["a", "b", "c"])
    assert result.macro_recall == pytest.approx((0.5 + 1) / 2)
    absent = result.classes[1]
    assert (absent.rows, absent.precision, absent.recall, absent.f1) == (0, 0, 0, 0)


def test_calibration_error_by_hand():
    """15 bins of 1/15: 0.62 and 0.65 share the bin from 0.6, the others lie alone."""
    confidence = np.array([0.62, 0.65, 0.9, 1.0, 0.5])
    correct = np.array([True, False, True, True, False])
    proba = np.column_stack([confidence, 1 - confidence])
    y = np.where(correct, 0, 1)
    y[4] = 1  # at 0.5 each the first is predicted, wrongly
    expected = (abs((1 - 0.62) + (0 - 0.65)) + (1 - 0.9) + 0 + 0.5) / 5
    assert measure(y, proba, ["a", "b"]).calibration_error == pytest.approx(expected)


def test_calibrated_scores_have_a_small_error():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 100_000)
    y = np.where(rng.uniform(size=100_000) < confidence, 0, 1)
    proba = np.column_stack([confidence, 1 - confidence])
    assert measure(y, proba, ["a", "b"]).calibration_error < 0.01


def test_loss_stays_finite_where_the_truth_got_nothing():
    result = measure(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]), ["a", "b"])
    assert 100 < result.log_loss < 1000
    assert result.accuracy == 0.5


@pytest.mark.parametrize("seed", range(4))
def test_interval_is_that_of_a_bootstrap_over_rows(seed):
    y, proba, names = random_case(seed, n_rows=300, n_classes=3, sharpness=1.5)
    low, high = measure(y, proba, names).macro_recall_interval
    rng = np.random.default_rng(1)
    drawn = [
        score("macro-recall", y[rows], proba[rows])
        for rows in rng.integers(0, len(y), size=(3000, len(y)))
    ]
    width = high - low
    np.testing.assert_allclose([low, high], np.percentile(drawn, [2.5, 97.5]), atol=0.12 * width)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_interval_contains_the_figure(seed):
    y, proba, names = random_case(seed, n_rows=200)
    result = measure(y, proba, names, seed=seed % 7)
    low, high = result.macro_recall_interval
    # A class of a row or two is left out of many draws, which moves the mean of the others.
    if all(c.rows == 0 or c.rows >= 5 for c in result.classes):
        assert 0 <= low <= result.macro_recall <= high <= 1


def test_interval_depends_on_the_seed_alone():
    y, proba, names = random_case(0, n_rows=100)
    once, again, other = (measure(y, proba, names, seed=seed) for seed in (1, 1, 2))
    assert once == again
    assert once.macro_recall_interval != other.macro_recall_interval
    assert dataclasses.replace(once, macro_recall_interval=other.macro_recall_interval) == other


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_the_figures_of_the_metrics(metric):
    y, proba, names = random_case(3)
    figures = measure(y, proba, names)
    assert score(metric, y, proba) == figures.figures[metric]
    assert score(metric, y, proba) == figures.to_dict()[metric.replace("-", "_")]


def test_figures_have_names_of_their_own():
    y, proba, names = random_case(3)
    figures = measure(y, proba, names)
    by_name = (figures.macro_recall, figures.accuracy, figures.macro_f1, figures.log_loss)
    assert dict(zip(METRICS, by_name, strict=True)) == figures.figures


@pytest.mark.parametrize("metric", METRICS)
def test_the_truth_is_better_than_its_opposite(metric):
    y = np.array([0, 1, 1, 0])
    right, wrong = (score(metric, y, np.eye(2)[p] * 0.8 + 0.1) for p in (y, 1 - y))
    assert (right > wrong) == METRICS[metric].higher_is_better


def test_perfect_and_single_rows():
    result = measure(np.array([1]), np.array([[0.0, 1.0]]), ["a", "b"])
    assert (result.accuracy, result.macro_recall, result.log_loss) == (1, 1, 0)
    assert result.macro_recall_interval == (1, 1)


def test_as_json():
    y, proba, names = random_case(5, n_rows=50)
    content = measure(y, proba, names).to_dict()
    back = json.loads(json.dumps(content))
    assert back["classes"][0]["label"] == "class 0"
    assert back["confusion"] == content["confusion"]


def test_influence_by_hand():
    """Two classes of 2 and 4 rows: a hit moves the recall of its class by what it is above it."""
    y, predicted = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 1, 1, 1, 1, 0])
    found = influence("macro-recall", y, np.eye(2)[predicted])
    expected = [0.5 / 4, -0.5 / 4, 0.25 / 8, 0.25 / 8, 0.25 / 8, -0.75 / 8]
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("metric", METRICS)
def test_influence_gives_the_standard_error_of_the_bootstrap(metric):
    y, proba, _ = random_case(3, n_rows=600, n_classes=3, sharpness=2.0)
    other = random_case(3, n_rows=600, n_classes=3, sharpness=3.0)[1]
    moves = influence(metric, y, proba) - influence(metric, y, other)
    assert moves.sum() == pytest.approx(0, abs=1e-9)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        at = rng.integers(0, len(y), len(y))
        drawn.append(score(metric, y[at], proba[at]) - score(metric, y[at], other[at]))
    assert np.sqrt((moves**2).sum()) == pytest.approx(np.std(drawn), rel=0.12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(METRICS)))
def test_influence_sums_to_zero(seed, metric):
    y, proba, _ = random_case(seed)
    found = influence(metric, y, proba)
    assert found.shape == y.shape and np.isfinite(found).all()
    assert found.sum() == pytest.approx(0, abs=1e-6)
