"""Compare labels with those of the nearest rows: prepared vectors in, a share for each row out.

Rows are near by the cosine of their standardised columns, as the head's penalty sees them: a column
of large variance has no more say than others, and of views side by side each has its scale. Rows of
the same text are no neighbours of each other: they often have their label from each other.

Every row is compared with every other: the work grows with the square of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array, Codes, Floats, Indices
from features.errors import InputError
from pipeline.evaluation.folds import number_texts
from pipeline.solver.solve import Data
from pipeline.solver.sums import BlockResult, Vectors

# Rows that are asked. More see past the class next door; fewer are noise themselves.
NEIGHBOURS = 20
# Rows that are compared with all others at a time.
_TILE = 512


def disagreement(data: Data, texts: npt.NDArray[np.integer[Any]], *, memory: int) -> Floats:
    """Give the share, (N,), of each row's nearest rows that have another label.

    Neighbours count by their cosine, so that the nearest have most to say.

    Parameters
    ----------
    data : Data
        Vectors (N, D) and classes.
    texts : int array (N, ·)
        Equal rows are of one text.
    memory : int
        Bytes that the vectors may take.

    Raises
    ------
    InputError
        They take more.
    """
    N, D = data.vectors.shape
    if memory < N * D * 4:
        raise InputError(
            f"{N:,} rows are compared in memory, {N * D * 4 >> 20:,} MiB where {memory >> 20:,} "
            "are allowed; raise `memory`, or give fewer rows"
        )
    x = standardised(data.vectors, data.scale)
    return share_of_others(directions(x), data.y, number_texts(texts))


def standardised(vectors: Vectors, scale: Floats | None) -> Array:
    """Give all vectors standardised, each column times its scale, in memory: (N, D) float32."""
    factor = vectors.inverse_scale * (1.0 if scale is None else scale)
    found = np.empty(vectors.shape, np.float32)
    filled = 0

    def take(rows: tuple[Array, ...]) -> None:
        nonlocal filled
        found[filled : filled + len(rows[0])] = rows[0]
        filled += len(rows[0])

    vectors.sum(_Scaled(factor.astype(np.float32)), take=take)
    return found


@dataclass(frozen=True)
class _Scaled:
    """Give vectors, each column times its factor, (D,)."""

    factor: Array

    def __call__(self, z: Array, /, *columns: Array) -> BlockResult:
        return BlockResult(rows=(np.asarray(z * self.factor, np.float32),))


def directions(x: Array) -> Array:
    """Give vectors (N, D) at length 1; what has no direction is 0."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1))


def share_of_others(
    directions: Array,
    y: Codes,
    text: Codes,
    n: int = NEIGHBOURS,
    *,
    asked: Indices | None = None,
) -> Floats:
    """Give the share of the n nearest rows of other texts that have another label, by cosine.

    Parameters
    ----------
    directions : float array (N, D)
        Of length 1, or 0.
    y, text : int arrays (N,)
    n : int
        All other rows, where there are fewer.
    asked : int array (A,), optional
        The rows that it is given for; default all.

    Returns
    -------
    float64 array (A,)
        0.5 where no row lies in a like direction.
    """
    n = min(n, len(y) - 1)
    asked = np.arange(len(y)) if asked is None else asked
    found = np.empty(len(asked))
    for start in range(0, len(asked), _TILE):
        here = slice(start, start + _TILE)
        at = asked[here]
        cosine = directions[at] @ directions.T
        cosine[text[at, None] == text] = -1.0
        near = np.argpartition(-cosine, n - 1, axis=1)[:, :n]
        weight = np.maximum(np.take_along_axis(cosine, near, axis=1), 0).astype(np.float64)
        total = weight.sum(axis=1)
        other = (weight * (y[near] != y[at, None])).sum(axis=1)
        found[here] = np.where(total > 0, other / np.where(total > 0, total, 1.0), 0.5)
    return found
