"""Solve many models on the same vectors at once: weights on raw vectors and certificates out.

What is minimised is P of `pipeline/solver/objective.py`. BERT's dimensions are correlated, which is
why first-order methods take hundreds of passes over the data on them. Here L-BFGS (Nocedal and
Wright, "Numerical Optimization", 2006, algorithm 7.4) starts from a good guess of the Hessian
instead of a multiple of the identity:

    H ~ C * sum_i s_i (diag(p_i) - p_i p_i') (x) mean(z z') + 1

the product of the models' own mean curvature, which every pass gives for free, and the Gram matrix,
which all models share. Decomposed into eigenvectors once, it is inverted for every C and every fold
by a division. All models go through the data together, one pass a step, until the last one is done.

A fit ends by its certificate. The loss is convex and the penalty 1/2 ||W||^2, so that for all W, b

    P(W, b) - min P  <=  1/2 ||dP/dW||^2 + dP/db . (b - b*)

with b* the intercepts at the optimum. Where dP/db = 0, this is the duality gap 1/2 ||dP/dW||^2, and
it is exact. The intercepts' last step is Newton's, which leaves dP/db about as small as rounding;
what is left of the second term is added with the next step in the place of b - b*. The certificate
is computed in float64, in the space where P penalises: that of the standardised columns. It is far
from tight: where it says 1e-6, `benchmarks/fit.py` finds some 1e-9 to 1e-11.

Steps are taken with float32 products first, and with float64 ones when rounding ends the descent.
The pass that certifies a fit also gives the scores of the rows that it left out. No file is read
here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Floats
from pipeline.solver import blas
from pipeline.solver.blocks import Rows, Workers
from pipeline.solver.centred import centred
from pipeline.solver.distributed import DistributedRows
from pipeline.solver.lbfgs import Gram, Point, descend
from pipeline.solver.objective import Objective, TrainingSet, mean_gram
from pipeline.solver.sums import Vectors

# Columns of the weights of models that are solved together; beyond it products gain no more.
_COLUMNS = 512
# Of a model's work, roughly: what passes in float32 do, before one in float64 certifies it.
_SHARE_OF_SINGLE = 0.9
# Logits that become probabilities at a time, which stay in a processor's cache.
_SOFTMAX_VALUES = 16_384
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


@dataclass(frozen=True)
class Problem:
    """One model to fit.

    Attributes
    ----------
    C : float
        Inverse penalty.
    training : TrainingSet
        Its rows. Models of the same rows share the object.
    tol : float
        The certificate to stop at, relative to P.
    start : Solution, optional
        A guess, e.g. the solution of a neighbour.
    """

    C: float
    training: TrainingSet
    tol: float = 1e-6
    start: Solution | None = None


@dataclass(frozen=True)
class Solution:
    """Weights on raw vectors, for one problem.

    Attributes
    ----------
    C : float
    coef : float64 array (K, D)
    intercept : float64 array (K,)
    iterations : int
        Passes over the data: one loss and gradient each.
    gap : float
        The certificate: (P - min P) / P is at most this. It was computed in float64.
    converged : bool
        Whether `gap` is at most `tol`; False if `max_iter` ended the fit, or rounding did.
    held_out : float32 array (n, K)
        Log-probabilities of the rows that the training set holds out, in their order.
    """

    C: float
    coef: Floats
    intercept: Floats
    iterations: int
    gap: float
    converged: bool
    held_out: npt.NDArray[np.float32]

    def predict_proba(self, X: npt.NDArray[np.floating[Any]]) -> Floats:
        """Give the probabilities of the classes, (N, K), for raw vectors (N, D)."""
        return softmax(X @ self.coef.T + self.intercept)


@dataclass(frozen=True)
class Data:
    """Vectors and classes, prepared for any number of fits by `prepare`.

    With `scale`, (D,), standardised columns are multiplied by it before they are penalised: a
    column of scale 2 pays a quarter of the penalty. `gram` is that of the columns so scaled. `told`
    is called after each pass with the number of models that are done, and of all.
    """

    vectors: Vectors
    y: npt.NDArray[np.integer[Any]]
    weight: Floats
    n_classes: int
    gram: Gram
    scale: Floats | None = None
    told: Callable[[float, int], None] | None = None

    def tell(self, done: float, of: int) -> None:
        """Call `told`, where there is one."""
        if self.told is not None:
            self.told(done, of)

    def telling(self, before: int, of: int) -> Data:
        """Give the same data for a part of the models, which `before` others were done before."""
        told = self.told
        if told is None:
            return self
        return replace(self, told=lambda done, _: told(before + done, of))


@blas.one_thread()
def prepare(
    rows: Rows,
    y: npt.NDArray[np.integer[Any]],
    *,
    n_classes: int,
    memory: int,
    sample_weight: Floats | None = None,
    class_weight: Floats | None = None,
    scale: Floats | None = None,
) -> Data:
    """Standardise vectors, hold them if they fit into memory, and decompose their Gram matrix.

    Parameters
    ----------
    rows : Rows
        Raw vectors, N x D; not changed.
    y : int array (N,)
        Classes 0 to K-1.
    n_classes : int
        K, at least 2.
    memory : int
        Bytes of vectors that may be held; what does not fit is read anew in each pass. The workers
        of `DistributedRows` have their own.
    sample_weight : float array (N,), optional
        A row of weight 2 counts as two rows. Default 1.
    class_weight : float array (K,), optional
        Typical ones: they enter the preconditioner only.
    scale : float array (D,), optional
        Of the standardised columns, see `Data`. Default 1.
    """
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    vectors: Vectors
    if isinstance(rows, DistributedRows):
        vectors = rows.crew.standardised(rows.view, rows, weight)
    else:
        vectors = centred(rows, weight, memory=memory, workers=Workers())
    typical = weight if class_weight is None else weight * class_weight[y]
    gram = mean_gram(vectors, typical)
    if scale is not None:
        gram *= np.outer(scale, scale)
    return Data(vectors, y, weight, n_classes, Gram.of(gram, len(y)), scale)


@blas.one_thread()
def solve(data: Data, problems: Sequence[Problem], *, max_iter: int = 1000) -> list[Solution]:
    """Fit models together, in as many passes over the data as the slowest of them takes.

    Parameters
    ----------
    data : Data
    problems : sequence of Problem
    max_iter : int
        Passes at most.
    """
    at_once = max(1, _COLUMNS // data.n_classes)
    solutions: list[Solution] = []
    for first in range(0, len(problems), at_once):
        part = data.telling(first, len(problems))
        solutions += _solve(part, problems[first : first + at_once], max_iter)
    return solutions


def solve_grid(
    data: Data,
    grid: Sequence[float],
    training: Sequence[TrainingSet],
    *,
    tol: float,
    max_iter: int = 1000,
) -> list[Solution]:
    """Fit every C of a grid on every training set; those of one C follow each other.

    About every third C goes first, all of them together. The others start from the cubic through
    their four nearest neighbours, over log C, which leaves them 2 to 5 passes of their 8 to 30, and
    go together as well.

    Parameters
    ----------
    data : Data
    grid : sequence of float
        Ascending.
    training : sequence of TrainingSet
    tol, max_iter
        As for `Problem` and `solve`; `max_iter` is for each of the two parts.
    """
    found: dict[int, list[Solution]] = {}
    for part in in_two(len(grid)):
        problems = [
            Problem(grid[n], one, tol, _interpolated(grid, n, found, t) if found else None)
            for n in part
            for t, one in enumerate(training)
        ]
        told = data.telling(len(found) * len(training), len(grid) * len(training))
        solutions = solve(told, problems, max_iter=max_iter)
        at = range(0, len(solutions), len(training))
        found |= {n: solutions[i : i + len(training)] for n, i in zip(part, at, strict=True)}
    return [solution for n in range(len(grid)) for solution in found[n]]


def in_two(n: int) -> list[list[int]]:
    """Divide n values: those that `solve_grid` takes first, both ends among them, and the rest."""
    first = np.unique(np.linspace(0, n - 1, n // 3 + 2).round().astype(int)).tolist()
    rest = [i for i in range(n) if i not in first]
    return [first, rest] if rest else [first]


def _interpolated(
    grid: Sequence[float], n: int, found: Mapping[int, Sequence[Solution]], training: int
) -> Solution:
    """Guess a model from those of other C on the same rows, by Lagrange's polynomial."""
    near = sorted(found, key=lambda m: abs(m - n))[:4]
    at = np.log(grid)
    shares = [np.prod([(at[n] - at[m]) / (at[k] - at[m]) for m in near if m != k]) for k in near]
    return mixed([found[k][training] for k in near], shares)


