import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.bootstrap import Draws, interval, resampled
from pipeline.evaluation.metrics import METRICS, score


def case(seed, n_rows=60, n_classes=3, n_views=3):
    rng = np.random.default_rng(seed)
    y = rng.choice(n_classes, n_rows, p=rng.dirichlet(np.full(n_classes, 2.0)))
    probas = [rng.dirichlet(np.ones(n_classes), n_rows) for _ in range(n_views)]
    for proba in probas[1:]:
        proba[np.arange(n_rows), y] += rng.uniform(0, 0.5)
        proba /= proba.sum(axis=1, keepdims=True)
    return y, probas


@pytest.mark.parametrize("metric", METRICS)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_round_is_the_figure_of_the_drawn_rows(metric, seed):
    """The same rows drawn by hand, one by one, and given to `score`."""
    n_rows = 1 + seed % 70
    y, probas = case(seed, n_rows)
    found = resampled(metric, y, probas, seed=seed, rounds=4)
    order = np.argsort(y, kind="stable")
    rng = np.random.default_rng(seed)
    for row in found:
        drawn = order[rng.integers(0, n_rows, n_rows)]
        expected = [score(metric, y[drawn], proba[drawn]) for proba in probas]
        np.testing.assert_allclose(row, expected, rtol=1e-12)


def test_weights_count_in_the_log_loss():
    y, probas = case(4)
    weight = np.random.default_rng(4).uniform(0.1, 2, len(y))
    found = resampled("log-loss", y, probas, weight=weight, rounds=3)
    order = np.argsort(y, kind="stable")
    rng = np.random.default_rng(0)
    for row in found:
        drawn = order[rng.integers(0, len(y), len(y))]
        expected = [score("log-loss", y[drawn], p[drawn], weight[drawn]) for p in probas]
        np.testing.assert_allclose(row, expected, rtol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_all_are_measured_on_the_same_rows(metric):
    y, probas = case(1)
    found = resampled(metric, y, [probas[0], probas[1], probas[0]], rounds=50)
    np.testing.assert_array_equal(found[:, 0], found[:, 2])
    alone = resampled(metric, y, [probas[1]], rounds=50)
    np.testing.assert_allclose(found[:, 1], alone[:, 0], rtol=1e-12)


def test_blocks_of_rounds_are_one_sequence():
    y, probas = case(2)
    whole = resampled("macro-recall", y, probas, rounds=7)
    in_pairs = resampled("macro-recall", y, probas, rounds=7, most_counts=2 * len(y))
    np.testing.assert_allclose(in_pairs, whole, rtol=1e-12)


def test_pairing_makes_differences_sure():
    """One classifier is the other but for some rows that it gets right: far surer than either."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 2000)
    right = rng.uniform(size=2000) < 0.7
    better = right | (rng.uniform(size=2000) < 0.03)
    probas = [np.eye(2)[np.where(one, y, 1 - y)] for one in (right, better)]
    found = resampled("accuracy", y, probas)
    low, high = interval(found[:, 1] - found[:, 0])
    difference = better.mean() - right.mean()
    assert 0 < low < difference < high
    assert high - low < 0.5 * np.subtract(*interval(found[:, 0])[::-1])
    # The difference of a row is 0 or 1: a proportion, whose standard error is known.
    expected = 2 * 1.96 * np.sqrt(difference * (1 - difference) / 2000)
    assert high - low == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_of_one_text_are_drawn_together(metric):
    """Each row three times over is as sure as the rows by themselves, and no surer."""
    y, probas = case(3)
    once = Draws(np.arange(len(y)), seed=1, rounds=50).figures([metric], y, probas)[metric]
    three = np.tile(np.arange(len(y)) * 7, 3)
    often = Draws(three, seed=1, rounds=50).figures(
        [metric], np.tile(y, 3), [np.tile(proba, (3, 1)) for proba in probas]
    )[metric]
    np.testing.assert_allclose(often, once, rtol=1e-12)


def test_several_figures_are_of_the_same_draws():
    y, probas = case(5)
    found = Draws(seed=2, rounds=20).figures(list(METRICS), y, probas)
    assert list(found) == list(METRICS)
    for metric, figures in found.items():
        np.testing.assert_array_equal(figures, resampled(metric, y, probas, seed=2, rounds=20))
