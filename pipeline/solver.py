"""The objective and its solver: standardised vectors in, weights on raw vectors out.

For one inverse penalty C, and rows i with weights s_i, vectors x_i and classes y_i, it minimises

    P(W, b) = C * sum_i s_i * -ln softmax(W z_i + b)[y_i]  +  1/2 * ||W||^2,   z = (x - mean) / std

with a free intercept b. Mean and standard deviation are those of the rows that are fitted, without
weights; a constant column counts as having standard deviation 1, and gets no weight. The solution is
folded back, so that it applies to raw vectors: coef = W / std, intercept = b - coef @ mean.

What is inside is scikit-learn's `LogisticRegression`, with its solver newton-cg: on correlated BERT
dimensions the default, lbfgs, takes hundreds of passes or stops far from the optimum, and
newton-cholesky needs the whole Hessian of K * (D + 1) columns. Labels' names, folds and files are
not here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


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
    converged : bool
        False if `max_iter` ended it.
    """

    C: float
    coef: npt.NDArray[np.float64]
    intercept: npt.NDArray[np.float64]
    iterations: int
    converged: bool

    def predict_proba(self, X: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Give the probabilities of the classes, (N, K), for raw vectors (N, D)."""
        return softmax(X @ self.coef.T + self.intercept)


def solve_path(
    X: npt.NDArray[np.float32],
    y: npt.NDArray[np.integer[Any]],
    Cs: Sequence[float],
    *,
    n_classes: int,
    sample_weight: npt.NDArray[np.float64] | None = None,
    max_iter: int = 1000,
    tol: float = 1e-6,
) -> Iterator[Solution]:
    """Fit one model for each C, each started from the one before.

    Parameters
    ----------
    X : float32 array (N, D)
        Raw vectors; not changed.
    y : int array (N,)
        Classes 0 to K-1, each with rows.
    Cs : sequence of float
        Inverse penalties; ascending ones start best.
    n_classes : int
        K, at least 2.
    sample_weight : float array (N,), optional
        s_i; default 1.
    max_iter, tol : int, float
        Steps at most, and the largest component of the gradient of P / (C * sum s) at the end.
    """
    from sklearn.exceptions import ConvergenceWarning  # scikit-learn takes most of a second
    from sklearn.linear_model import LogisticRegression

    mean, std = _moments(X)
    Z = (X - mean.astype(np.float32)) / std.astype(np.float32)
    model = LogisticRegression(solver="newton-cg", max_iter=max_iter, tol=tol, warm_start=True)
    for C in Cs:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.set_params(C=C).fit(Z, y, sample_weight=sample_weight)
        coef, intercept = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
        if n_classes == 2:  # scikit-learn keeps the difference of the two classes
            coef, intercept = (
                np.vstack([-coef / 2, coef / 2]),
                np.hstack([-intercept / 2, intercept / 2]),
            )
        coef = coef / std
        yield Solution(
            C,
            coef,
            intercept - coef @ mean,
            iterations=int(np.max(model.n_iter_)),
            converged=not any(issubclass(w.category, ConvergenceWarning) for w in caught),
        )


def balanced_weights(y: npt.NDArray[np.integer[Any]], n_classes: int) -> npt.NDArray[np.float64]:
    """Weigh each row with N / (K * rows of its class), so that all classes count alike."""
    counts = np.bincount(y, minlength=n_classes)
    return np.asarray((len(y) / (n_classes * counts))[y])


def softmax(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Turn logits (N, K) into probabilities."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _moments(X: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation of the columns, summed in float64; (D,) each."""
    mean = X.mean(axis=0, dtype=np.float64)
    std = X.std(axis=0, dtype=np.float64)
    # A column is constant if what varies in it is rounding of its own size.
    constant = std <= 10 * np.finfo(np.float32).eps * np.abs(mean)
    return mean, np.where(constant, 1.0, std)