def mixed(solutions: Sequence[Solution], shares: Sequence[float] | None = None) -> Solution:
    """Give a mean of some models, to start another from; shares sum to 1."""
    return replace(
        solutions[0],
        coef=np.average([one.coef for one in solutions], axis=0, weights=shares),
        intercept=np.average([one.intercept for one in solutions], axis=0, weights=shares),
    )


def _solve(data: Data, problems: Sequence[Problem], max_iter: int) -> list[Solution]:
    Cs, training = [p.C for p in problems], [p.training for p in problems]
    objective = Objective(
        data.vectors, data.y, data.weight, data.n_classes, Cs, training, data.scale
    )
    tol = np.array([p.tol for p in problems])
    scores = [np.empty((one.n_held_out, data.n_classes), np.float32) for one in training]
    point = _start(data, objective, problems)

    n, share = len(problems), 0.0
    if data.vectors.center.dtype == np.float32 and max_iter > 1:
        share = _SHARE_OF_SINGLE
        point = descend(
            objective,
            data.gram,
            point,
            # Half of tol, so that the float64 pass hardly ever finds a gap above it.
            tol=tol / 2,
            max_passes=max_iter - 1,
            dtype=_SINGLE,
            told=lambda ended: data.tell(share * ended, n),
        )
    point = descend(
        objective,
        data.gram,
        point,
        tol=tol,
        max_passes=max_iter,
        dtype=_DOUBLE,
        scores=scores,
        told=lambda ended: data.tell(share * n + (1 - share) * ended, n),
    )
    center = data.vectors.center.astype(np.float64)
    solutions = []
    for m, problem in enumerate(problems):
        # z = (x - center) / std goes into the weights.
        coef = point.theta[m, :, 1:] * objective.inverse_std[objective.set_of[m]]
        solutions.append(
            Solution(
                problem.C,
                coef,
                point.theta[m, :, 0] - coef @ center,
                int(point.passes[m]),
                float(point.gap[m]),
                bool(point.gap[m] <= problem.tol),
                scores[m],
            )
        )
    return solutions


