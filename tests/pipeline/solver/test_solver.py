import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from stores import blobs
from test_blocks import in_pieces

from pipeline.solver.blocks import Rows
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import (
    Problem,
    balanced_weights,
    in_two,
    prepare,
    softmax,
    solve,
    solve_grid,
)

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
    """P of `pipeline/solver/solve.py`, in float64; of two classes their difference is penalised."""
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


def solve_all(X, y, Cs, *, class_weight=None, sample_weight=None, tol=1e-6, max_iter=1000):
    """Solutions for some C on all rows, solved together."""
    data = prepare(
        Rows.of(X), y, n_classes=int(y.max()) + 1, memory=2**30, sample_weight=sample_weight
    )
    training = TrainingSet(None, class_weight)
    return solve(data, [Problem(C, training, tol) for C in Cs], max_iter=max_iter)


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


def collinear():
    """Columns that are sums and copies of others."""
    X, y = blobs(200, 8, 3, seed=7)
    return np.hstack([X, X[:, :3], X[:, :4] + X[:, 4:]]), y


def separable():
    return blobs(90, 6, 3, seed=6, spread=12.0)


def one_row_classes():
    X, y = blobs(150, 6, 3)
    return np.vstack([X, X[:2] + 3]), np.append(y, [3, 4])


def every_row_a_class():
    X, _ = blobs(40, 6, 3)
    return X, np.random.default_rng(0).permutation(40)


def several_blocks():
    return blobs(2500, 12, 3)


CASES = {
    "K=2": lambda: blobs(200, 12, 2),
    "K=3": lambda: blobs(250, 12, 3),
    "K=7": lambda: blobs(400, 12, 7),
    "several blocks": several_blocks,
    "D > N": wide,
    "constant columns": with_constant_columns,
    "collinear columns": collinear,
    "correlated": correlated,
    "separable": separable,
    "one-row classes": one_row_classes,
    "N=K": every_row_a_class,
}


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_solutions_are_the_optima_that_sklearn_finds(case, balanced):
    X, y = CASES[case]()
    n_classes = y.max() + 1
    weight = weights_for(y, n_classes, balanced)
    solutions = solve_all(X, y, CS, class_weight=weight, tol=1e-11)
    assert [solution.C for solution in solutions] == list(CS)
    for C, solution in zip(CS, solutions, strict=True):
        scaler, model = reference(X, y, C, "balanced" if balanced else None)
        exact = model.predict_proba(scaler.transform(X.astype(np.float64)))
        proba = solution.predict_proba(X)
        assert solution.converged
        assert np.abs(proba.sum(axis=1) - 1).max() < 1e-12
        assert np.abs(proba - exact).max() <= 1e-5, C
        s = np.ones(len(y)) if weight is None else weight[y]
        best = objective(X, y, s, C, *folded_back(scaler, model))
        ours = objective(X, y, s, C, solution.coef, solution.intercept)
        assert abs(ours - best) / best <= 1e-9, C


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("case", CASES)
def test_the_certificate_holds(case, tol):
    """What is left to the optimum is never more than it says."""
    X, y = CASES[case]()
    for C, solution in zip(CS, solve_all(X, y, CS, tol=tol), strict=True):
        best = objective(X, y, np.ones(len(y)), C, *folded_back(*reference(X, y, C)))
        ours = objective(X, y, np.ones(len(y)), C, solution.coef, solution.intercept)
        assert solution.gap <= tol
        assert (ours - best) / ours <= solution.gap + 1e-12, C


@pytest.mark.parametrize("n_classes", [100, 1000])
def test_many_classes(n_classes):
    rng = np.random.default_rng(0)
    y = np.append(np.arange(n_classes), rng.integers(0, n_classes, n_classes))
    X = (rng.normal(size=(n_classes, 8))[y] + rng.normal(size=(len(y), 8))).astype(np.float32)
    (solution,) = solve_all(X, y, [0.1])
    assert solution.converged
    assert solution.coef.shape == (n_classes, 8)
    # The gradient by hand, in float64: it is that of the optimum, up to the certificate.
    scaler = StandardScaler().fit(X.astype(np.float64))
    error = solution.predict_proba(X.astype(np.float64)) - np.eye(n_classes)[y]
    gradient = (
        0.1 * error.T @ scaler.transform(X.astype(np.float64)) + solution.coef * scaler.scale_
    )
    P = objective(X, y, np.ones(len(y)), 0.1, solution.coef, solution.intercept)
    assert 0.5 * (gradient**2).sum() / P <= 1.01e-6
    assert np.abs(error.sum(axis=0)).max() <= 1e-3


def folds_of(y, n_folds=4):
    return np.random.default_rng(9).permutation(len(y)) % n_folds


