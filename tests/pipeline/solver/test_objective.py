import numpy as np
import pytest
from sklearn._loss.loss import HalfMultinomialLoss
from sklearn.linear_model._linear_loss import LinearModelLoss
from sklearn.preprocessing import StandardScaler
from stores import blobs
from test_blocks import in_pieces

from pipeline.solver.blocks import Rows, Workers
from pipeline.solver.centred import centred
from pipeline.solver.objective import Objective, TrainingSet, mean_gram


def objective_of(X, y, n_classes, Cs, training, weight=None, rows=None, memory=2**30):
    weight = np.ones(len(y)) if weight is None else weight
    vectors = centred(rows or Rows.of(X), weight, memory=memory, workers=Workers())
    return Objective(vectors, y, weight, n_classes, Cs, training)


def case(n_classes, n_rows=1300, width=5, seed=0):
    """Rows over more than one block, three training sets, random weights."""
    X, y = blobs(n_rows, width, n_classes, seed=seed)
    X = X.astype(np.float64)
    rng = np.random.default_rng(seed)
    fold = rng.integers(0, 3, n_rows)
    training = [
        TrainingSet(fold == 0, rng.uniform(0.5, 2, n_classes)),
        TrainingSet(None, rng.uniform(0.5, 2, n_classes)),
        TrainingSet(fold == 1),
    ]
    return X, y, rng.uniform(0, 2, n_rows), training


def some_theta(n_models, n_classes, width, seed=1):
    return np.random.default_rng(seed).normal(size=(n_models, n_classes, 1 + width))


