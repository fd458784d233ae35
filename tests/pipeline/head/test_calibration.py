import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from pipeline.head.calibration import (
    BIAS_CORRECTED,
    TEMPERATURE,
    Calibration,
    cross_fitted,
    fit_calibration,
    fit_temperature,
    folded,
    uncertainty,
)
from pipeline.head.priors import importance, shift


def at_temperature(logits, temperature, prior):
    return Calibration(temperature, np.zeros(len(prior))).probabilities(logits, prior)


def case(seed, n_rows=400, n_classes=3, uniform=True):
    """Logits of a model that is too sure of itself, or not sure enough."""
    rng = np.random.default_rng(seed)
    prior = np.full(n_classes, 1 / n_classes)
    if not uniform:
        prior = rng.dirichlet(np.full(n_classes, 5.0)) * 0.9 + 0.1 / n_classes
    y = np.concatenate([np.arange(n_classes), rng.choice(n_classes, n_rows, p=prior)])
    logits = rng.normal(size=(len(y), n_classes)) + np.log(prior)
    logits[np.arange(len(y)), y] += 1.0
    return logits * rng.uniform(0.3, 4), y, prior, importance(y, prior)


def loss_at(inverse, logits, y, prior, weight):
    tempered = inverse * (logits - np.log(prior)) + np.log(prior)
    return -np.average(log_softmax(tempered, axis=1)[np.arange(len(y)), y], weights=weight)


@pytest.mark.parametrize("uniform", [True, False])
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_temperature_is_that_of_scipy(uniform, seed, n_classes):
    logits, y, prior, weight = case(seed, n_classes=n_classes, uniform=uniform)
    found = fit_temperature(logits, y, prior, weight)
    options = {"xatol": 1e-10, "maxiter": 5000}
    expected = minimize_scalar(
        lambda b: loss_at(b, logits, y, prior, weight),
        bounds=(0.01, 100),
        method="bounded",
        options=options,
    )
    assert loss_at(1 / found, logits, y, prior, weight) <= expected.fun + 1e-12
    assert 1 / found == pytest.approx(expected.x, rel=1e-5)
    tempered = at_temperature(logits, found, prior)
    mine = log_loss(y, tempered, sample_weight=weight, labels=range(n_classes))
    assert mine == pytest.approx(expected.fun, abs=1e-10)
    assert (
        mine
        <= log_loss(y, softmax(logits, axis=1), sample_weight=weight, labels=range(n_classes))
        + 1e-12
    )


def test_temperature_by_hand():
    """Odds of 4 where 2 of 3 are right: the evidence counts half, 4 ** (1/2) = 2."""
    logits = np.log([[0.8, 0.2]] * 3)
    y, even = np.array([0, 0, 1]), np.array([0.5, 0.5])
    found = fit_temperature(logits, y, even, np.ones(3))
    assert found == pytest.approx(2)
    np.testing.assert_allclose(at_temperature(logits, found, even), [[2 / 3, 1 / 3]] * 3)
    # A row of weight 2 is two rows.
    weighted = fit_temperature(logits[1:], y[1:], even, np.array([2.0, 1.0]))
    assert weighted == pytest.approx(2)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 5))
def test_what_was_tempered_before_is_found_again(seed, temperature):
    logits, y, prior, weight = case(seed, uniform=False)
    before = fit_temperature(logits, y, prior, weight)
    hotter = np.log(at_temperature(logits, temperature, prior))
    after = fit_temperature(hotter, y, prior, weight)
    assert after * temperature == pytest.approx(before, rel=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5))
def test_the_prior_and_the_temperature_can_be_changed_in_either_order(seed, temperature):
    logits, _, old, _ = case(seed, uniform=False)
    new = case(seed + 1, uniform=False)[2]
    one = softmax(np.log(at_temperature(logits, temperature, old)) + shift(old, new), axis=1)
    other = at_temperature(logits + shift(old, new), temperature, new)
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_worthless_evidence_gives_back_the_prior():
    rng = np.random.default_rng(0)
    prior = np.array([0.2, 0.8])
    y = (rng.uniform(size=20_000) < 0.8).astype(int)
    noise = rng.normal(size=(20_000, 2)) * 3 + np.log(prior)
    found = fit_temperature(noise, y, prior, np.ones(len(y)))
    assert found > 30
    np.testing.assert_allclose(at_temperature(noise, found, prior), [prior] * len(y), atol=0.1)


