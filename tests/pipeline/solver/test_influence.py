"""What a row does to a prediction, against fits without it: by scikit-learn, all 200 of them."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from stores import blobs
from test_blocks import in_pieces

from pipeline.solver.blocks import Rows
from pipeline.solver.influence import influence
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import Problem, balanced_weights, prepare, solve


def by_scikit_learn(X, y, x, C, class_weight, scale=None):
    """Logits of x by a fit of these rows, standardised by themselves."""
    scaler = StandardScaler().fit(X)
    scale = np.ones(X.shape[1]) if scale is None else scale
    model = LogisticRegression(
        C=C, solver="newton-cholesky", tol=1e-12, max_iter=500, class_weight=class_weight
    ).fit(scaler.transform(X) * scale, y)
    logits = model.decision_function(scaler.transform(x[None]) * scale)[0]
    return logits if np.ndim(logits) else np.array([-logits / 2, logits / 2])


def both(n_classes, C, balanced, scale=None, rows=Rows.of):
    """What 200 rows do to the first class against the last one: estimated, and refitted."""
    X, y = blobs(200, 12, n_classes, spread=0.7)
    x = blobs(60, 12, n_classes, seed=5)[0][-1].astype(np.float64)
    weights = balanced_weights(y, n_classes) if balanced else None
    training = TrainingSet(None, weights)
    data = prepare(rows(X), y, n_classes=n_classes, memory=2**20, class_weight=weights, scale=scale)
    (solution,) = solve(data, [Problem(C, training, 1e-13)])
    direction = np.zeros(n_classes)
    direction[0], direction[-1] = 1, -1
    estimated = influence(data, training, solution, x, direction)

    X, name = X.astype(np.float64), "balanced" if balanced else None
    whole = direction @ by_scikit_learn(X, y, x, C, name, scale)
    kept = [np.arange(200) != row for row in range(200)]
    refitted = [whole - direction @ by_scikit_learn(X[k], y[k], x, C, name, scale) for k in kept]
    return estimated, np.array(refitted)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0])
def test_rows_are_ranked_as_by_200_refits(n_classes, C, balanced):
    estimated, refitted = both(n_classes, C, balanced)
    assert spearmanr(estimated, refitted).statistic >= 0.99
    if C < 1:  # the largest are about as large as they are said to be
        top = np.argsort(-np.abs(refitted))[:20]
        np.testing.assert_allclose(estimated[top], refitted[top], rtol=0.35)


@pytest.mark.parametrize("balanced", [False, True])
def test_where_p_is_nearly_quadratic_the_estimate_is_the_refit(balanced):
    estimated, refitted = both(3, 1e-3, balanced)
    assert np.abs(estimated - refitted).max() <= 0.06 * np.abs(refitted).max()


def test_scales_of_columns_are_those_of_the_fit():
    scale = np.repeat([1.0, 4.0, 0.25], 4)
    estimated, refitted = both(3, 0.01, True, scale)
    assert spearmanr(estimated, refitted).statistic >= 0.99
    without_scales, _ = both(3, 0.01, True)
    assert np.abs(estimated - without_scales).max() > 0.1 * np.abs(estimated).max()


def test_a_file_gives_what_memory_gives():
    held, _ = both(3, 0.1, True)
    streamed, _ = both(3, 0.1, True, rows=lambda X: in_pieces(X, [7, 30]))
    np.testing.assert_allclose(streamed, held, rtol=1e-6, atol=1e-9)


def test_a_constant_column_has_no_part():
    X, y = blobs(150, 6, 3)
    x = X[0].astype(np.float64)
    training = TrainingSet(None, balanced_weights(y, 3))
    found = []
    for more in (np.zeros((150, 0), np.float32), np.full((150, 1), 7, np.float32)):
        wide = np.hstack([X, more])
        data = prepare(Rows.of(wide), y, n_classes=3, memory=2**20)
        (solution,) = solve(data, [Problem(0.1, training, 1e-13)])
        at = np.append(x, [9.0] * more.shape[1])
        found.append(influence(data, training, solution, at, np.array([1.0, 0.0, -1.0])))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-9)
