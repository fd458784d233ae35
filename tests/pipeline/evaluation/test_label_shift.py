"""Shares that are known, found again from probabilities of a model that is not quite calibrated."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from pipeline.evaluation.label_shift import (
    Known,
    estimate_shift,
    estimated_shares,
    moved,
    worth_of,
)
from pipeline.head.calibration import fit_calibration, uncertainty
from pipeline.head.priors import importance

TRAINING = np.array([0.2, 0.45, 0.35])
SHIFTS = (0.0, 0.1, 0.2, 0.3, 0.4)
# Clouds of three classes of which a classifier finds about 70 %, as of sentiments.
CENTRES = np.array([[0.0, 1.2], [-1.0, -0.4], [1.0, -0.5]])


def shifted(points, way=0):
    """The training shares with so much moved to one class, from the others by their shares."""
    others = [k for k in range(3) if k != way]
    shares = TRAINING.copy()
    shares[others] -= points * TRAINING[others] / TRAINING[others].sum()
    shares[way] += points
    return shares


def rows_of(shares, n_rows, rng):
    y = rng.choice(3, n_rows, p=shares)
    return CENTRES[y] + rng.normal(size=(n_rows, 2)), y


def logits_of(X, prior):
    """Those of the true model, tampered with: too sure of itself, and partial to a class."""
    true = -0.5 * ((X[:, None] - CENTRES) ** 2).sum(axis=2)
    return 1.7 * true + np.array([0.25, -0.25, 0.0]) + np.log(prior)


@dataclass(frozen=True)
class Classifier:
    """A calibrated one, as `fit` makes it from rows that were held out."""

    known: Known
    calibration: object

    @classmethod
    def fitted(cls, rng, n_rows=3000):
        X, y = rows_of(TRAINING, n_rows, rng)
        prior = np.full(3, 1 / 3)
        logits, weight = logits_of(X, prior), importance(y, prior)
        calibration = fit_calibration("bias-corrected", logits, y, prior, weight)
        calibrated = np.log(calibration.probabilities(logits, prior))
        covariance = uncertainty(calibrated, y, prior, weight)
        class_rows = np.bincount(y, minlength=3).tolist()
        return cls(Known(("a", "b", "c"), prior, class_rows, covariance), calibration)

    def proba(self, X):
        return self.calibration.probabilities(logits_of(X, self.known.prior), self.known.prior)


@dataclass(frozen=True)
class Coverage:
    """Of 95 % intervals, and how far off the estimate and plain counting are, at a shift."""

    inside: float
    error: float
    error_of_counting: float
    alarms: float


def simulated(points, runs, *, n_rows=1000, rounds=200, seed=0):
    inside, errors, of_counting, alarms = [], [], [], []
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        classifier = Classifier.fitted(rng)
        true = shifted(points, way=run % 3)
        X, _ = rows_of(true, n_rows, rng)
        found = estimate_shift(classifier.proba(X), classifier.known, seed=run, rounds=rounds)
        low, high = np.transpose(found.intervals)
        inside.append((low <= true) & (true <= high))
        errors.append(np.abs(found.shares - true).mean())
        of_counting.append(np.abs(found.counted - true).mean())
        alarms.append(found.is_significant)
    return Coverage(
        float(np.mean(inside)),
        float(np.mean(errors)),
        float(np.mean(of_counting)),
        float(np.mean(alarms)),
    )


def check(found, points):
    assert found.inside >= 0.92
    assert found.error < 0.03
    assert found.error < found.error_of_counting
    if points >= 0.2:
        assert found.error < found.error_of_counting / 2
        assert found.alarms >= 0.95
    if points == 0:
        assert found.alarms <= 0.08


@pytest.mark.parametrize("points", [0.0, 0.4])
def test_the_true_share_is_inside_the_interval(points):
    """Binomial error of 60 runs x 3 classes: about two points."""
    found = simulated(points, 60, n_rows=500)
    print(found)
    check(found, points)


@pytest.mark.slow
@pytest.mark.parametrize("points", SHIFTS)
def test_the_true_share_is_inside_the_interval_in_500_runs(points):
    found = simulated(points, 500)
    print(points, found)
    check(found, points)


def test_without_what_is_known_of_the_calibration_intervals_are_too_narrow():
    rng = np.random.default_rng(1)
    classifier = Classifier.fitted(rng, n_rows=300)
    proba = classifier.proba(rows_of(TRAINING, 20_000, rng)[0])
    full = estimate_shift(proba, classifier.known)
    alone = estimate_shift(proba, replace(classifier.known, calibration=None))
    assert (full.calibration_known, alone.calibration_known) == (True, False)
    assert full.shares == alone.shares
    widths = [np.ptp(one.intervals, axis=1) for one in (full, alone)]
    assert (widths[0] > 2 * widths[1]).all()
    assert alone.p_value <= full.p_value


def test_intervals_narrow_as_rows_become_many():
    """Beyond the rows that are drawn, too: by the root of their number."""
    rng = np.random.default_rng(2)
    classifier = Classifier.fitted(rng)
    known = replace(classifier.known, calibration=None)
    X, _ = rows_of(TRAINING, 64_000, rng)
    proba = classifier.proba(X)
    widths = [np.ptp(estimate_shift(proba[:n], known).intervals, axis=1) for n in (1000, 64_000)]
    np.testing.assert_allclose(widths[0] / widths[1], 8, rtol=0.25)


def test_the_prior_of_the_probabilities_does_not_matter():
    rng = np.random.default_rng(3)
    classifier = Classifier.fitted(rng)
    X, _ = rows_of(shifted(0.2), 500, rng)
    proba, uniform = classifier.proba(X), classifier.known.prior
    other = np.array([0.6, 0.3, 0.1])
    np.testing.assert_allclose(
        estimated_shares(proba, uniform),
        estimated_shares(softmax(np.log(proba / uniform * other), axis=1), other),
        atol=1e-7,
    )


def test_what_a_row_is_worth():
    even = np.array([0.5, 0.5])
    labelled = np.array([[2.0, 0.0]] * 5 + [[0.0, 2.0]] * 5)
    assert worth_of(labelled, even, even) == pytest.approx(1)
    assert worth_of(np.ones((9, 2)), even, even) == 0
    # Probabilities of 0.9 or 0.1: E[p0 p0] = 0.41, E[p0 p1] = 0.09; (0.41 - 0.09) / 0.5.
    ratios = np.array([[1.8, 0.2], [0.2, 1.8]])
    assert worth_of(ratios, even, even) == pytest.approx(0.64)
    # Other rows of the same two kinds stand for the same classifier.
    three = np.array([[1.8, 0.2]] * 3 + [[0.2, 1.8]])
    assert worth_of(three, even, np.array([0.8125, 0.1875])) == pytest.approx(0.64)


def test_worth_is_the_information_of_a_row():
    """Rows are worth what they make of the variance: that of shares that are counted, over it."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(300):
        y = rng.choice(2, 2000)
        right = rng.uniform(size=2000) < 0.9
        p = np.where(right == (y == 0), 0.9, 0.1)
        found.append(estimated_shares(np.column_stack([p, 1 - p]), np.array([0.5, 0.5]))[0])
    assert 0.25 / 2000 / np.var(found) == pytest.approx(0.64, rel=0.2)