def _start(data: Data, objective: Objective, problems: Sequence[Problem]) -> Point:
    """Start from weights 0 and the intercepts best for them, or what is known, (M, K, 1 + D)."""
    theta = np.zeros((len(problems), data.n_classes, 1 + objective.n_columns))
    share = objective.class_rows / objective.class_rows.sum(axis=1, keepdims=True)
    # A class without rows gets a probability of 0, to all digits.
    intercepts = np.log(np.maximum(share, np.exp(-200.0)))
    intercepts -= intercepts.mean(axis=1, keepdims=True)  # their sum stays 0 from here
    theta[:, :, 0] = intercepts[objective.set_of]
    for one, problem, t in zip(theta, problems, objective.set_of, strict=True):
        if (guess := problem.start) is not None:
            inverse = objective.inverse_std[t]
            one[:, 1:] = guess.coef / np.where(inverse > 0, inverse, np.inf)
            one[:, 0] = guess.intercept + guess.coef @ data.vectors.center.astype(np.float64)
    unknown = np.full(len(problems), np.inf)
    return Point(theta, unknown, np.zeros(len(problems), np.intp))


def balanced_weights(
    y: npt.NDArray[np.integer[Any]], n_classes: int, weight: Floats | None = None
) -> Floats:
    """Give class weights, (K,), by which all count alike: N / (K * rows of the class).

    Rows count by their weights, (N,), if there are some; a class without rows gets a weight of 0.
    """
    counts = np.bincount(y, weight, n_classes).astype(np.float64)
    there = counts > 0
    return np.where(there, counts.sum() / (n_classes * np.where(there, counts, 1.0)), 0.0)


def softmax(logits: npt.NDArray[np.floating[Any]]) -> Floats:
    """Turn logits (N, K) into probabilities."""
    n_rows, n_classes = logits.shape
    out = np.empty(logits.shape, logits.dtype)
    at_once = max(1, _SOFTMAX_VALUES // n_classes)
    for start in range(0, n_rows, at_once):
        some, found = logits[start : start + at_once], out[start : start + at_once]
        if n_classes < 8:
            # Rows along memory, which is many times faster for few classes. The bits are the same:
            # numpy adds up to 7 numbers one after another, along whichever axis.
            some, found = np.ascontiguousarray(some.T), found.T
            weights = np.exp(some - some.max(axis=0))
            found[:] = weights / weights.sum(axis=0)
        else:
            weights = np.exp(some - some.max(axis=1, keepdims=True))
            found[:] = weights / weights.sum(axis=1, keepdims=True)
    return out