@pytest.mark.parametrize("case", ["K=2", "K=3", "several blocks", "correlated", "constant columns"])
def test_folds_are_fits_made_one_by_one(case):
    X, y = CASES[case]()
    folds, n_classes = folds_of(y), int(y.max()) + 1
    training = [
        TrainingSet(folds == f, balanced_weights(y[folds != f], n_classes)) for f in range(4)
    ]
    data = prepare(Rows.of(X), y, n_classes=n_classes, memory=2**30)
    problems = [Problem(C, one, 1e-11) for C in CS for one in training]
    for problem, solution in zip(problems, solve(data, problems), strict=True):
        out = problem.training.held_out
        (alone,) = solve_all(
            X[~out], y[~out], [problem.C], class_weight=problem.training.class_weight, tol=1e-11
        )
        assert solution.converged
        assert alone.converged
        expected = alone.predict_proba(X[out])
        # Each is within its own certificate of the optimum: two of them lie between.
        assert np.abs(solution.predict_proba(X[out]) - expected).max() <= 3e-5
        # The scores that come along are those of the solution.
        assert solution.held_out.shape == expected.shape
        assert np.abs(np.exp(solution.held_out) - solution.predict_proba(X[out])).max() <= 1e-6
        s = problem.training.class_weight[y[~out]]
        P, Q = (
            objective(X[~out], y[~out], s, problem.C, one.coef, one.intercept)
            for one in (solution, alone)
        )
        assert pytest.approx(Q, rel=1e-9) == P


def test_a_column_that_is_constant_outside_of_a_fold():
    X, y = blobs(200, 5, 3)
    out = np.arange(200) < 40
    X[:, 2] = np.where(out, X[:, 2], 7.0)
    data = prepare(Rows.of(X), y, n_classes=3, memory=2**30)
    (solution,) = solve(data, [Problem(1.0, TrainingSet(out))])
    assert np.abs(solution.coef[:, 2]).max() == 0
    (alone,) = solve_all(X[~out], y[~out], [1.0])
    assert np.abs(np.exp(solution.held_out) - alone.predict_proba(X[out])).max() <= 1e-3


def test_a_class_that_only_a_fold_has_is_never_predicted():
    X, y = blobs(200, 5, 3)
    out = y == 2
    data = prepare(Rows.of(X), y, n_classes=3, memory=2**30)
    (solution,) = solve(data, [Problem(1.0, TrainingSet(out, balanced_weights(y[~out], 3)))])
    assert solution.converged
    assert solution.held_out[:, 2].max() < -100
    (two,) = solve_all(X[~out], y[~out], [2.0], class_weight=balanced_weights(y[~out], 2) * 2 / 3)
    # With two classes C counts twice, so 2 C is C for three.
    assert np.abs(np.exp(solution.held_out[:, :2]) - two.predict_proba(X[out])).max() <= 1e-2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_weights_are_copies_of_rows(dtype):
    X, y = blobs(1200, 8, 3)
    X = X.astype(dtype)
    weight = np.random.default_rng(0).integers(0, 4, len(y))
    (weighted,) = solve_all(X, y, [0.5], sample_weight=weight, tol=1e-12)
    (repeated,) = solve_all(X.repeat(weight, axis=0), y.repeat(weight), [0.5], tol=1e-12)
    assert np.abs(weighted.predict_proba(X) - repeated.predict_proba(X)).max() <= 1e-5


def test_class_weights_are_weights_of_their_rows():
    X, y = blobs(300, 8, 3)
    of_class = np.array([0.5, 3.0, 1.25])
    (ours,) = solve_all(X, y, [0.5], class_weight=of_class, tol=1e-10)
    scaler = StandardScaler().fit(X.astype(np.float64))
    model = LogisticRegression(
        C=0.5, solver="newton-cholesky", tol=1e-10, class_weight=dict(enumerate(of_class))
    ).fit(scaler.transform(X.astype(np.float64)), y)
    exact = model.predict_proba(scaler.transform(X.astype(np.float64)))
    assert np.abs(ours.predict_proba(X) - exact).max() <= 1e-5


@pytest.mark.parametrize("sizes", [[1], [333], [1025, 17], [10_000]])
def test_memory_and_blocks_of_any_size_give_the_same(sizes):
    X, y = blobs(3000, 10, 3)
    X, folds = X.astype(np.float16), folds_of(y)
    problems = [Problem(C, t) for C in CS for t in (TrainingSet(), TrainingSet(folds == 0))]
    held = prepare(Rows.of(X), y, n_classes=3, memory=2**30)
    streamed = prepare(in_pieces(X, sizes), y, n_classes=3, memory=1000)
    assert held.vectors.in_memory
    assert not streamed.vectors.in_memory
    for one, other in zip(solve(held, problems), solve(streamed, problems), strict=True):
        np.testing.assert_array_equal(one.coef, other.coef)
        np.testing.assert_array_equal(one.held_out, other.held_out)
        assert one.gap == other.gap


def test_threads_change_nothing(monkeypatch):
    X, y = blobs(3000, 10, 3)
    found = []
    for count in (1, 2, 5):
        data = prepare(Rows.of(X), y, n_classes=3, memory=2**30)
        data.vectors.workers.count = count
        found.append(solve(data, [Problem(C, TrainingSet()) for C in CS]))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a.coef, b.coef, rtol=1e-11, atol=1e-12)


