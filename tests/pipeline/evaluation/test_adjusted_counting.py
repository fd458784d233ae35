import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.adjusted_counting import adjusted_count

# Rows: true classes. Seven of ten are found.
RATES = np.array([[0.7, 0.2, 0.1], [0.15, 0.7, 0.15], [0.1, 0.25, 0.65]])


def test_by_hand_for_two_classes():
    """Forman's formula: (counted - false positive rate) / (true positive rate - the same)."""
    confusion = np.array([[800, 200], [100, 900]])
    for counted in (150, 400, 700):
        found = adjusted_count(np.array([counted, 1000 - counted]), confusion)
        assert found.shares[0] == pytest.approx((counted / 1000 - 0.1) / (0.8 - 0.1), abs=2e-3)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_shares_are_solved_for(seed):
    """Against the linear equations, where their solution has no share below 0."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet([4, 4, 4])
    confusion = (RATES * 100_000).astype(int)
    counts = (true @ RATES * 1_000_000).round().astype(int)
    found = np.array(adjusted_count(counts, confusion, rounds=2).shares)
    expected = np.linalg.solve(RATES.T, counts / counts.sum())
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(found, true, atol=1e-3)


def test_shares_stay_between_0_and_1():
    found = adjusted_count(np.array([990, 5, 5]), (RATES * 1000).astype(int))
    assert found.shares[0] == 1
    assert all(0 <= low <= high <= 1 for low, high in found.intervals)


@pytest.mark.parametrize("points", [0.0, 0.4])
def test_the_true_share_is_inside_the_interval(points):
    """Of rows and of a confusion that are both drawn: in 150 runs, an error of two points."""
    training, true = np.array([0.4, 0.35, 0.25]), np.array([0.4 - points, 0.35, 0.25 + points])
    inside, of_counting = [], []
    for run in range(150):
        rng = np.random.default_rng(run)
        of_class = rng.multinomial(1500, training)
        confusion = np.stack([rng.multinomial(n, p) for n, p in zip(of_class, RATES, strict=True)])
        counts = rng.multinomial(800, true @ RATES)
        found = adjusted_count(counts, confusion, seed=run, rounds=300)
        low, high = np.transpose(found.intervals)
        inside.append((low <= true) & (true <= high))
        of_counting.append(np.abs(counts / 800 - true).max())
    print(points, np.mean(inside), np.mean(of_counting))
    assert np.mean(inside) >= 0.92
    if points:
        assert np.mean(of_counting) > 0.1


def test_more_held_out_rows_make_narrower_intervals():
    counts = np.array([400, 400, 200])
    widths = [
        np.ptp(adjusted_count(counts, (RATES * n).astype(int)).intervals, axis=1)
        for n in (60, 60_000)
    ]
    assert (widths[0] > 1.5 * widths[1]).all()


def test_a_cell_that_was_never_seen_is_no_error():
    found = adjusted_count(np.array([10, 10]), np.array([[5, 0], [0, 5]]))
    assert sum(found.shares) == pytest.approx(1)
