import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from features.errors import InputError
from pipeline.head.priors import fitted_prior, importance, parse_prior, shift

LABELS = ["negative", "neutral", "positive"]
ROWS = [10, 30, 60]


def shares(seed, n_classes=3):
    return np.random.default_rng(seed).dirichlet(np.full(n_classes, 2.0)) * 0.98 + 0.02 / n_classes


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("training", [0.1, 0.3, 0.6]),
        ("negative=0.2,neutral=0.5,positive=0.3", [0.2, 0.5, 0.3]),
        ("positive=0.3, neutral=0.5,negative=.2", None),
        ("positive=3,neutral=5,negative=2", [0.2, 0.5, 0.3]),
        ("negative=3972,neutral=5937,positive=2375", [3972 / 12284, 5937 / 12284, 2375 / 12284]),
        ({"neutral": 1, "positive": 1, "negative": 2}, [0.5, 0.25, 0.25]),
    ],
)
def test_priors(prior, expected):
    if expected is None:
        with pytest.raises(InputError, match="' neutral', 'neutral'"):
            parse_prior(prior, LABELS, ROWS)
        return
    np.testing.assert_allclose(parse_prior(prior, LABELS, ROWS), expected, rtol=1e-12)


def test_labels_with_an_equals_sign():
    np.testing.assert_allclose(parse_prior("a=b=1,c=3", ["a=b", "c"], [1, 1]), [0.25, 0.75])


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("", "prior '' can't be read: give uniform, training, or a share for each class"),
        ("Uniform", "prior 'Uniform' can't be read"),
        ("negative=0.2,neutral,positive=0.3", "can't be read"),
        ("negative=0.2,neutral=x,positive=0.3", "can't be read"),
        ("negative=0.2,negative=0.2,neutral=0.3,positive=0.3", "can't be read"),
        ("negative=0.5,neutral=0.5", "differ in 'positive'; give a share for each of negative"),
        ("negative=1,neutral=1,positive=1,angry=1", "differ in 'angry'"),
        ("negative=0,neutral=0.5,positive=0.5", "each must be above 0"),
        ("negative=-1,neutral=0.5,positive=0.5", "each must be above 0"),
        ("negative=nan,neutral=0.5,positive=0.5", "each must be above 0"),
        ("negative=inf,neutral=0.5,positive=0.5", "each must be above 0"),
        ({"negative": 1.0}, "differ in 'neutral', 'positive'"),
    ],
)
def test_what_is_no_prior(prior, message):
    with pytest.raises(InputError, match=message):
        parse_prior(prior, LABELS, ROWS)


def test_what_a_fit_answers_for():
    np.testing.assert_allclose(fitted_prior(ROWS, "balanced"), [1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(fitted_prior(ROWS, "none"), [0.1, 0.3, 0.6])


def moved(proba, old, new):
    """Saerens et al., equation 2.4, on probabilities."""
    weighted = proba * new / old
    return weighted / weighted.sum(axis=1, keepdims=True)


def test_moved_by_hand():
    """Bayes: likelihoods 0.5 and 0.1, priors 1/2 each, then 1/11 and 10/11."""
    proba = np.array([[5 / 6, 1 / 6]])
    even, skewed = np.array([0.5, 0.5]), np.array([1 / 11, 10 / 11])
    expected = [[1 / 3, 2 / 3]]
    np.testing.assert_allclose(moved(proba, even, skewed), expected)
    np.testing.assert_allclose(softmax(np.log(proba) + shift(even, skewed), axis=1), expected)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_moving_is_a_shift_of_logits_and_can_be_undone(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(20, 3)) * 3
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    a, b, c = shares(seed), shares(seed + 1), shares(seed + 2)
    shifted = softmax(logits + shift(a, b), axis=1)
    np.testing.assert_allclose(moved(proba, a, b), shifted, rtol=1e-12)
    np.testing.assert_allclose(moved(moved(proba, a, b), b, a), proba, rtol=1e-10)
    np.testing.assert_allclose(moved(moved(proba, a, b), b, c), moved(proba, a, c), rtol=1e-10)
    np.testing.assert_array_equal(shift(a, a), 0)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_importance_gives_the_classes_their_shares(seed):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.concatenate([np.arange(3), rng.integers(0, 3, 50)]))
    prior = shares(seed)
    weight = importance(y, prior)
    assert weight.mean() == pytest.approx(1)
    np.testing.assert_allclose(np.bincount(y, weight) / len(y), prior, rtol=1e-12)
    np.testing.assert_allclose(importance(y, np.bincount(y) / len(y)), 1, rtol=1e-12)


def test_importance_where_a_class_has_no_rows():
    weight = importance(np.array([0, 0, 2]), np.array([0.2, 0.6, 0.2]))
    np.testing.assert_allclose(weight, [0.75, 0.75, 1.5])


def test_a_moved_classifier_is_the_better_one_on_rows_of_the_other_prior():
    """Two clouds, true posterior: on rows of another prior, only the moved one is calibrated."""
    from pipeline.evaluation.metrics import measure

    rng = np.random.default_rng(0)
    old, new = np.array([0.8, 0.2]), np.array([0.2, 0.8])
    y = (rng.uniform(size=50_000) < new[1]).astype(int)
    x = rng.normal(size=50_000) + 2 * y
    odds = np.exp(2 * x - 2) * old[1] / old[0]  # of class 1
    proba = np.column_stack([1 / (1 + odds), odds / (1 + odds)])
    plain, right = measure(y, proba, "ab"), measure(y, moved(proba, old, new), "ab")
    assert plain.calibration_error > 0.05
    assert right.calibration_error < 0.01
    assert right.log_loss < plain.log_loss
    # And by importance weights the same rows speak for the prior that they were scored for.
    assert measure(y, proba, "ab", weight=importance(y, old)).calibration_error < 0.015