def test_more_models_than_are_solved_at_once():
    X, y = blobs(200, 4, 7)
    Cs = np.geomspace(1e-3, 10, 200)
    for C, solution in zip(Cs, solve_all(X, y, Cs), strict=True):
        assert solution.C == C
        assert solution.converged


def test_a_start_near_the_optimum_saves_passes():
    X, y = correlated()
    cold, near = solve_all(X, y, [1.0, 0.9])
    data = prepare(Rows.of(X), y, n_classes=3, memory=2**30)
    problem = Problem(1.0, TrainingSet(), start=near)
    (warm,) = solve(data, [problem])
    assert warm.iterations < cold.iterations
    assert np.abs(warm.predict_proba(X) - cold.predict_proba(X)).max() <= 1e-3
    again = solve(data, [Problem(1.0, TrainingSet(), start=warm)])[0]
    assert again.iterations <= 3


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 13, 20])
def test_a_grid_gives_what_its_problems_give(n):
    X, y = correlated()
    grid = np.geomspace(1e-3, 1, n).tolist()
    out = np.random.default_rng(0).random(len(y)) < 0.2
    training = [TrainingSet(out), TrainingSet()]
    data = prepare(Rows.of(X), y, n_classes=3, memory=2**30)
    found = solve_grid(data, grid, training, tol=1e-11)
    each = solve(data, [Problem(C, one, 1e-11) for C in grid for one in training])
    assert len(found) == len(each) == 2 * n
    for one, other in zip(found, each, strict=True):
        assert one.C == other.C and one.converged
        assert np.abs(one.predict_proba(X) - other.predict_proba(X)).max() <= 1e-5
        np.testing.assert_allclose(np.exp(one.held_out), np.exp(other.held_out), rtol=0, atol=1e-5)


def test_most_of_a_grid_costs_few_passes():
    X, y = correlated()
    grid = np.geomspace(1e-3, 1, 13).tolist()
    data = prepare(Rows.of(X), y, n_classes=3, memory=2**30)
    found = solve_grid(data, grid, [TrainingSet()], tol=1e-3)
    each = solve(data, [Problem(C, TrainingSet(), 1e-3) for C in grid])
    first, rest = in_two(13)
    assert all(found[n].iterations == each[n].iterations for n in first)
    assert all(found[n].iterations < each[n].iterations for n in rest)


@given(st.integers(1, 200))
def test_a_grid_is_cut_in_two(n):
    parts = in_two(n)
    assert sorted(itertools.chain(*parts)) == list(range(n))
    assert {0, n - 1} <= set(parts[0])
    assert all(parts)


def test_an_unreachable_tolerance_is_said():
    X, y = correlated()
    (solution,) = solve_all(X, y, [1.0], tol=1e-40)
    assert not solution.converged
    assert solution.gap < 1e-15
    assert solution.iterations < 1000


def test_input_is_not_changed():
    X, y = blobs()
    before = X.copy()
    solve_all(X, y, [1.0])
    np.testing.assert_array_equal(X, before)


def test_constant_columns_get_no_weight():
    X, y = with_constant_columns()
    for solution in solve_all(X, y, CS):
        assert np.isfinite(solution.coef).all()
        assert np.isfinite(solution.intercept).all()
        assert np.abs(solution.coef[:, [2, 5, 8]]).max() < 1e-9, solution.C


def test_rescaled_columns_change_nothing():
    # Powers of two, which float32 multiplies by without rounding.
    X, y = blobs(200, 10, 3)
    scales = 2.0 ** np.arange(-5, 5, dtype=np.float32)
    (plain,) = solve_all(X, y, [0.1])
    (scaled,) = solve_all(X * scales, y, [0.1])
    np.testing.assert_allclose(
        plain.predict_proba(X), scaled.predict_proba(X * scales), atol=1e-4, rtol=0
    )


def test_max_iter_that_ends_the_fit_is_said():
    X, y = blobs(300, 20, 3)
    (short,) = solve_all(X, y, [10.0], max_iter=1)
    assert not short.converged
    assert short.iterations == 1
    (full,) = solve_all(X, y, [10.0])
    assert full.converged
    assert full.iterations > 1


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_balanced_weights_are_those_of_sklearn(n_classes):
    _, y = blobs(333, 2, n_classes)
    np.testing.assert_allclose(
        balanced_weights(y, n_classes)[y], compute_sample_weight("balanced", y)
    )


def test_softmax_of_large_logits():
    proba = softmax(np.array([[1e4, 0.0, -1e4], [-2e4, -2e4, -2e4]]))
    np.testing.assert_allclose(proba, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [1, 2, 3, 7, 8, 9, 20, 130])
def test_softmax_has_the_bits_of_its_formula(n_classes, dtype):
    """However few or many classes there are, and wherever rows are taken some at a time."""
    logits = (np.random.default_rng(0).normal(size=(9001, n_classes)) * 5).astype(dtype)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = weights / weights.sum(axis=1, keepdims=True)
    assert softmax(logits).dtype == dtype
    assert softmax(logits).tobytes() == expected.tobytes()
    assert softmax(logits[:0]).shape == (0, n_classes)
