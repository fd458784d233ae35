"""The objective and its solver: raw vectors in, weights on raw vectors out.

For one inverse penalty C, and rows i with weights s_i, vectors x_i and classes y_i, it minimises

    P(W, b) = C * sum_i s_i * -ln softmax(W z_i + b)[y_i]  +  1/2 * ||W||^2,   z = (x - mean) / std

with a free intercept b. Mean and standard deviation are those of the rows that are fitted, without
weights; a constant column counts as having standard deviation 1, and gets no weight. The solution is
folded back, so that it applies to raw vectors: coef = W / std, intercept = b - coef @ mean. This is
scikit-learn's objective; with two classes it penalises their difference, w = W[1] - W[0], by
1/2 * ||w||^2, and so does this.

BERT's dimensions are correlated, which is why first-order methods take hundreds of passes over the
data on them. Here Newton's method takes some steps, each solved by conjugate gradients on products
with the Hessian (Nocedal and Wright, "Numerical Optimization", 2006, section 7.1). A weighted Gram
matrix preconditions them: M = 1 + C * sum_i s_i h_i z_i z_i', the same for all classes, where
h_i = sum_k p_ik (1 - p_ik) / (K - 1) is the mean curvature of the loss. Products with data run in
float32, unless rounding ends the descent: then the gradient, and only it, is computed in float64.

A fit ends by Newton's decrement, which estimates its distance to the optimum. Labels' names, folds and
files are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Rows whose products are summed in float32 before they are added up in float64.
_BLOCK_ROWS = 8192
# Conjugate gradients in a step; a step that needs more than half of them gets a new preconditioner.
_CG_STEPS = 40
# A step is halved until P falls by this share of what its slope promises (Armijo's condition); where it
# must be halved more often, rounding hides the descent.
_ARMIJO = 1e-4
_HALVINGS = 12


@dataclass(frozen=True)
class Solution:
    """Weights on raw vectors, for one C.

    Attributes
    ----------
    C : float
    coef : float64 array (K, D)
    intercept : float64 array (K,)
    iterations : int
        Steps of the solver.
    gap : float
        Newton's decrement over P: an estimate, from above, of (P - min P) / P.
    converged : bool
        Whether `gap` is at most `tol`; False if `max_iter` ended the fit, or rounding did.
    """

    C: float
    coef: Floats
    intercept: Floats
    iterations: int
    gap: float
    converged: bool

    def predict_proba(self, X: npt.NDArray[np.floating[Any]]) -> Floats:
        """Give the probabilities of the classes, (N, K), for raw vectors (N, D)."""
        return softmax(X @ self.coef.T + self.intercept)


def solve_path(
    X: npt.NDArray[np.float32],
    y: npt.NDArray[np.integer[Any]],
    Cs: Sequence[float],
    *,
    n_classes: int,
    sample_weight: Floats | None = None,
    max_iter: int = 1000,
    tol: float = 1e-8,
) -> Iterator[Solution]:
    """Fit one model for each C, each started from the one before.

    Parameters
    ----------
    X : float32 array (N, D)
        Raw vectors; not changed.
    y : int array (N,)
        Classes 0 to K-1.
    Cs : sequence of float
        Inverse penalties; ascending ones start best.
    n_classes : int
        K, at least 2.
    sample_weight : float array (N,), optional
        s_i; default 1.
    max_iter, tol : int, float
        Steps at most, and the `gap` to stop at.
    """
    from threadpoolctl import threadpool_limits  # not needed to read a head

    std, constant = _scale(X)
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    # Around the weighted mean, the intercept and the weights hardly depend on each other.
    center = weight @ X / weight.sum()
    Z = (X - center.astype(np.float32)) / std.astype(np.float32)
    Z[:, constant] = 0.0
    data = _Data(Z, y, weight, n_classes)
    # Column 0 is the intercept, so that weights and gradients are one matrix (K, 1 + D).
    theta = np.zeros((n_classes, 1 + X.shape[1]))
    for C in Cs:
        penalised = C / 2 if n_classes == 2 else C
        # The products are tall and a few columns wide: on them, BLAS loses more by waiting for its
        # threads than it gains, up to twentyfold on a thousand rows.
        with threadpool_limits(1, user_api="blas"):
            theta, steps, gap = _newton(data, theta, penalised, max_iter=max_iter, tol=tol)
        coef = theta[:, 1:] / std
        yield Solution(
            C, coef, theta[:, 0] - coef @ center, steps, float(gap), converged=bool(gap <= tol)
        )


@dataclass(frozen=True)
class _Data:
    """Standardised rows Z (N, D), classes y (N,), weights (N,) and K."""

    Z: npt.NDArray[np.float32]
    y: npt.NDArray[np.integer[Any]]
    weight: Floats
    n_classes: int

    def blocks(self) -> Iterator[slice]:
        for start in range(0, len(self.Z), _BLOCK_ROWS):
            yield slice(start, start + _BLOCK_ROWS)


def _newton(
    data: _Data, theta: Floats, C: float, *, max_iter: int, tol: float
) -> tuple[Floats, int, float]:
    """Minimise P from `theta` on; give the weights, the steps and the gap."""
    dtype: type[np.floating[Any]] = np.float32
    value, gradient, p = _objective(data, theta, C, dtype)
    precondition = _preconditioner(data, p, C)
    gap = previous = float("inf")
    for step in range(1, max_iter + 1):
        direction, cg_steps = _solve(data, p, gradient, C, precondition)
        slope = float((gradient * direction).sum())
        gap = -slope / 2 / value
        if gap <= tol:
            # What Newton's last direction gains is known to be small; it costs nothing to take it.
            return theta + direction, step, gap
        length, slack = 1.0, (1e-7 if dtype is np.float32 else 1e-14) * value
        for _ in range(_HALVINGS):
            trial = _objective(data, theta + length * direction, C, dtype)
            if trial[0] <= value + _ARMIJO * length * slope + slack:
                break
            length /= 2
        stalled = trial[0] > value + slack or (gap < 1e-3 and gap > previous / 2)
        if stalled and dtype is np.float64:
            return theta, step, gap
        if trial[0] <= value + slack:
            theta = theta + length * direction
            value, gradient, p = trial
        previous = gap
        if stalled:
            dtype = np.float64
            value, gradient, p = _objective(data, theta, C, dtype)
        if cg_steps > _CG_STEPS // 2:
            precondition = _preconditioner(data, p, C)
    return theta, max_iter, gap


def _solve(
    data: _Data,
    p: Floats,
    gradient: Floats,
    C: float,
    precondition: Callable[[Floats], Floats],
) -> tuple[Floats, int]:
    """Newton's direction -H^-1 g by preconditioned conjugate gradients, and the steps it took."""
    direction = np.zeros_like(gradient)
    residual = -gradient
    scaled = precondition(residual)
    conjugate = scaled
    norm = first = float((residual * scaled).sum())
    steps = 0
    while steps < _CG_STEPS and norm > 1e-3 * first:
        steps += 1
        product = _hessian_product(data, p, conjugate, C)
        curvature = float((conjugate * product).sum())
        if curvature <= 0:  # rounding, at the end
            break
        direction = direction + norm / curvature * conjugate
        residual = residual - norm / curvature * product
        scaled = precondition(residual)
        norm, before = float((residual * scaled).sum()), norm
        conjugate = scaled + norm / before * conjugate
    return direction, steps