@pytest.mark.parametrize(
    ("logits", "y", "expected"),
    [
        ([[1.0, 0.0], [-1.0, 3.0]], [0, 1], 0.01),  # all right: no end to it
        ([[1.0, 0.0], [-1.0, 3.0]], [1, 0], 100),  # all wrong
        ([[-0.7, -0.7], [2.0, 2.0]], [0, 1], 1),  # no evidence
        (np.zeros((0, 2)), [], 1),
    ],
)
def test_what_has_no_optimum_is_kept_within_bounds(logits, y, expected):
    y = np.array(y, int)
    found = fit_temperature(np.array(logits), y, np.array([0.5, 0.5]), np.ones(len(y)))
    assert found == pytest.approx(expected)


def test_evidence_beyond_what_probabilities_can_hold():
    """A row that is wrong by 150 counts as that, not as the least that a float32 holds."""
    logits = np.array([[120.0, 0.0]] * 9 + [[150.0, 0.0]])
    y, even, weight = np.array([0] * 9 + [1]), np.array([0.5, 0.5]), np.ones(10)
    found = fit_temperature(logits, y, even, weight)
    assert found == pytest.approx(10 * fit_temperature(logits / 10, y, even, weight))
    assert found != pytest.approx(fit_temperature(np.minimum(logits, 87), y, even, weight), rel=0.1)


@pytest.mark.parametrize("method", [TEMPERATURE, BIAS_CORRECTED])
def test_cross_fitting_looks_at_the_other_groups_only(method):
    logits, y, prior, weight = case(5)
    groups = np.arange(len(y)) % 4
    tempered = cross_fitted(method, logits, y, groups, prior, weight)
    for group in range(4):
        here = groups == group
        found = fit_calibration(method, logits[~here], y[~here], prior, weight[~here])
        np.testing.assert_array_equal(tempered[here], found.probabilities(logits[here], prior))
    # What a row's own class is changes nothing for its group.
    flipped = np.where(groups == 2, (y + 1) % 3, y)
    again = cross_fitted(method, logits, flipped, groups, prior, weight)
    np.testing.assert_array_equal(again[groups == 2], tempered[groups == 2])
    assert (again[groups != 2] != tempered[groups != 2]).any()


def test_folded_coefficients_give_the_calibrated_and_moved_probabilities():
    rng = np.random.default_rng(1)
    coef, intercept, X = rng.normal(size=(3, 5)), rng.normal(size=3), rng.normal(size=(30, 5))
    fitted, stated = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    calibration = Calibration(1.7, np.array([0.3, -0.1, -0.2]))
    calibrated = calibration.probabilities(X @ coef.T + intercept, fitted)
    expected = softmax(np.log(calibrated) + shift(fitted, stated), axis=1)
    new, constant = folded(coef, intercept, calibration=calibration, fitted=fitted, stated=stated)
    np.testing.assert_allclose(softmax(X @ new.T + constant, axis=1), expected, rtol=1e-10)
    nothing = Calibration.none(3)
    same, moved_only = folded(coef, intercept, calibration=nothing, fitted=fitted, stated=stated)
    np.testing.assert_array_equal(same, coef)
    np.testing.assert_allclose(moved_only, intercept + shift(fitted, stated))


def loss_with_bias(theta, logits, y, prior, weight):
    """Log-loss and the normal prior of the biases, written down once more."""
    shown = theta[0] * (logits - np.log(prior)) + theta[1:] + np.log(prior)
    of_truth = log_softmax(shown, axis=1)[np.arange(len(y)), y]
    return -np.average(of_truth, weights=weight) + 0.5 * (theta[1:] ** 2).sum() / len(y)


