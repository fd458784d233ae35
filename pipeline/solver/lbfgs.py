"""Minimise the objectives of many models in step, by L-BFGS with a preconditioner for each.

The method and the certificate are described in `pipeline/solver/solve.py`, the function that is
minimised in `pipeline/solver/objective.py`. Nothing here knows where the vectors lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from features.base.arrays import Array, Floats, Indices, Mask
from pipeline.solver.blocks import Workers
from pipeline.solver.objective import Evaluation, Objective

# Models whose directions one thread computes together.
_TOGETHER = 8
# Pairs of steps and changes of the gradient that are kept.
_PAIRS = 10
# Armijo's condition: P falls by this share of what its slope promises.
_ARMIJO = 1e-4
# What is known of P, relatively, with products of this precision; and the steps without progress
# after which rounding has the last word.
_ROUNDING = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 1e-14}
_PATIENCE = {np.dtype(np.float32): 4, np.dtype(np.float64): 20}


@dataclass(frozen=True)
class Gram:
    """Eigenvalues (D,), ascending, and eigenvectors (D, D) of the mean of z z'."""

    values: Floats
    vectors: Floats

    @classmethod
    def of(cls, matrix: Floats, n_rows: int) -> Gram:
        """Decompose the mean of z z' of so many rows; what more columns have is rounding."""
        values, vectors = np.linalg.eigh(matrix)
        values = np.maximum(values, 0.0)
        values[: max(0, len(values) - n_rows)] = 0.0
        return cls(values, vectors)


@dataclass(frozen=True)
class Point:
    """Where M models stand.

    Attributes
    ----------
    theta : float64 array (M, K, 1 + D)
    gap : float64 array (M,)
        The certificate, relative to P.
    passes : int array (M,)
    """

    theta: Floats
    gap: Floats
    passes: Indices


def descend(
    objective: Objective,
    gram: Gram,
    start: Point,
    *,
    tol: Floats,
    max_passes: int,
    dtype: np.dtype[Any],
    scores: Sequence[Array] | None = None,
    told: Callable[[int], None] = lambda ended: None,
) -> Point:
    """Minimise P of all models of an objective.

    Parameters
    ----------
    objective : Objective
    gram : Gram
    start : Point
        Its passes are counted on; its gaps are not looked at.
    tol : float array (M,)
        A model that reaches its gap takes no more part.
    max_passes : int
        Passes at most; there is always one.
    dtype : dtype
        Of the products.
    scores : sequence of M float arrays, optional
        Take the probabilities of the rows that the models leave out, where they end.
    told : callable
        Called after each pass with the number of models that have ended.
    """
    workers = objective.vectors.workers
    end = Point(start.theta.copy(), start.gap.copy(), start.passes.copy())
    models = np.arange(len(tol))
    x = start.theta.copy()
    now = objective.evaluate(models, x, dtype, scores)
    pairs = _Pairs(x)
    precondition = Preconditioner(gram, now.curvature)
    state = _Progress.begin(certificate(now), now.value)
    passes = 1
    while True:
        gap = certificate(now)
        count = start.passes[models] + passes
        over = (gap <= tol[models]) | (state.idle >= _PATIENCE[dtype]) | (count >= max_passes)
        if over.any():
            taken_back = over & (state.step < 1)
            if scores is not None and taken_back.any():
                objective.evaluate(models[taken_back], x[taken_back], dtype, scores)
                count[taken_back] += 1
            end.theta[models[over]], end.gap[models[over]] = x[over], gap[over]
            end.passes[models[over]] = count[over]
            if dtype == np.float32:  # the intercepts' last step
                end.theta[models[over], :, 0] -= newton_step(_taken(now, over))
            left = ~over
            models, x, now, state = models[left], x[left], _taken(now, left), _taken(state, left)
            pairs.keep(left)
            precondition.keep(left)
        told(len(tol) - models.size)
        if not models.size:
            return end
        if passes & (passes - 1) == 0:  # at 1, 2, 4, 8, …: it changes most at first
            precondition = Preconditioner(gram, now.curvature)
        direction = _directions(workers, now.gradient, pairs, precondition)
        slope = _dot(direction, now.gradient)
        trial = x + state.step[:, None, None] * direction
        found = objective.evaluate(models, trial, dtype, scores)
        passes += 1
        slope_there = _dot(direction, found.gradient)
        # P is convex: it fell if it still falls at the end of the step, whatever rounding says.
        accepted = (found.value <= now.value + _ARMIJO * state.step * slope) | (
            (found.value <= now.value * (1 + _ROUNDING[dtype]))
            & (slope_there <= -(1 - 2 * _ARMIJO) * slope)
        )
        pairs.add(trial - x, found.gradient - now.gradient, accepted)
        x = np.where(accepted[:, None, None], trial, x)
        now = _merged(accepted, found, now)
        state = state.after(accepted, certificate(now), now.value, dtype, slope, slope_there)


