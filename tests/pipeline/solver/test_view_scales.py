import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from stores import blobs

from pipeline.solver.blocks import Rows
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import Problem, prepare, solve
from pipeline.solver.view_scales import _error, _halves, find_view_scales, with_view_scales


def prepared(X, y, scale=None, memory=2**30):
    return prepare(Rows.of(X), y, n_classes=3, memory=memory, scale=scale)


def halves_of(n):
    return np.arange(n) % 2 == 0


@pytest.mark.parametrize("memory", [2**30, 1000])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_a_scale_is_a_fit_of_scaled_columns(C, memory):
    X, y = blobs(300, 8, 3)
    scale = np.repeat([1.0, 0.25, 4.0], [3, 3, 2])
    (found,) = solve(prepared(X, y, scale, memory), [Problem(C, TrainingSet(), 1e-10)])
    scaler = StandardScaler().fit(X.astype(np.float64))
    model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=500)
    model.fit(scaler.transform(X.astype(np.float64)) * scale, y)
    expected = model.predict_proba(scaler.transform(X.astype(np.float64)) * scale)
    np.testing.assert_allclose(found.predict_proba(X), expected, atol=1e-5)


def test_folds_have_the_scale_too():
    """A model of a part of the rows is standardised by them, and scaled as all are."""
    X, y = blobs(300, 8, 3)
    out, scale = np.arange(300) % 3 == 0, np.repeat([1.0, 0.25], 4)
    (found,) = solve(prepared(X, y, scale), [Problem(0.1, TrainingSet(out), 1e-10)])
    scaler = StandardScaler().fit(X[~out].astype(np.float64))
    model = LogisticRegression(C=0.1, solver="newton-cholesky", tol=1e-12, max_iter=500)
    model.fit(scaler.transform(X[~out].astype(np.float64)) * scale, y[~out])
    expected = model.predict_proba(scaler.transform(X[out].astype(np.float64)) * scale)
    np.testing.assert_allclose(np.exp(found.held_out), expected, atol=1e-5)


def test_scales_given_later_are_the_same():
    X, y = blobs(300, 8, 3)
    scales, widths = np.array([1.0, 0.25]), [3, 5]
    given, later = (
        prepared(X, y, np.repeat(scales, widths)),
        with_view_scales(prepared(X, y), scales, widths),
    )
    (a,), (b,) = (solve(data, [Problem(0.1, TrainingSet(), 1e-10)]) for data in (given, later))
    np.testing.assert_allclose(a.coef, b.coef, rtol=1e-4, atol=1e-7)
    assert abs(a.iterations - b.iterations) <= 1
    same = prepared(X, y)
    assert with_view_scales(same, np.ones(2), widths) is same


def test_the_error_is_that_of_ridge_regression_on_the_other_half():
    X, y = blobs(200, 6, 3)
    half, weight = halves_of(200), np.array([1.0, 2.0, 0.5])
    penalty = np.repeat([0.3, 1.2], 3)
    found = _error(_halves(prepared(X, y), half, weight), penalty)
    z = StandardScaler().fit_transform(X.astype(np.float64)) / np.sqrt(penalty)
    truth, total = np.eye(3)[y], 0.0
    for fitted, judged in ((half, ~half), (~half, half)):
        s = weight[y[fitted]]
        model = Ridge(alpha=s.sum()).fit(z[fitted], truth[fitted], sample_weight=s)
        squares = ((model.predict(z[judged]) - truth[judged]) ** 2).sum(axis=1)
        total += np.average(squares, weights=weight[y[judged]])
    assert found == pytest.approx(total, rel=1e-5)


def test_columns_of_noise_are_scaled_down_and_the_order_does_not_matter():
    X, y = blobs(400, 8, 3)
    noise = np.random.default_rng(0).normal(size=(400, 200)).astype(np.float32)
    half = halves_of(400)
    behind = find_view_scales(prepared(np.hstack([X, noise]), y), [8, 200], half, None)
    before = find_view_scales(prepared(np.hstack([noise, X]), y), [200, 8], half, None)
    assert behind[0] == before[0] == 1.0
    assert behind[1] <= 0.25 and before[1] >= 4.0


def test_twins_keep_the_scale_they_have():
    X, y = blobs(400, 8, 3)
    found = find_view_scales(prepared(np.hstack([X, X]), y), [8, 8], halves_of(400), None)
    np.testing.assert_array_equal(found, [1.0, 1.0])


def test_rows_of_one_text_leave_nothing_to_judge_by():
    X, y = blobs(90, 8, 3)
    found = find_view_scales(prepared(X, y), [4, 4], np.ones(90, bool), None)
    np.testing.assert_array_equal(found, [1.0, 1.0])