@pytest.mark.parametrize("uniform", [True, False])
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_bias_corrected_is_that_of_scipy(uniform, seed, n_classes):
    logits, y, prior, weight = case(seed, n_classes=n_classes, uniform=uniform)
    found = fit_calibration(BIAS_CORRECTED, logits, y, prior, weight)
    rows = (logits, y, prior, weight)
    start = np.array([1.0, *[0.0] * n_classes])
    bounds = [(0.01, 100), *[(None, None)] * n_classes]
    expected = minimize(loss_with_bias, start, rows, bounds=bounds, options={"ftol": 1e-14})
    mine = np.array([1 / found.temperature, *found.bias])
    assert found.bias.sum() == pytest.approx(0, abs=1e-9)
    assert loss_with_bias(mine, *rows) <= expected.fun + 1e-9
    np.testing.assert_allclose(mine, expected.x, atol=2e-3)


def test_biases_are_found_again():
    rng = np.random.default_rng(0)
    prior = np.array([0.2, 0.5, 0.3])
    evidence = rng.normal(size=(100_000, 3)) * 2
    proba = softmax(evidence + np.log(prior), axis=1)
    y = (rng.uniform(size=(len(proba), 1)) > proba.cumsum(axis=1)).sum(axis=1)
    bias = np.array([0.4, -0.5, 0.1])
    tampered = 2 * (evidence - bias) + np.log(prior)
    found = fit_calibration(BIAS_CORRECTED, tampered, y, prior, np.ones(len(y)))
    assert found.temperature == pytest.approx(2, rel=0.02)
    np.testing.assert_allclose(found.bias, bias, atol=0.03)
    plain = fit_calibration(TEMPERATURE, tampered, y, prior, np.ones(len(y)))
    losses = [log_loss(y, one.probabilities(tampered, prior)) for one in (found, plain)]
    assert losses[0] < losses[1] - 0.01
    assert not plain.bias.any()


@pytest.mark.parametrize("y", [[0, 1], [1, 0], [0, 0]])
def test_biases_without_an_optimum_are_kept_within_bounds(y):
    logits, even = np.array([[1.0, 0.0], [-1.0, 3.0]]), np.array([0.5, 0.5])
    found = fit_calibration(BIAS_CORRECTED, logits, np.array(y), even, np.ones(2))
    assert 0.01 <= found.temperature <= 100
    assert np.isfinite(found.bias).all()
    nothing = fit_calibration(BIAS_CORRECTED, np.zeros((0, 2)), np.array([], int), even, np.ones(0))
    assert (nothing.temperature, nothing.bias.tolist()) == (1, [0, 0])


def test_uncertainty_is_how_far_fits_lie_apart():
    """Of 400 samples of rows, drawn within their classes, each calibrated anew."""
    rng = np.random.default_rng(3)
    prior, n_rows = np.array([0.2, 0.5, 0.3]), 600
    y = np.repeat([0, 1, 2], [120, 300, 180])
    found, stated = [], []
    for _ in range(400):
        # Clouds of unit variance have their evidence in closed form.
        centres = np.array([[0.0, 1.2], [-1.0, -0.4], [1.0, -0.5]])
        X = centres[y] + rng.normal(size=(n_rows, 2))
        logits = -0.5 * ((X[:, None] - centres) ** 2).sum(axis=2) + np.log(prior)
        fitted = fit_calibration(BIAS_CORRECTED, logits, y, prior, np.ones(n_rows))
        found.append([1 / fitted.temperature, *fitted.bias])
        stated.append(uncertainty(logits, y, prior, np.ones(n_rows)))
    expected, mean = np.cov(np.transpose(found)), np.mean(stated, axis=0)
    np.testing.assert_allclose(np.diag(mean), np.diag(expected), rtol=0.25)
    np.testing.assert_allclose(mean, expected, atol=0.2 * np.diag(expected).max())
    np.testing.assert_allclose(mean[1:].sum(axis=0), 0, atol=1e-9)