def certificate(at: Evaluation) -> Floats:
    """Bound (P - min P) / P, (M,), as `pipeline/solver/solve.py` says."""
    of_weights = 0.5 * np.square(at.gradient[:, :, 1:]).sum(axis=(1, 2))
    of_intercepts = np.abs((at.gradient[:, :, 0] * newton_step(at)).sum(axis=1))
    return np.asarray((of_weights + of_intercepts) / np.maximum(at.value, np.finfo(float).tiny))


def newton_step(at: Evaluation) -> Floats:
    """What Newton's method takes from the intercepts, (M, K)."""
    n_classes = at.curvature.shape[1]
    # Adding the same to all intercepts changes nothing: that direction, and those of classes
    # without rows, get some curvature, so that the matrix can be inverted.
    trace = np.trace(at.curvature, axis1=1, axis2=2)[:, None, None]
    floor = 1e-10 * np.eye(n_classes) + 1 / n_classes
    matrix = at.curvature + (trace + np.finfo(np.float64).tiny) * floor
    return np.linalg.solve(matrix, at.gradient[:, :, :1])[:, :, 0]


class Preconditioner:
    """Inverse of curvature (x) gram + 1 for each model."""

    def __init__(self, gram: Gram, curvature: Floats) -> None:
        self.gram = gram
        self._flat = int(np.searchsorted(gram.values, 0.0, side="right"))
        values, self.basis = np.linalg.eigh(curvature)
        self.values = np.maximum(values, 0.0)

    def keep(self, left: Mask) -> None:
        """Forget the other models."""
        self.values, self.basis = self.values[left], self.basis[left]

    def apply(self, which: slice, vector: Floats) -> Floats:
        """To the vectors (n, K, 1 + D) of some of the models."""
        values, basis = self.values[which], self.basis[which]
        turned = basis.transpose(0, 2, 1) @ vector
        n, n_classes, width = turned.shape
        weights = turned[:, :, 1:].reshape(n * n_classes, width - 1)
        divided = self._divided(weights, values.reshape(-1, 1))
        turned[:, :, 1:] = divided.reshape(n, n_classes, width - 1)
        # The direction that changes no probability has no curvature, and no gradient either.
        flat = values <= 1e-10 * values[:, -1:]
        turned[:, :, 0] = np.where(flat, 0.0, turned[:, :, 0] / np.where(flat, 1.0, values))
        return np.asarray(basis @ turned)

    def _divided(self, weights: Floats, curvature: Floats) -> Floats:
        """Apply the inverse of curvature * gram + 1, curvature (n, 1), to weights (n, D).

        It leaves directions without curvature as they are, so where most have none the others are
        corrected, which costs less.
        """
        vectors, divisor = self.gram.vectors, curvature * self.gram.values + 1
        if 2 * self._flat < len(vectors):
            return np.asarray((weights @ vectors / divisor) @ vectors.T)
        vectors, divisor = vectors[:, self._flat :], divisor[:, self._flat :]
        return np.asarray(weights + (weights @ vectors * (1 / divisor - 1)) @ vectors.T)