def test_a_weak_classifier_is_told():
    rng = np.random.default_rng(5)
    proba = softmax(rng.normal(size=(500, 3)) * 0.2, axis=1)
    known = Known(("a", "b", "c"), np.full(3, 1 / 3), [100, 100, 100])
    found = estimate_shift(proba, known)
    assert found.is_weak
    assert max(high - low for low, high in found.intervals) > 0.2


def test_a_class_that_is_not_there():
    known = Known(("a", "b"), np.array([0.5, 0.5]), [50, 50])
    found = estimate_shift(np.array([[0.99, 0.01]] * 200), known)
    assert found.shares == (1.0, 0.0)
    assert found.is_significant
    assert found.intervals[1][0] == 0
    probabilities = moved(np.array([[0.4, 0.6]]), known.prior, np.array(found.shares), 200)
    assert probabilities[0, 1] > 0
    np.testing.assert_allclose(probabilities.sum(), 1)


def test_moved_as_by_the_head():
    old, new = np.array([0.2, 0.3, 0.5]), np.array([0.5, 0.4, 0.1])
    proba = softmax(np.random.default_rng(6).normal(size=(20, 3)), axis=1)
    expected = softmax(log_softmax(np.log(proba), axis=1) + np.log(new / old), axis=1)
    np.testing.assert_allclose(moved(proba, old, new, 20), expected, rtol=1e-12)


def test_certain_and_single_rows():
    known = Known(("a", "b"), np.array([0.5, 0.5]), [5, 5])
    for proba in ([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5]]):
        found = estimate_shift(np.array(proba), known)
        assert sum(found.shares) == pytest.approx(1)
        assert 0 <= found.p_value <= 1
        json.dumps(found.to_dict())


def test_the_same_seed_gives_the_same_estimate():
    rng = np.random.default_rng(7)
    classifier = Classifier.fitted(rng)
    proba = classifier.proba(rows_of(TRAINING, 300, rng)[0])
    assert estimate_shift(proba, classifier.known) == estimate_shift(proba, classifier.known)
    assert estimate_shift(proba, classifier.known, seed=1) != estimate_shift(
        proba, classifier.known
    )
