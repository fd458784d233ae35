"""Offer the solver as a scikit-learn classifier: arrays or an HDF5 dataset in, labels out.

It knows nothing of tweets, feature stores or heads; `pipeline/fit.py` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from features.base.arrays import Floats
from features.base.machine import default_memory, parse_memory
from pipeline.solver import blas
from pipeline.solver.blocks import Rows
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import Problem, balanced_weights, prepare, softmax, solve


class MultinomialLogisticRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Multinomial logistic regression on standardised columns, with a certificate.

    The objective is that of `StandardScaler` and `LogisticRegression(C=C)` in a pipeline, minimised
    by `pipeline/solver/solve.py`; the standardisation is folded into the coefficients, which apply
    to the columns as they are.

    Parameters
    ----------
    C : float
        Inverse of the L2 penalty.
    class_weight : None, "balanced" or dict
        As for `LogisticRegression`.
    max_iter : int
        Passes over the data at most.
    tol : float
        The fit ends where the objective is certified to be within this of its minimum, relatively.
    memory : int or str, optional
        Bytes of vectors to hold, e.g. `2GiB`; default a quarter of the memory that is free. An HDF5
        dataset that takes more is read anew in each pass.

    Attributes
    ----------
    classes_ : array (K,)
    coef_ : float64 array (K, D), or (1, D) with two classes
    intercept_ : float64 array (K,), or (1,)
    n_iter_ : int
        Passes over the data.
    gap_ : float
        The certificate: at most this is between the objective and its minimum, relatively.
    converged_ : bool
        Whether `gap_` is at most `tol`.
    n_features_in_ : int

    Notes
    -----
    float64 arrays are computed in float64, as everywhere in scikit-learn; float32 and float16 ones
    in float32 until rounding ends that, which takes half of the memory.

    Examples
    --------
    >>> from pipeline import MultinomialLogisticRegression
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MultinomialLogisticRegression().fit(X, y)
    >>> model.gap_ <= 1e-6, model.score(X, y) > 0.95
    (True, True)
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        class_weight: str | dict[Any, float] | None = None,
        max_iter: int = 1000,
        tol: float = 1e-6,
        memory: int | str | None = None,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.tol = tol
        self.memory = memory

    @blas.one_thread()
    def fit(
        self, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None
    ) -> MultinomialLogisticRegression:
        """Fit the model.

        Parameters
        ----------
        X : array or HDF5 dataset (N, D)
            A dataset stays in its file where it does not fit into `memory`.
        y : array (N,)
            Labels of at least two classes.
        sample_weight : array (N,), optional
            A row of weight 2 counts as two rows.
        """
        for name in ("C", "max_iter", "tol"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be above 0")
        if _in_a_file(X):
            y = column_or_1d(y, warn=True)
            if len(y) != X.shape[0]:
                raise ValueError(f"X has {X.shape[0]} rows, y has {len(y)}")
            self.n_features_in_ = int(X.shape[1])
        else:
            X, y = validate_data(self, X, y, dtype=[np.float64, np.float32, np.float16])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes < 2:
            raise ValueError(
                f"y has one class only, {self.classes_[0]!r}; a classifier needs at least two"
            )
        weight = _check_sample_weight(
            sample_weight, codes, dtype=np.float64, ensure_non_negative=True
        )
        if np.count_nonzero(np.bincount(codes, weight)) < 2:
            raise ValueError("fewer than two classes have rows of a weight above 0")
        of_class: Floats = (
            balanced_weights(codes, n_classes, weight)
            if self.class_weight == "balanced"
            else compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        )
        data = prepare(
            Rows.of(X),
            codes,
            n_classes=n_classes,
            memory=default_memory() if self.memory is None else parse_memory(self.memory),
            sample_weight=weight,
            class_weight=of_class,
        )
        problem = Problem(self.C, TrainingSet(None, of_class), self.tol)
        (solution,) = solve(data, [problem], max_iter=self.max_iter)
        coef, intercept = solution.coef, solution.intercept
        if n_classes == 2:  # as scikit-learn does, the difference of the two
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.coef_, self.intercept_ = coef, intercept
        self.n_iter_, self.gap_ = solution.iterations, solution.gap
        self.converged_ = solution.converged
        return self

    def decision_function(self, X: Any) -> Floats:
        """Give the logits, (N, K), or with two classes that of the second, (N,)."""
        check_is_fitted(self)
        if _in_a_file(X):
            if X.shape[1] != self.n_features_in_:
                raise ValueError(f"X has {X.shape[1]} columns, expected {self.n_features_in_}")
            logits = np.concatenate([self._logits(block) for block in Rows.of(X).blocks()])
        else:
            X = validate_data(self, X, dtype=[np.float64, np.float32, np.float16], reset=False)
            logits = self._logits(X)
        return logits.ravel() if len(self.coef_) == 1 else logits

    def _logits(self, X: npt.NDArray[Any]) -> Floats:
        return np.asarray(X @ self.coef_.T + self.intercept_)

    def predict_proba(self, X: Any) -> Floats:
        """Give the probabilities of the classes, (N, K)."""
        logits = self.decision_function(X)
        return softmax(logits if logits.ndim == 2 else np.column_stack([0 * logits, logits]))

    def predict_log_proba(self, X: Any) -> Floats:
        """Give the logarithms of the probabilities, (N, K)."""
        return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Give the most probable class of each row, (N,)."""
        logits = self.decision_function(X)
        winners = logits.argmax(axis=1) if logits.ndim == 2 else (logits > 0).astype(np.intp)
        return np.asarray(self.classes_[winners])


def _in_a_file(X: Any) -> bool:
    """Tell an HDF5 dataset, which is read block by block, from an array."""
    return hasattr(X, "chunks") and hasattr(X, "id") and hasattr(X, "file")
