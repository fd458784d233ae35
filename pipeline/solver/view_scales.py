"""Weigh views that lie side by side: prepared vectors in, a scale for the columns of each view out.

Views that share one penalty share it unfairly: one of many noisy columns takes weight from one of
few good ones. A scale s multiplies the standardised columns of a view, so that its weights pay
1 / s^2 of the penalty. Which scales are good is asked of ridge regression on the classes, a cheap
stand-in for the logistic one: on one half of the rows it is solved from their Gram matrix, and on
the other half its squared error is known from theirs, so that no scale costs a pass over the data.
The search goes from view to view, doubling or halving a scale for as long as that helps by more
than rounding and chance do. No model of the head is fitted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from features.base.arrays import Array, Floats, Mask
from pipeline.solver import blas
from pipeline.solver.blas import multiply
from pipeline.solver.lbfgs import Gram
from pipeline.solver.objective import every_block
from pipeline.solver.solve import Data
from pipeline.solver.sums import BlockResult

# The penalty of ridge regression, for columns of variance 1 and a mean over rows, is looked for
# from here in steps of this factor, so that a scale gets no credit for a penalty that it moves.
_PENALTY, _FACTOR, _MOST_FACTORS = 0.1, 10**0.25, 20
# Scales are kept within 1/16 and 16 of that of the first view.
_STEPS = 4
_SWEEPS = 2
# A scale must lower the squared error by this share, or it stays what it is.
_GAIN = 5e-4


@dataclass(frozen=True)
class _Half:
    """Weighted means over a half of the rows, of [1, z][1, z]' (1 + D, 1 + D) and [1, z] y'."""

    gram: Floats
    products: Floats


@blas.one_thread()
def find_view_scales(
    data: Data, widths: Sequence[int], half: Mask, class_weight: Floats | None
) -> Floats:
    """Find a scale for each of V views, the first of which has 1.

    Parameters
    ----------
    data : Data
        Without scales.
    widths : sequence of int, (V,)
        Columns of each view; their sum is D.
    half : bool array (N,)
        Which rows are of the first half; rows of one text are in the same.
    class_weight : float array (K,), optional
        Default 1.

    Returns
    -------
    float array (V,)
    """
    if half.all() or not half.any():
        return np.ones(len(widths))
    halves = _halves(data, half, class_weight)
    steps = [0] * len(widths)

    def error(steps: Sequence[int], penalty: float) -> tuple[float, float]:
        inverse = np.repeat(4.0 ** -np.array(steps, np.float64), widths)
        return _least_error(halves, inverse, penalty)

    best, penalty = error(steps, _PENALTY)
    for _, view in product(range(_SWEEPS), range(1, len(widths))):
        for direction in (-1, 1):
            while abs(steps[view] + direction) <= _STEPS:
                moved = [*steps[:view], steps[view] + direction, *steps[view + 1 :]]
                found, at = error(moved, penalty)
                if found > best * (1 - _GAIN):
                    break
                steps, best, penalty = moved, found, at
    return np.asarray(2.0 ** np.array(steps, np.float64))


@blas.one_thread()
def with_view_scales(data: Data, scales: Floats, widths: Sequence[int]) -> Data:
    """Give the columns of each view its scale; the vectors stay where they are."""
    scale = np.repeat(scales, widths)
    if (scale == 1).all():
        return data
    root = scale[:, None] * data.gram.vectors * np.sqrt(data.gram.values)
    return replace(data, gram=Gram.of(root @ root.T, len(data.y)), scale=scale)


def _halves(data: Data, half: Mask, class_weight: Floats | None) -> tuple[_Half, _Half]:
    """Go once over the data, or over enough of it."""
    weight = data.weight if class_weight is None else data.weight * class_weight[data.y]
    of_block = _HalvesOfBlock(data.vectors.inverse_scale, data.n_classes)
    every = every_block(data.vectors)
    grams, products = data.vectors.sum(of_block, [data.y, weight, half], every=every)
    first, second = (
        _Half(gram / gram[0, 0], of_truth / gram[0, 0])
        for gram, of_truth in zip(grams, products, strict=True)
    )
    return first, second


@dataclass(frozen=True)
class _HalvesOfBlock:
    """Give the products of [1, z] with itself and with the classes, for the rows of each half."""

    inverse_scale: Floats
    n_classes: int

    def __call__(self, z: Array, /, *columns: Array) -> BlockResult:
        y, weight, half = columns
        wide = np.ones((len(z), 1 + z.shape[1]), z.dtype)
        wide[:, 1:] = z * self.inverse_scale.astype(z.dtype)
        grams, products = [], []
        for which in (half, ~half):
            part = wide[which]
            weighted = part * weight[which].astype(z.dtype)[:, None]
            truth = np.eye(self.n_classes, dtype=z.dtype)[y[which]]
            grams.append(multiply(weighted.T, part))
            products.append(weighted.T @ truth)
        return BlockResult((np.stack(grams), np.stack(products).astype(np.float64)))


def _least_error(halves: tuple[_Half, _Half], inverse: Floats, start: float) -> tuple[float, float]:
    """Find the best penalty near one, for columns whose shares of it are given; its error first."""
    best = (_error(halves, start * inverse), start)
    for factor in (1 / _FACTOR, _FACTOR):
        for step in range(1, _MOST_FACTORS):
            penalty = start * factor**step
            found = _error(halves, penalty * inverse)
            if found >= best[0]:
                break
            best = found, penalty
    return best


def _error(halves: tuple[_Half, _Half], penalty: Floats) -> float:
    """Squared error of each half by a regression on the other, less a constant; penalties (D,)."""
    from scipy.linalg import cho_factor, cho_solve  # only where they are used

    total = 0.0
    for fitted, judged in (halves, halves[::-1]):
        matrix = fitted.gram.copy()
        columns = np.arange(1, len(matrix))
        matrix[columns, columns] += penalty
        factor = cho_factor(matrix, overwrite_a=True, check_finite=False)
        coef = cho_solve(factor, fitted.products, check_finite=False)
        total += float((coef * (judged.gram @ coef)).sum() - 2 * (coef * judged.products).sum())
        total += float(judged.products[0].sum())  # the mean of y' y is the share of all classes
    return total