def at(objective, theta, dtype=np.float64, scores=None):
    return objective.evaluate(np.arange(len(theta)), theta, dtype, scores)


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_gradient_is_that_of_finite_differences(n_classes):
    X, y, weight, training = case(n_classes)
    objective = objective_of(X, y, n_classes, [0.1, 2.0, 30.0], training, weight)
    theta = some_theta(3, n_classes, X.shape[1])
    gradient = at(objective, theta).gradient
    rng = np.random.default_rng(2)
    for _ in range(5):
        direction = rng.normal(size=theta.shape)
        h = 1e-5
        ahead, behind = (at(objective, theta + sign * h * direction).value for sign in (1, -1))
        slope = (gradient * direction).sum(axis=(1, 2))
        np.testing.assert_allclose((ahead - behind) / (2 * h), slope, rtol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_curvature_is_the_slope_of_the_gradient_in_the_intercepts(n_classes):
    X, y, weight, training = case(n_classes)
    objective = objective_of(X, y, n_classes, [0.1, 2.0, 30.0], training, weight)
    theta = some_theta(3, n_classes, X.shape[1])
    curvature = at(objective, theta).curvature
    for k in range(n_classes):
        step = np.zeros_like(theta)
        step[:, k, 0] = 1e-5
        change = at(objective, theta + step).gradient - at(objective, theta - step).gradient
        np.testing.assert_allclose(change[:, :, 0] / 2e-5, curvature[:, k], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_classes", [3, 4])
def test_value_and_gradient_are_those_of_sklearn(n_classes):
    X, y, weight, training = case(n_classes)
    Cs = [0.1, 2.0, 30.0]
    theta = some_theta(3, n_classes, X.shape[1])
    found = at(objective_of(X, y, n_classes, Cs, training, weight), theta)
    center = np.average(X, axis=0, weights=weight)
    for m, (C, one) in enumerate(zip(Cs, training, strict=True)):
        fitted = np.ones(len(y), bool) if one.held_out is None else ~one.held_out
        s = weight * (1 if one.class_weight is None else one.class_weight[y]) * fitted
        std = StandardScaler().fit(X[fitted], sample_weight=weight[fitted]).scale_
        theirs = LinearModelLoss(HalfMultinomialLoss(n_classes=n_classes), fit_intercept=True)
        coef = np.column_stack([theta[m, :, 1:], theta[m, :, 0]])
        # Theirs is the mean of the loss plus 1/2 alpha ||W||^2.
        total = s.sum()
        value, gradient = theirs.loss_gradient(
            np.asfortranarray(coef),
            (X - center) / std,
            y.astype(np.float64),
            sample_weight=s,
            l2_reg_strength=1 / (C * total),
        )
        np.testing.assert_allclose(found.value[m], C * total * value, rtol=1e-10)
        gradient = C * total * gradient.reshape(n_classes, -1)
        np.testing.assert_allclose(found.gradient[m, :, 1:], gradient[:, :-1], rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(found.gradient[m, :, 0], gradient[:, -1], rtol=1e-7, atol=1e-8)


def test_two_classes_are_half_of_sklearns_objective():
    """With w = W[1] - W[0] and C: P is half of C * sum(log(1 + exp(...))) + 1/2 ||w||^2."""
    X, y, weight, training = case(2)
    theta = some_theta(1, 2, X.shape[1])
    theta[:, 0] = -theta[:, 1]  # as at the optimum
    C = 3.0
    found = at(objective_of(X, y, 2, [C], training[1:2], weight), theta)
    s = weight * training[1].class_weight[y]
    scaler = StandardScaler().fit(X, sample_weight=weight)
    difference = theta[0, 1] - theta[0, 0]
    logit = scaler.transform(X) @ difference[1:] + difference[0]
    value = (
        C * (s * np.logaddexp(0, -(2 * y - 1) * logit)).sum() + 0.5 * (difference[1:] ** 2).sum()
    )
    np.testing.assert_allclose(found.value[0], value / 2, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_models_together_are_models_one_by_one(dtype):
    X, y, weight, training = case(3)
    Cs = [0.1, 2.0, 30.0]
    theta = some_theta(3, 3, X.shape[1])
    objective = objective_of(X, y, 3, Cs, training, weight)
    together = at(objective, theta, dtype)
    rtol = 1e-5 if dtype is np.float32 else 1e-12
    for m in range(3):
        picked = objective.evaluate(np.array([m]), theta[m : m + 1], dtype)
        alone = at(
            objective_of(X, y, 3, Cs[m : m + 1], training[m : m + 1], weight),
            theta[m : m + 1],
            dtype,
        )
        for other in (picked, alone):
            for name in ("value", "gradient", "curvature"):
                a, b = getattr(together, name)[m], getattr(other, name)[0]
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize("width", [5, 600])  # of wide ones, a part of a block is taken at a time
def test_held_out_rows_get_their_scores_and_do_not_count(width):
    X, y, weight, training = case(3, width=width)
    theta = some_theta(3, 3, X.shape[1]) / np.sqrt(width)
    objective = objective_of(X, y, 3, [1.0] * 3, training, weight)
    scores = [np.full((one.n_held_out, 3), np.nan) for one in training]
    before = at(objective, theta, np.float64, scores)
    center = np.average(X, axis=0, weights=weight)
    for m in (0, 2):
        out = training[m].held_out
        std = StandardScaler().fit(X[~out], sample_weight=weight[~out]).scale_
        logits = (X[out] - center) / std @ theta[m, :, 1:].T + theta[m, :, 0]
        proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(np.exp(scores[m]), proba, rtol=1e-7, atol=1e-12)
    # What the labels of the held-out rows say changes nothing of the model that leaves them out.
    other = np.where(training[0].held_out, (y + 1) % 3, y)
    after = at(objective_of(X, other, 3, [1.0] * 3, training, weight), theta)
    assert after.value[0] == before.value[0]
    assert after.value[1] != before.value[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [[1], [100], [1023, 1025], [5000]])
@pytest.mark.parametrize("width", [5, 600])
def test_sums_do_not_depend_on_how_the_rows_are_read(width, sizes, dtype):
    X, y, weight, training = case(3, n_rows=2500, width=width)
    X = X.astype(np.float16)
    theta = some_theta(3, 3, X.shape[1])
    held = at(objective_of(X, y, 3, [0.1, 1, 10], training, weight), theta, dtype)
    streamed = objective_of(X, y, 3, [0.1, 1, 10], training, weight, in_pieces(X, sizes), memory=0)
    assert not streamed.vectors.in_memory
    for name in ("value", "gradient", "curvature"):
        np.testing.assert_array_equal(
            getattr(held, name), getattr(at(streamed, theta, dtype), name)
        )


def test_large_logits_overflow_nothing():
    X, y, _, _ = case(3)
    objective = objective_of(X.astype(np.float32), y, 3, [1.0], [TrainingSet()])
    found = at(objective, 1e4 * some_theta(1, 3, X.shape[1]), np.float32)
    assert np.isfinite(found.value).all()
    assert np.isfinite(found.gradient).all()


def test_gram_is_the_weighted_mean_of_products():
    X, _, weight, _ = case(3, n_rows=3000)
    vectors = centred(Rows.of(X), np.ones(len(X)), memory=2**30, workers=Workers())
    Z = vectors.held * vectors.inverse_scale
    exact = (Z * weight[:, None]).T @ Z / weight.sum()
    # Five columns: a block of rows tells enough, and the others are left out.
    np.testing.assert_allclose(mean_gram(vectors, weight), exact, atol=0.15)
    wide = np.random.default_rng(0).normal(size=(1500, 40))
    vectors = centred(Rows.of(wide), np.ones(1500), memory=2**30, workers=Workers())
    s = weight[:1500]
    Z = vectors.held * vectors.inverse_scale
    exact = (Z * s[:, None]).T @ Z / s.sum()
    np.testing.assert_allclose(mean_gram(vectors, s), exact, rtol=1e-9, atol=1e-12)
