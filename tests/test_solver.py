import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from stores import blobs

from pipeline.solver import balanced_weights, softmax, solve_path

CS = (1e-4, 1e-2, 1.0, 100.0)


def reference(X, y, C, class_weight=None):
    """A fit by hand: scikit-learn, exact Hessians, float64, on standardised vectors."""
    scaler = StandardScaler().fit(X.astype(np.float64))
    model = LogisticRegression(
        C=C, solver="newton-cholesky", tol=1e-10, max_iter=500, class_weight=class_weight
    )
    return scaler, model.fit(scaler.transform(X.astype(np.float64)), y)


def folded_back(scaler, model):
    """Weights on raw vectors, one row a class."""
    coef, intercept = model.coef_, model.intercept_
    if len(coef) == 1:
        coef, intercept = np.vstack([-coef, coef]) / 2, np.hstack([-intercept, intercept]) / 2
    coef = coef / scaler.scale_
    return coef, intercept - coef @ scaler.mean_


def objective(X, y, weight, C, coef, intercept):
    """P of `pipeline/solver.py`, in float64; scikit-learn's binary penalty is on the difference."""
    X = X.astype(np.float64)
    scale = StandardScaler().fit(X).scale_
    logits = X @ coef.T + intercept
    top = logits.max(axis=1)
    loss = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - logits[np.arange(len(y)), y]
    W = coef * scale
    penalised = W if len(W) > 2 else W[1:] - W[:1]
    return C * (weight * loss).sum() + (penalised**2).sum() / 2


def weights_for(y, n_classes, balanced):
    return balanced_weights(y, n_classes) if balanced else None


def wide():
    """More columns than rows."""
    return blobs(60, 90, 3, seed=2)


def with_constant_columns():
    """Columns that hold one value; 0.1 is not exact, so its mean is off by rounding."""
    X, y = blobs(200, 10, 3, seed=3)
    X[:, 2], X[:, 5], X[:, 8] = 0.0, np.float32(0.1), 4096.0
    return X, y


def correlated():
    """As BERT's dimensions: a few directions carry most of the variance."""
    X, y = blobs(300, 30, 3, seed=4)
    mix = np.random.default_rng(5).normal(size=(30, 30)) * np.geomspace(1, 1e-3, 30)[:, None]
    return (X @ mix).astype(np.float16).astype(np.float32), y


def separable():
    return blobs(90, 6, 3, seed=6, spread=12.0)


CASES = {
    "K=2": lambda: blobs(200, 12, 2),
    "K=3": lambda: blobs(250, 12, 3),
    "K=7": lambda: blobs(400, 12, 7),
    "D > N": wide,
    "constant columns": with_constant_columns,
    "correlated": correlated,
    "separable": separable,
}


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_path_is_the_optimum_that_sklearn_finds(case, balanced):
    X, y = CASES[case]()
    n_classes = y.max() + 1
    weight = weights_for(y, n_classes, balanced)
    solutions = list(solve_path(X, y, CS, n_classes=n_classes, sample_weight=weight))
    assert [solution.C for solution in solutions] == list(CS)
    for C, solution in zip(CS, solutions, strict=True):
        scaler, model = reference(X, y, C, "balanced" if balanced else None)
        exact = model.predict_proba(scaler.transform(X.astype(np.float64)))
        proba = solution.predict_proba(X)
        assert solution.converged
        assert np.abs(proba.sum(axis=1) - 1).max() < 1e-12
        assert np.abs(proba - exact).max() <= 1e-3, C
        s = np.ones(len(y)) if weight is None else weight
        best = objective(X, y, s, C, *folded_back(scaler, model))
        ours = objective(X, y, s, C, solution.coef, solution.intercept)
        assert (ours - best) / best <= 1e-5, C


def test_input_is_not_changed():
    X, y = blobs()
    before = X.copy()
    list(solve_path(X, y, [1.0], n_classes=3))
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("balanced", [False, True])
def test_each_model_of_a_path_equals_a_single_fit(balanced):
    X, y = blobs(250, 20, 3, seed=8)
    weight = weights_for(y, 3, balanced)
    path = solve_path(X, y, CS, n_classes=3, sample_weight=weight)
    for solution in path:
        (alone,) = solve_path(X, y, [solution.C], n_classes=3, sample_weight=weight)
        difference = np.abs(solution.predict_proba(X) - alone.predict_proba(X)).max()
        assert difference <= 1e-3, solution.C


def test_constant_columns_get_no_weight():
    X, y = with_constant_columns()
    for solution in solve_path(X, y, CS, n_classes=3):
        assert np.isfinite(solution.coef).all()
        assert np.isfinite(solution.intercept).all()
        assert np.abs(solution.coef[:, [2, 5, 8]]).max() < 1e-9, solution.C


def test_rescaled_columns_change_nothing():
    # Powers of two, which float32 multiplies by without rounding.
    X, y = blobs(200, 10, 3)
    scales = 2.0 ** np.arange(-5, 5, dtype=np.float32)
    (plain,) = solve_path(X, y, [0.1], n_classes=3)
    (scaled,) = solve_path(X * scales, y, [0.1], n_classes=3)
    np.testing.assert_allclose(
        plain.predict_proba(X), scaled.predict_proba(X * scales), atol=1e-4, rtol=0
    )


def test_max_iter_that_ends_the_fit_is_said():
    X, y = blobs(300, 20, 3)
    (short,) = solve_path(X, y, [10.0], n_classes=3, max_iter=1)
    assert not short.converged
    assert short.iterations == 1
    (full,) = solve_path(X, y, [10.0], n_classes=3)
    assert full.converged
    assert full.iterations > 1


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_balanced_weights_are_those_of_sklearn(n_classes):
    _, y = blobs(333, 2, n_classes)
    np.testing.assert_allclose(balanced_weights(y, n_classes), compute_sample_weight("balanced", y))


def test_softmax_of_large_logits():
    proba = softmax(np.array([[1e4, 0.0, -1e4], [-2e4, -2e4, -2e4]]))
    np.testing.assert_allclose(proba, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