def _objective(
    data: _Data, theta: Floats, C: float, dtype: type[np.floating[Any]]
) -> tuple[float, Floats, Floats]:
    """P, its gradient (K, 1 + D) and the probabilities (N, K), in one pass.

    Products are computed in `dtype`, sums over blocks of rows in float64.
    """
    loss, gradient = 0.0, np.zeros_like(theta)
    p = np.empty((len(data.y), data.n_classes))
    weights = theta[:, 1:].T.astype(dtype)
    for rows in data.blocks():
        block = data.Z[rows].astype(dtype, copy=False)
        logits = (block @ weights).astype(np.float64) + theta[:, 0]
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        total = exponentials.sum(axis=1)
        p[rows] = exponentials / total[:, None]
        at_truth = np.arange(len(block)), data.y[rows]
        loss += data.weight[rows] @ (np.log(total) - logits[at_truth])
        error = p[rows].copy()
        error[at_truth] -= 1
        error *= C * data.weight[rows, None]
        gradient[:, 0] += error.sum(axis=0)
        gradient[:, 1:] += error.T.astype(dtype) @ block
    gradient[:, 1:] += theta[:, 1:]
    return C * loss + 0.5 * float((theta[:, 1:] ** 2).sum()), gradient, p


def _hessian_product(data: _Data, p: Floats, direction: Floats, C: float) -> Floats:
    """The Hessian of P, where the probabilities are `p`, times a direction (K, 1 + D)."""
    product = np.zeros_like(direction)
    weights = direction[:, 1:].T.astype(np.float32)
    for rows in data.blocks():
        change = (data.Z[rows] @ weights).astype(np.float64) + direction[:, 0]
        change -= (p[rows] * change).sum(axis=1, keepdims=True)
        change *= p[rows] * (C * data.weight[rows, None])
        product[:, 0] += change.sum(axis=0)
        product[:, 1:] += change.T.astype(np.float32) @ data.Z[rows]
    product[:, 1:] += direction[:, 1:]
    return product


def _preconditioner(data: _Data, p: Floats, C: float) -> Callable[[Floats], Floats]:
    """Give the function that applies M^-1 to each row of weights, and 1 / curvature to intercepts."""
    from scipy.linalg import cho_factor, cho_solve  # scipy is not needed to read a head

    curvature = data.weight[:, None] * p * (1 - p)
    mean_curvature = (curvature.sum(axis=1) / (data.n_classes - 1)).astype(np.float32)
    matrix = np.zeros((data.Z.shape[1], data.Z.shape[1]))
    for rows in data.blocks():
        scaled = data.Z[rows] * np.sqrt(mean_curvature[rows, None])
        matrix += scaled.T @ scaled
    matrix *= C
    matrix[np.diag_indices_from(matrix)] += 1
    factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    of_intercepts = np.maximum(C * curvature.sum(axis=0), np.finfo(np.float64).tiny)

    def precondition(residual: Floats) -> Floats:
        weights = cho_solve(factor, residual[:, 1:].T, check_finite=False).T
        return np.column_stack([residual[:, 0] / of_intercepts, weights])

    return precondition


def balanced_weights(y: npt.NDArray[np.integer[Any]], n_classes: int) -> Floats:
    """Weigh each row with N / (K * rows of its class), so that all classes count alike."""
    counts = np.bincount(y, minlength=n_classes)
    return np.asarray((len(y) / (n_classes * counts))[y])


def softmax(logits: npt.NDArray[np.floating[Any]]) -> Floats:
    """Turn logits (N, K) into probabilities."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _scale(X: npt.NDArray[np.float32]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Standard deviations of the columns, 1 for constant ones, and which these are; (D,) each."""
    std = X.std(axis=0, dtype=np.float64)
    # A column is constant if what varies in it is rounding of its own size.
    constant = std <= 10 * np.finfo(np.float32).eps * np.abs(X.mean(axis=0, dtype=np.float64))
    return np.where(constant, 1.0, std), constant