class _Pairs:
    """The last steps of each model, and the changes of its gradient."""

    def __init__(self, like: Floats) -> None:
        self.steps = np.zeros((_PAIRS, *like.shape))
        self.changes = np.zeros((_PAIRS, *like.shape))
        self.inverse = np.zeros((_PAIRS, len(like)))  # 0: there is none
        self.newest = 0

    def keep(self, left: Mask) -> None:
        self.steps, self.changes = self.steps[:, left], self.changes[:, left]
        self.inverse = self.inverse[:, left]

    def add(self, step: Floats, change: Floats, accepted: Mask) -> None:
        self.newest = (self.newest + 1) % _PAIRS
        self.steps[self.newest], self.changes[self.newest] = step, change
        product = _dot(step, change)
        useful = accepted & (product > 0)
        self.inverse[self.newest] = np.where(useful, 1 / np.where(useful, product, 1.0), 0.0)

    def direction(self, which: slice, gradient: Floats, precondition: Preconditioner) -> Floats:
        """Algorithm 7.4 for some of the models; a pair that is not there changes nothing."""
        q = gradient[which].copy()
        order = [(self.newest - back) % _PAIRS for back in range(_PAIRS)]
        shares = {}
        for i in order:
            shares[i] = self.inverse[i, which] * _dot(self.steps[i, which], q)
            q -= shares[i][:, None, None] * self.changes[i, which]
        q = precondition.apply(which, q)
        for i in reversed(order):
            share = shares[i] - self.inverse[i, which] * _dot(self.changes[i, which], q)
            q += share[:, None, None] * self.steps[i, which]
        return -q


def _directions(
    workers: Workers, gradient: Floats, pairs: _Pairs, precondition: Preconditioner
) -> Floats:
    """Directions of all models; each thread takes some of them."""
    # Always the same ones, however many threads there are: rounding depends on the models beside.
    slices = (slice(at, at + _TOGETHER) for at in range(0, len(gradient), _TOGETHER))
    parts = workers.map(pairs.direction, ((s, gradient, precondition) for s in slices))
    return np.concatenate(list(parts))


@dataclass(frozen=True)
class _Progress:
    """Of each model, (M,): the step to try next, the best figures so far, steps since the last."""

    step: Floats
    gap: Floats
    value: Floats
    idle: Indices

    @classmethod
    def begin(cls, gap: Floats, value: Floats) -> _Progress:
        return cls(np.ones(len(gap)), gap, value, np.zeros(len(gap), np.intp))

    def after(
        self,
        accepted: Mask,
        gap: Floats,
        value: Floats,
        dtype: np.dtype[Any],
        slope: Floats,
        slope_there: Floats,
    ) -> _Progress:
        """Say how it stands after a step; one that was refused is tried again, shorter."""
        # Where the slopes at both ends say that the minimum is.
        with np.errstate(invalid="ignore", divide="ignore"):
            shorter = np.nan_to_num(slope / (slope - slope_there), nan=0.1)
        step = np.where(accepted, 1.0, self.step * np.clip(shorter, 0.1, 0.5))
        better = (gap < 0.9 * self.gap) | (value < self.value * (1 - 10 * _ROUNDING[dtype]))
        return _Progress(
            step,
            np.minimum(gap, self.gap),
            np.minimum(value, self.value),
            np.where(better, 0, self.idle + 1),
        )


def _dot(a: Floats, b: Floats) -> Floats:
    """Of each model: (M, K, 1 + D) twice, (M,) out."""
    return np.asarray(np.einsum("mkd,mkd->m", a, b))


def _taken(arrays: Any, which: Mask) -> Any:
    """Some of the models of an `Evaluation` or a `_Progress`."""
    return type(arrays)(*(getattr(arrays, field.name)[which] for field in fields(arrays)))


def _merged(accepted: Mask, new: Evaluation, old: Evaluation) -> Evaluation:
    wide = accepted[:, None, None]
    return Evaluation(
        np.where(accepted, new.value, old.value),
        np.where(wide, new.gradient, old.gradient),
        np.where(wide, new.curvature, old.curvature),
    )
