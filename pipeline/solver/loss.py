"""Evaluate models on one block of rows: vectors and classes in, what is to be added up out.

The formulas are those of `pipeline/solver/objective.py`, which adds up the blocks. All that a
function needs beside the rows is in it, and it can be sent to another process. No file is read.
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
from pipeline.solver.sums import BlockResult

# OpenBLAS takes products of up to so many multiplications, and z' with weights up to so many
# results, without packing their operands first, which is most of the work where one of them is
# thin. With fewer rows than the last, calling costs more. (Its sgemm_small_kernel_permit for
# Skylake-X and later.)
_SMALL, _SMALL_RESULT = 1_000_000, 1200
_LEAST_ROWS = 96


@dataclass(frozen=True)
class Weighing:
    """Give the weights of rows in each of T training sets.

    Attributes
    ----------
    class_weights : tuple of float arrays (K,) or None
    masks : tuple of int
        Which of the columns of held-out rows is that of the set; -1 where it leaves none out.
    """

    class_weights: tuple[Floats | None, ...]
    masks: tuple[int, ...]

    def __call__(self, y: Array, weight: Array, *held_out: Array) -> Floats:
        """Give s_i of n rows, (T, n), by their classes, sample weights and masks, (n,) each."""
        weights = np.empty((len(self.masks), len(y)))
        for row, class_weight, mask in zip(weights, self.class_weights, self.masks, strict=True):
            row[:] = weight
            if class_weight is not None:
                row *= class_weight[y]
            if mask >= 0:
                row[held_out[mask]] = 0.0
        return weights


def fold_moments(z: Array, /, *columns: Array) -> BlockResult:
    """Give weight, sum and sum of squares of the rows that each fold does not hold out."""
    weight, *held_out = columns
    weights = np.stack([np.where(out, 0.0, weight) for out in held_out])
    z = z.astype(np.float64)
    return BlockResult((weights.sum(axis=1), weights @ z, weights @ np.square(z)))


@dataclass(frozen=True)
class LossOfBlock:
    """Give the loss of A models, its gradient and curvature, and the scores of held-out rows.

    Attributes
    ----------
    weights : float array (K * A, D)
        On raw centred columns, the models of a class after each other.
    intercepts : float array (K, A, 1)
    sets : int array (A,)
        The training sets of the models.
    weighing : Weighing
    scored : dtype, optional
        Of the log-probabilities of the rows that models leave out; default: they are not given.
    """

    weights: Array
    intercepts: Array
    sets: npt.NDArray[np.intp]
    weighing: Weighing
    scored: np.dtype[Any] | None

    def __call__(self, z: Array, /, *columns: Array) -> BlockResult:
        """Take y, sample weights and masks of the training sets beside z."""
        y, _, *held_out = columns
        weights, dtype = self.weights, self.weights.dtype
        n_classes, n_models, _ = self.intercepts.shape
        z = z.astype(dtype, copy=False)
        n = len(z)
        rows = _rows_of_a_product(*weights.shape)
        parts = [slice(start, start + rows) for start in range(0, n, rows)]
        s = self.weighing(*columns).astype(dtype)[self.sets]  # (A, n)
        products = np.empty((len(weights), n), dtype)
        for part in parts:
            multiply(weights, z[part].T, out=products[:, part])
        p = products.reshape(n_classes, n_models, n)
        p += self.intercepts
        p -= p.max(axis=0)
        truth = p[y, :, np.arange(n)].T  # (A, n)
        logits = None if self.scored is None else p.copy()
        np.exp(p, out=p)
        total = p.sum(axis=0)
        loss = (s * (np.log(total) - truth)).sum(axis=1, dtype=np.float64)
        p /= total
        scores = () if logits is None else self._scores(logits - np.log(total), held_out)
        weighted = p * s
        curvature = _curvature(p, weighted)
        for k in range(n_classes):  # several times faster than by an index of rows and classes
            weighted[k] -= s * (y == k)
        residuals = weighted.reshape(len(weights), n)
        of_weights = np.zeros(weights.shape)
        for part in parts:
            of_weights += multiply(residuals[:, part], z[part])
        of_intercepts = weighted.sum(axis=2, dtype=np.float64)
        return BlockResult((loss, of_intercepts, of_weights, curvature), scores)

    def _scores(self, log_p: Array, held_out: Sequence[Array]) -> tuple[Array, ...]:
        """Take those of the held-out rows, (held-out rows, K) for each model that has some."""
        masks = [(a, self.weighing.masks[t]) for a, t in enumerate(self.sets)]
        return tuple(
            log_p[:, a, held_out[mask]].T.astype(self.scored) for a, mask in masks if mask >= 0
        )


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
    return np.asarray(curvature, np.float64)
