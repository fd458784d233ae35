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
from pipeline.solver.blocks import BLOCK_ROWS, Centred

# Rows for each column that the Gram matrix is summed over, at most; it only preconditions.
_GRAM_ROWS = 64
# OpenBLAS takes products of up to so many multiplications, and z' with weights up to so many
# results, without packing their operands first, which is most of the work where one of them is
# thin. With fewer rows than the last, calling costs more. (Its sgemm_small_kernel_permit for
# Skylake-X and later.)
_SMALL, _SMALL_RESULT = 1_000_000, 1200
_LEAST_ROWS = 96


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
    vectors : Centred
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
        vectors: Centred,
        y: npt.NDArray[np.integer[Any]],
        weight: Floats,
        n_classes: int,
        Cs: Sequence[float],
        training: Sequence[TrainingSet],
        scale: Floats | None = None,
    ) -> None:
        self.vectors, self.y, self.weight, self.n_classes = vectors, y, weight, n_classes
        self.n_columns = vectors.rows.shape[1]
        self.C = np.asarray(Cs, np.float64) / (2 if n_classes == 2 else 1)
        self.sets = list({id(one): one for one in training}.values())
        number = {id(one): n for n, one in enumerate(self.sets)}
        self.set_of = np.array([number[id(one)] for one in training], np.intp)
        self.inverse_std, self.class_rows = self._statistics()
        if scale is not None:
            self.inverse_std *= scale
        # Where the scores of a block's held-out rows begin, for each training set.
        starts = np.arange(0, len(y), BLOCK_ROWS)
        self._first_score = [
            np.concatenate([[0], np.cumsum(np.add.reduceat(one.held_out, starts, dtype=np.intp))])
            if one.held_out is not None
            else np.zeros(0, np.intp)
            for one in self.sets
        ]

    def _weights(self, at: slice) -> Floats:
        """s_i of some rows for each training set, (T, n)."""
        weights = np.empty((len(self.sets), at.stop - at.start))
        for row, one in zip(weights, self.sets, strict=True):
            row[:] = self.weight[at]
            if one.class_weight is not None:
                row *= one.class_weight[self.y[at]]
            if one.held_out is not None:
                row[one.held_out[at]] = 0.0
        return weights

    def _statistics(self) -> tuple[Array, Floats]:
        """1 / standard deviation of the columns, (T, D), and the rows of each class, (T, K)."""
        class_rows = np.zeros((len(self.sets), self.n_classes))
        for start in range(0, len(self.y), BLOCK_ROWS):
            at = slice(start, min(start + BLOCK_ROWS, len(self.y)))
            for row, weights in zip(class_rows, self._weights(at), strict=True):
                row += np.bincount(self.y[at], weights, self.n_classes)
        of_all = self.vectors.inverse_scale
        inverse = np.repeat(of_all[None], len(self.sets), axis=0)
        folds = [(t, one.held_out) for t, one in enumerate(self.sets) if one.held_out is not None]
        if not folds:
            return inverse, class_rows

        def sums(at: slice, z: Array) -> tuple[Floats, Floats, Floats]:
            weights = np.stack([np.where(out[at], 0.0, self.weight[at]) for _, out in folds])
            z = z.astype(np.float64)
            return weights.sum(axis=1), weights @ z, weights @ np.square(z)

        total = np.zeros(len(folds))
        first, second = np.zeros((2, len(folds), self.n_columns))
        for n, of_z, of_squares in self.vectors.sweep(sums):
            total += n
            first += of_z
            second += of_squares
        # In standard deviations of all rows.
        mean = of_all * first / total[:, None]
        variance = of_all**2 * second / total[:, None] - mean**2
        # What is constant in these rows, up to rounding, gets no weight, as in a fit of them alone.
        varies = variance > 1e-12 * (mean**2 + 1e-6)
        found = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
        inverse[[t for t, _ in folds]] *= found
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
        weights = weights.reshape(-1, self.n_columns)
        intercepts = by_class[:, :, :1].astype(dtype)

        columns = n_models * n_classes
        rows = _rows_of_a_product(columns, self.n_columns)

        def of_block(at: slice, z: Array) -> tuple[Floats, Floats, Floats, Floats]:
            z = z.astype(dtype, copy=False)
            n = len(z)
            parts = [slice(start, start + rows) for start in range(0, n, rows)]
            s = self._weights(at).astype(dtype)[sets]  # (A, n)
            products = np.empty((columns, n), dtype)
            for part in parts:
                multiply(weights, z[part].T, out=products[:, part])
            p = products.reshape(n_classes, n_models, n)
            p += intercepts
            p -= p.max(axis=0)
            truth = p[self.y[at], :, np.arange(n)].T  # (A, n)
            logits = None if scores is None else p.copy()
            np.exp(p, out=p)
            total = p.sum(axis=0)
            loss = (s * (np.log(total) - truth)).sum(axis=1, dtype=np.float64)
            p /= total
            if scores is not None and logits is not None:
                self._write_scores(scores, models, at, logits - np.log(total))
            weighted = p * s
            curvature = _curvature(p, weighted)
            of_truth = self.y[at]
            for k in range(n_classes):  # several times faster than by an index of rows and classes
                weighted[k] -= s * (of_truth == k)
            residuals = weighted.reshape(columns, n)
            of_weights = np.zeros(weights.shape)
            for part in parts:
                of_weights += multiply(residuals[:, part], z[part])
            return loss, weighted.sum(axis=2, dtype=np.float64), of_weights, curvature

        loss, curvature = np.zeros(n_models), np.zeros((n_models, n_classes, n_classes))
        of_intercepts = np.zeros((n_classes, n_models))
        of_weights = np.zeros(weights.shape)
        for block in self.vectors.sweep(of_block):
            loss += block[0]
            of_intercepts += block[1]
            of_weights += block[2]
            curvature += block[3]
        C = self.C[models]
        gradient = np.empty_like(theta)
        gradient[:, :, 0] = C[:, None] * of_intercepts.T
        gradient[:, :, 1:] = of_weights.reshape(n_classes, n_models, -1).transpose(1, 0, 2)
        gradient[:, :, 1:] *= (C[:, None] * self.inverse_std[sets])[:, None]
        gradient[:, :, 1:] += theta[:, :, 1:]
        value = C * loss + 0.5 * np.square(theta[:, :, 1:]).sum(axis=(1, 2))
        return Evaluation(value, gradient, C[:, None, None] * curvature)

    def _write_scores(
        self, scores: Sequence[Array], models: npt.NDArray[np.intp], at: slice, log_p: Array
    ) -> None:
        for position, model in enumerate(models):
            held_out = self.sets[self.set_of[model]].held_out
            if held_out is not None:
                block = at.start // BLOCK_ROWS
                first = self._first_score[self.set_of[model]][block]
                found = log_p[:, position, held_out[at]].T
                scores[model][first : first + len(found)] = found


