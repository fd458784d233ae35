"""Evaluate the objective of many models at once: weights in, values, gradients, curvatures out.

For one inverse penalty C, and rows i with weights s_i, vectors x_i and classes y_i, a model
minimises

    P(W, b) = C * sum_i s_i * -ln softmax(W z_i + b)[y_i]  +  1/2 * ||W||^2,   z = (x - mean) / std

with a free intercept b. Mean and standard deviation are those of the rows that it is fitted on, by
their sample weights, without class weights; a constant column gets no weight. A column may have a
scale that z is multiplied with as well, so that its weight is penalised less or more. This is
scikit-learn's objective; with two classes that penalises their difference, w = W[1] - W[0], by 1/2
* ||w||^2, and so does this, with C/2 in the place of C: P is then half of scikit-learn's.

Models differ by C and by the rows that they leave out, whose weight is 0. One pass over the data
evaluates all: the vectors are centred once, by all rows; the standard deviation of a model's own
rows goes into its weights, and the difference of the means into its intercept. Products are taken
over blocks of rows, in float32 or float64, and their sums in float64, in the order of the rows. How
it is minimised is in `pipeline/solver/solve.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array, Floats
from pipeline.solver.blas import multiply
from pipeline.solver.blocks import BLOCK_ROWS
from pipeline.solver.loss import LossOfBlock, Weighing, fold_moments
from pipeline.solver.sums import BlockResult, Take, Vectors

# Rows for each column that the Gram matrix is summed over, at most; it only preconditions.
_GRAM_ROWS = 64


@dataclass(frozen=True)
class TrainingSet:
    """The rows that a model is fitted on, and how the classes count.

    Attributes
    ----------
    held_out : bool array (N,), optional
        Rows that are left out, and scored instead.
    class_weight : float array (K,), optional
        Default 1.
    """

    held_out: npt.NDArray[np.bool_] | None = None
    class_weight: Floats | None = None

    @property
    def n_held_out(self) -> int:
        """Rows that are left out."""
        return 0 if self.held_out is None else int(np.count_nonzero(self.held_out))


@dataclass(frozen=True)
class Evaluation:
    """Of some models, at some weights.

    Attributes
    ----------
    value : float64 array (M,)
        P.
    gradient : float64 array (M, K, 1 + D)
        Of P; the intercepts come first.
    curvature : float64 array (M, K, K)
        C * sum_i s_i (diag(p_i) - p_i p_i'), the Hessian of P in the intercepts.
    """

    value: Floats
    gradient: Floats
    curvature: Floats


class Objective:
    """P of M models on the same rows.

    Parameters
    ----------
    vectors : Vectors
        N x D.
    y : int array (N,)
        Classes 0 to K-1.
    weight : float array (N,)
        Sample weights, s_i but for the class weights.
    n_classes : int
        K, at least 2.
    Cs : sequence of float, (M,)
        Inverse penalties.
    training : sequence of TrainingSet, (M,)
        Models of one training set share the object.
    scale : float array (D,), optional
        What standardised columns are multiplied by. Default 1.
    """

    def __init__(
        self,
        vectors: Vectors,
        y: npt.NDArray[np.integer[Any]],
        weight: Floats,
        n_classes: int,
        Cs: Sequence[float],
        training: Sequence[TrainingSet],
        scale: Floats | None = None,
    ) -> None:
        self.vectors, self.y, self.weight, self.n_classes = vectors, y, weight, n_classes
        self.n_columns = vectors.shape[1]
        self.C = np.asarray(Cs, np.float64) / (2 if n_classes == 2 else 1)
        self.sets = list({id(one): one for one in training}.values())
        number = {id(one): n for n, one in enumerate(self.sets)}
        self.set_of = np.array([number[id(one)] for one in training], np.intp)
        masks = [one.held_out for one in self.sets if one.held_out is not None]
        of_masks = np.cumsum([one.held_out is not None for one in self.sets]) - 1
        self._weighing = Weighing(
            tuple(one.class_weight for one in self.sets),
            tuple(
                -1 if one.held_out is None else int(n)
                for n, one in zip(of_masks, self.sets, strict=True)
            ),
        )
        self._columns = (y, weight, *masks)
        self.inverse_std, self.class_rows = self._statistics()
        if scale is not None:
            self.inverse_std *= scale

    def _statistics(self) -> tuple[Array, Floats]:
        """1 / standard deviation of the columns, (T, D), and the rows of each class, (T, K)."""
        class_rows = np.zeros((len(self.sets), self.n_classes))
        for start in range(0, len(self.y), BLOCK_ROWS):
            at = slice(start, min(start + BLOCK_ROWS, len(self.y)))
            weights = self._weighing(*(column[at] for column in self._columns))
            for row, of_set in zip(class_rows, weights, strict=True):
                row += np.bincount(self.y[at], of_set, self.n_classes)
        of_all = self.vectors.inverse_scale
        inverse = np.repeat(of_all[None], len(self.sets), axis=0)
        folds = [t for t, one in enumerate(self.sets) if one.held_out is not None]
        if not folds:
            return inverse, class_rows
        total, first, second = self.vectors.sum(fold_moments, self._columns[1:])
        # In standard deviations of all rows.
        mean = of_all * first / total[:, None]
        variance = of_all**2 * second / total[:, None] - mean**2
        # What is constant in these rows, up to rounding, gets no weight, as in a fit of them alone.
        varies = variance > 1e-12 * (mean**2 + 1e-6)
        found = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
        inverse[folds] *= found
        return inverse, class_rows

    def evaluate(
        self,
        models: npt.NDArray[np.intp],
        theta: Floats,
        dtype: npt.DTypeLike,
        scores: Sequence[Array] | None = None,
    ) -> Evaluation:
        """Go once over the data.

        Parameters
        ----------
        models : int array (A,)
            Which of the M.
        theta : float64 array (A, K, 1 + D)
            Their intercepts and weights.
        dtype : dtype
            Of the products: float32 or float64.
        scores : sequence of M float arrays (held-out rows, K), optional
            Takes the log-probabilities of the rows that these models leave out.
        """
        n_models, n_classes = len(models), self.n_classes
        sets = self.set_of[models]
        # (K, A, ...): reductions over the classes then run along contiguous memory.
        by_class = theta.transpose(1, 0, 2)
        weights = (by_class[:, :, 1:] * self.inverse_std[sets]).astype(dtype)
        of_block = LossOfBlock(
            weights.reshape(-1, self.n_columns),
            by_class[:, :, :1].astype(dtype),
            sets,
            self._weighing,
            None if scores is None else scores[0].dtype,
        )
        taking = None if scores is None else self._taking([scores[m] for m in models], sets)
        loss, of_intercepts, of_weights, curvature = self.vectors.sum(
            of_block, self._columns, take=taking
        )
        C = self.C[models]
        gradient = np.empty_like(theta)
        gradient[:, :, 0] = C[:, None] * of_intercepts.T
        gradient[:, :, 1:] = of_weights.reshape(n_classes, n_models, -1).transpose(1, 0, 2)
        gradient[:, :, 1:] *= (C[:, None] * self.inverse_std[sets])[:, None]
        gradient[:, :, 1:] += theta[:, :, 1:]
        value = C * loss + 0.5 * np.square(theta[:, :, 1:]).sum(axis=(1, 2))
        return Evaluation(value, gradient, C[:, None, None] * curvature)

    def _taking(self, scores: Sequence[Array], sets: npt.NDArray[np.intp]) -> Take:
        """Write what comes of the rows that models leave out, one after another."""
        scored = [one for one, t in zip(scores, sets, strict=True) if self._weighing.masks[t] >= 0]
        filled = [0] * len(scored)

        def take(rows: tuple[Array, ...]) -> None:
            for n, (one, found) in enumerate(zip(scored, rows, strict=True)):
                one[filled[n] : filled[n] + len(found)] = found
                filled[n] += len(found)

        return take


def mean_gram(vectors: Vectors, weight: Floats) -> Floats:
    """Take the mean of z z', (D, D), by weights (N,): from all rows, or from enough of many.

    The z are standardised. Whole blocks are taken, evenly over the rows.
    """
    of_block = _GramOfBlock(vectors.inverse_scale)
    total, gram = vectors.sum(of_block, [weight], every=every_block(vectors))
    return np.asarray(gram / total)


@dataclass(frozen=True)
class _GramOfBlock:
    """Give the weights and the products of standardised rows."""

    inverse_scale: Floats

    def __call__(self, z: Array, /, *columns: Array) -> BlockResult:
        (s,) = columns
        scaled = z * self.inverse_scale.astype(z.dtype)
        scaled *= np.sqrt(s).astype(z.dtype)[:, None]
        return BlockResult((float(s.sum()), multiply(scaled.T, scaled)))


def every_block(vectors: Vectors) -> int:
    """Say which blocks are enough for a Gram matrix: every one, every second, and so on."""
    n_rows, n_columns = vectors.shape
    return max(1, n_rows // max(_GRAM_ROWS * n_columns, BLOCK_ROWS))
