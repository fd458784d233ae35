"""The objective and its solver: raw vectors in, weights on raw vectors out.

For one inverse penalty C, and rows i with weights s_i, vectors x_i and classes y_i, it minimises

    P(W, b) = C * sum_i s_i * -ln softmax(W z_i + b)[y_i]  +  1/2 * ||W||^2,   z = (x - mean) / std

with a free intercept b. Mean and standard deviation are those of the rows that are fitted, without
weights; a constant column counts as having standard deviation 1, and gets no weight. The solution is
folded back, so that it applies to raw vectors: coef = W / std, intercept = b - coef @ mean. This is
scikit-learn's objective; with two classes it penalises their difference, w = W[1] - W[0], by
1/2 * ||w||^2, and so does this.

BERT's dimensions are correlated, which is why gradient methods take hundreds of passes over the data
on them. Here the Gram matrix G = sum_i s_i z_i z_i', gathered in one pass, takes the correlation out:
L-BFGS (scipy's) runs on V = W L, with L L' = 1 + C/4 * G, in which the problem is round. 1/4 bounds
p * (1 - p); Böhning, "Multinomial logistic regression algorithm", 1992, gives the matrix bound.

A fit ends by an estimate of its distance to the optimum: 1/2 * ||dP/dV||^2 is what a Newton step with
the matrix L L' would still gain. Labels' names, folds and files are not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Rows whose products are summed in float32 before they are added up in float64.
_BLOCK_ROWS = 8192
# Corrections that L-BFGS remembers.
_MEMORY = 20


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
        Estimate of (P - min P) / P at these weights.
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
    from scipy.linalg import cholesky  # scipy is not needed to read a head
    from scipy.optimize import minimize

    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    std, constant = _scale(X)
    # Around the weighted mean, the intercept and the weights hardly depend on each other.
    center = weight @ X / weight.sum()
    Z = (X - center.astype(np.float32)) / std.astype(np.float32)
    Z[:, constant] = 0.0
    gram = _gram(Z, weight)
    W, b = np.zeros((n_classes, X.shape[1])), np.zeros(n_classes)
    for C in Cs:
        penalised = C / 2 if n_classes == 2 else C
        lower = cholesky(np.eye(len(gram)) + penalised / 4 * gram, lower=True, check_finite=False)
        problem = _Problem(Z, y, weight, penalised, lower, n_classes)
        iterations = 0
        # Weak penalties let large weights cancel; where rounding in float32 then stops the descent,
        # it is finished in float64.
        for dtype in (np.float32, np.float64):
            result = minimize(
                problem.value_and_gradient,
                problem.pack(W, b),
                args=(dtype,),
                jac=True,
                method="L-BFGS-B",
                callback=partial(problem.stop, tol),
                options={"maxiter": max_iter - iterations, "maxcor": _MEMORY, "ftol": 0, "gtol": 0},
            )
            iterations += int(result.nit)
            W, b = problem.unpack(result.x)
            problem.value_and_gradient(result.x, dtype)
            if problem.gap <= tol or iterations >= max_iter:
                break
        coef = W / std
        yield Solution(
            C, coef, b - coef @ center, iterations, problem.gap, converged=problem.gap <= tol
        )


class _Problem:
    """P for one C as a function of (b, V), and the gap where it was evaluated last."""

    def __init__(
        self,
        Z: npt.NDArray[np.float32],
        y: npt.NDArray[np.integer[Any]],
        weight: Floats,
        C: float,
        lower: Floats,
        n_classes: int,
    ) -> None:
        self._data = Z, y, weight
        self._C, self._lower, self._n_classes = C, lower, n_classes
        self.gap = float("inf")

    def pack(self, W: Floats, b: Floats) -> Floats:
        return np.concatenate([b, (W @ self._lower).ravel()])

    def unpack(self, flat: Floats) -> tuple[Floats, Floats]:
        from scipy.linalg import solve_triangular

        V = flat[self._n_classes :].reshape(self._n_classes, -1)
        W = solve_triangular(self._lower, V.T, lower=True, trans="T", check_finite=False).T
        return W, flat[: self._n_classes]

    def value_and_gradient(
        self, flat: Floats, dtype: type[np.floating[Any]]
    ) -> tuple[float, Floats]:
        from scipy.linalg import solve_triangular

        W, b = self.unpack(flat)
        value, grad_W, grad_b, curvature_b = _objective(*self._data, W, b, self._C, dtype)
        grad_V = solve_triangular(self._lower, grad_W.T, lower=True, check_finite=False).T
        self.gap = float(0.5 * ((grad_V**2).sum() + (grad_b**2 / curvature_b).sum()) / value)
        return value, np.concatenate([grad_b, grad_V.ravel()])

    def stop(self, tol: float, intermediate_result: Any) -> None:
        """Called by scipy after each step."""
        if self.gap <= tol:
            raise StopIteration


def _objective(
    Z: npt.NDArray[np.float32],
    y: npt.NDArray[np.integer[Any]],
    weight: Floats,
    W: Floats,
    b: Floats,
    C: float,
    dtype: type[np.floating[Any]],
) -> tuple[float, Floats, Floats, Floats]:
    """P, its gradients in W (K, D) and b (K,), and its curvature in each b, in one pass.

    Products are computed in `dtype`, sums over blocks of rows in float64.
    """
    weights = W.T.astype(dtype)
    loss, grad_W, grad_b, curvature = 0.0, np.zeros_like(W), np.zeros_like(b), np.zeros_like(b)
    for start in range(0, len(Z), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        block = Z[rows].astype(dtype, copy=False)
        logits = (block @ weights).astype(np.float64) + b
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1)
        p /= total[:, None]
        at_truth = np.arange(len(p)), y[rows]
        loss += weight[rows] @ (np.log(total) - logits[at_truth])
        curvature += weight[rows] @ (p * (1 - p))
        p[at_truth] -= 1
        p *= weight[rows, None]
        grad_W += p.astype(dtype).T @ block
        grad_b += p.sum(axis=0)
    tiny = np.finfo(np.float64).tiny
    value = C * loss + 0.5 * (W**2).sum()
    return value, C * grad_W + W, C * grad_b, np.maximum(C * curvature, tiny)


def _gram(Z: npt.NDArray[np.float32], weight: Floats) -> Floats:
    """sum_i s_i z_i z_i', (D, D)."""
    gram = np.zeros((Z.shape[1], Z.shape[1]))
    root = np.sqrt(weight).astype(np.float32)
    for start in range(0, len(Z), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        scaled = Z[rows] * root[rows, None]
        gram += scaled.T @ scaled
    return gram


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