def _rows_of_a_product(columns: int, n_columns: int) -> int:
    """Give the rows that are multiplied at once by weights (columns, n_columns)."""
    rows = min(_SMALL // (columns * n_columns), _SMALL_RESULT // columns)
    return rows if rows >= _LEAST_ROWS else BLOCK_ROWS


def _curvature(p: Array, weighted: Array) -> Floats:
    """Sum s_i (diag(p_i) - p_i p_i') over rows, (A, K, K), from p_i and s_i p_i, both (K, A, n)."""
    of_model = p.transpose(1, 0, 2)
    curvature = -np.matmul(weighted.transpose(1, 0, 2), of_model.transpose(0, 2, 1))
    diagonal = np.arange(len(p))
    curvature[:, diagonal, diagonal] += weighted.sum(axis=2).T
    return np.asarray(curvature)


def mean_gram(vectors: Centred, weight: Floats) -> Floats:
    """Take the mean of z z', (D, D), by weights (N,): from all rows, or from enough of many.

    The z are standardised. Whole blocks are taken, evenly over the rows.
    """
    n_columns = vectors.rows.shape[1]

    def of_block(at: slice, z: Array) -> tuple[float, Array]:
        s = weight[at]
        scaled = z * vectors.inverse_scale.astype(z.dtype)
        scaled *= np.sqrt(s).astype(z.dtype)[:, None]
        return float(s.sum()), multiply(scaled.T, scaled)

    total, gram = 0.0, np.zeros((n_columns, n_columns), vectors.center.dtype)
    for of_weights, of_products in vectors.sweep(of_block, every_block(vectors)):
        total += of_weights
        gram += of_products
    return gram.astype(np.float64) / total


def every_block(vectors: Centred) -> int:
    """Say which blocks are enough for a Gram matrix: every one, every second, and so on."""
    n_rows, n_columns = vectors.rows.shape
    return max(1, n_rows // max(_GRAM_ROWS * n_columns, BLOCK_ROWS))
