import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.mixture import likeliest_shares


def case(seed, *, n_rows=60, n_classes=3, sharp=1.5):
    """Ratios of rows from a mixture, some of whose classes may be missing."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(n_classes, 0.7))
    y = rng.choice(n_classes, n_rows, p=shares)
    evidence = rng.normal(size=(n_rows, n_classes))
    evidence[np.arange(n_rows), y] += sharp
    return np.exp(evidence)


def by_plain_em(ratios, weight, steps=200_000):
    """Equation (2.9) of Saerens et al., as it stands."""
    shares = np.full(ratios.shape[1], 1 / ratios.shape[1])
    for _ in range(steps):
        posterior = shares * ratios
        posterior /= posterior.sum(axis=1, keepdims=True)
        new = weight @ posterior
        if np.abs(new - shares).max() < 1e-12:
            break
        shares = new
    return shares


def solved(*mixtures, weight=None):
    """Give the shares in mixtures (N, K), which the solver takes by class."""
    ratios = np.stack(mixtures).transpose(2, 0, 1)
    return likeliest_shares(ratios, None if weight is None else np.asarray(weight)[None])


def log_likelihood(ratios, weight, shares):
    return weight @ np.log(ratios @ shares)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(0.5, 4))
def test_shares_are_those_of_plain_em(seed, n_classes, sharp):
    ratios = case(seed, n_classes=n_classes, sharp=sharp)
    weight = np.random.default_rng(seed).dirichlet(np.ones(len(ratios)))
    found = solved(ratios, weight=weight)[0]
    expected = by_plain_em(ratios, weight, 20_000)
    assert found.sum() == pytest.approx(1, abs=1e-7)
    assert (found >= 0).all()
    gap = log_likelihood(ratios, weight, expected) - log_likelihood(ratios, weight, found)
    assert gap <= 1e-6
    np.testing.assert_allclose(found, expected, atol=2e-3)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_no_other_shares_are_likelier(seed, n_classes):
    """The conditions of Karush, Kuhn and Tucker, which are enough for a concave function."""
    ratios = case(seed, n_classes=n_classes)
    shares = solved(ratios)[0]
    slope = (ratios / (ratios @ shares)[:, None]).mean(axis=0)
    assert slope.max() <= 1 + 1e-6
    np.testing.assert_allclose(slope[shares > 1e-6], 1, atol=1e-5)


def test_many_mixtures_are_solved_as_each_alone():
    mixtures = [case(seed) for seed in range(7)]
    together = solved(*mixtures)
    alone = np.concatenate([solved(one) for one in mixtures])
    np.testing.assert_allclose(together, alone, atol=1e-7)


def test_a_weight_of_two_is_two_rows():
    ratios = case(3, n_rows=10)
    times = np.arange(1, 11)
    repeated = np.repeat(ratios, times, axis=0)
    np.testing.assert_allclose(
        solved(ratios, weight=times / times.sum()),
        solved(repeated),
        atol=1e-8,
    )


def test_factors_of_rows_do_not_matter():
    ratios = case(4)
    factor = np.random.default_rng(0).uniform(1e-3, 1e3, (len(ratios), 1))
    np.testing.assert_allclose(solved(ratios), solved(factor * ratios), atol=1e-8)


def test_by_hand():
    """Rows of two kinds, 3 : 1 for the first class and 1 : 3: half of each, the shares are even."""
    kinds = np.array([[3.0, 1.0], [1.0, 3.0]])
    for weight, expected in (
        ([0.5, 0.5], [0.5, 0.5]),
        ([0.6, 0.4], [0.7, 0.3]),  # 0.75 q + 0.25 (1 - q) = 0.6
        ([0.9, 0.1], [1.0, 0.0]),  # beyond what any shares give
    ):
        found = solved(kinds, weight=weight)[0]
        np.testing.assert_allclose(found, expected, atol=1e-7)


def test_classes_that_look_alike_are_no_error():
    ratios = np.repeat(case(5, n_classes=2), 2, axis=1)
    shares = solved(ratios)[0]
    two = solved(ratios[:, [0, 2]])[0]
    np.testing.assert_allclose([shares[:2].sum(), shares[2:].sum()], two, atol=1e-4)
    np.testing.assert_allclose(solved(np.ones((9, 3))), [[1 / 3] * 3])


def test_a_guess_changes_the_way_alone():
    ratios = case(6).T[:, None]
    for start in ([0.98, 0.01, 0.01], [0.0, 0.0, 1.0]):
        np.testing.assert_allclose(
            likeliest_shares(ratios, start=np.array(start)), likeliest_shares(ratios), atol=1e-6
        )


def test_a_class_that_nothing_speaks_for_has_no_share():
    rows = np.array([[1.0, 1e-9, 1e-300]] * 5 + [[1e-9, 1.0, 1e-300]] * 15)
    np.testing.assert_allclose(solved(rows)[0], [0.25, 0.75, 0], atol=1e-6)
