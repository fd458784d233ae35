"""Measure how far vectors lie from those that a head was fitted on. Pure.

A head answers whatever it is asked. What tells whether it has seen such tweets is the distance of
Mahalanobis to the nearest class, under the covariance S that the classes share (Lee et al., "A
simple unified framework for detecting out-of-distribution samples", 2018, equation 2):

    d(x)^2 = min_k (z - m_k)' S^-1 (z - m_k)

with z the standardised vector and m_k the means of the classes. S is kept in few numbers: its
largest eigenvalues with their vectors, and one variance for all directions beside them,

    S = V diag(l) V' + rest (1 - V V')

(Tipping and Bishop, "Probabilistic principal component analysis", 1999, equation 4). Distances are
divided by the one that 5 % of training rows exceed which neither V nor the means were taken from,
so that 1 is far.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array, Codes, Floating, Floats, Mask
from features.errors import FileRefused
from pipeline.solver import blas
from pipeline.solver.sums import BlockResult, Vectors

# Of rows that are of the training tweets' own kind.
FALSE_ALARMS = 0.05
# Rows that are looked at, evenly over all, and without which nothing can be said.
_MOST_ROWS, _LEAST_ROWS = 5000, 200
_DIRECTIONS = 64
# Directions that the search takes along, so that the last ones that are kept are right too, and its
# steps.
_SPARE, _STEPS = 8, 3
# Of rows, where none are held out by a fold.
_HELD_OUT_EVERY = 5


@dataclass(frozen=True)
class Novelty:
    """What is kept of the training rows to know their kind by.

    Attributes
    ----------
    center, inverse_scale : float32 arrays (D,)
        That standardise raw vectors; 0 for a constant column.
    means : float32 array (K, D)
        Of the classes, standardised.
    directions : float32 array (D, R)
        Orthogonal and of length 1.
    variances : float32 array (R,)
        Along them.
    rest : float
        The variance along every other direction.
    threshold : float
        The distance that one in twenty held-out rows exceeds.
    """

    center: Floating
    inverse_scale: Floating
    means: Floating
    directions: Floating
    variances: Floating
    rest: float
    threshold: float

    @blas.one_thread()
    def of(self, X: Floating) -> Floats:
        """Give the distances of raw vectors (N, D) over the threshold, (N,): above 1 is far."""
        z = (X - self.center) * self.inverse_scale
        return np.asarray(np.sqrt(self._squared(z)) / self.threshold)

    def _squared(self, z: Floating) -> Floats:
        along, of_means = z @ self.directions, self.means @ self.directions
        whole = (z**2).sum(axis=1)[:, None] - 2 * z @ self.means.T + (self.means**2).sum(axis=1)
        squared = np.full(len(z), np.inf)
        for k in range(len(self.means)):  # a class at a time: (N, K, R) could be large
            beside = (along - of_means[k]) ** 2
            rest = np.maximum(whole[:, k] - beside.sum(axis=1), 0.0) / self.rest
            squared = np.minimum(squared, (beside / self.variances).sum(axis=1) + rest)
        return squared

    def to_dict(self) -> dict[str, Any]:
        """Give the arrays and numbers by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_dict(cls, record: Any, n_classes: int, width: int) -> Novelty | None:
        """Read them from a head's file; None where there are none.

        Raises
        ------
        FileRefused
            They are not those of a head of so many classes and columns.
        """
        if record is None:
            return None
        found = record if isinstance(record, dict) else {}
        directions = found.get("directions")
        n = directions.shape[-1] if isinstance(directions, np.ndarray) and directions.ndim else 0
        shapes = {
            "center": (width,),
            "inverse_scale": (width,),
            "means": (n_classes, width),
            "directions": (width, n),
            "variances": (n,),
        }
        sound = set(found) == {one.name for one in fields(cls)} and all(
            _is_finite_array(found[name], shape) for name, shape in shapes.items()
        )
        if not (
            sound
            and (found["variances"] > 0).all()
            and all(type(found[name]) is float for name in ("rest", "threshold"))
            and all(0 < found[name] < np.inf for name in ("rest", "threshold"))
        ):
            raise FileRefused("its novelty is not that of its classes and columns")
        return cls(**found)


def _is_finite_array(value: Any, shape: tuple[int, ...]) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind == "f"
        and value.shape == shape
        and bool(np.isfinite(value).all())
    )


def fit_novelty(
    vectors: Vectors, y: Codes, n_classes: int, held_out: Mask | None = None
) -> Novelty | None:
    """Learn what training rows look like, and how far their own kind lies from them.

    Some thousands of rows, taken evenly, are enough, whatever their number.

    Parameters
    ----------
    vectors : Vectors
        N x D.
    y : int array (N,)
        Classes 0 to K-1.
    n_classes : int
    held_out : bool array (N,), optional
        The rows that set the threshold, such as a fold: a text is in it with all its copies, or not
        at all. Default: every fifth row.

    Returns
    -------
    Novelty or None
        None where there are too few rows, or all columns are constant.
    """
    taken = np.unique(np.linspace(0, len(y) - 1, min(len(y), _MOST_ROWS)).astype(np.intp))
    varying = int(np.count_nonzero(vectors.inverse_scale))
    if len(taken) < _LEAST_ROWS or varying < 2:
        return None
    z, of_row = _rows(vectors, taken), y[taken]
    own = np.arange(len(y)) % _HELD_OUT_EVERY == 0 if held_out is None else held_out
    held = own[taken]
    fitted, of_fitted = z[~held], of_row[~held]
    means = np.zeros((n_classes, z.shape[1]), np.float32)
    for k in np.unique(of_fitted):
        means[k] = fitted[of_fitted == k].mean(axis=0)
    within = fitted - means[of_fitted]
    n_kept = min(_DIRECTIONS, varying - 1, len(fitted) // 4)
    variances, directions = _largest(within, n_kept)
    total = float(np.square(within, dtype=np.float64).sum() / len(within))
    found = Novelty(
        vectors.center.astype(np.float32),
        vectors.inverse_scale.astype(np.float32),
        means,
        directions,
        variances,
        # Rows that are fewer than columns may leave nothing beside their own directions.
        max((total - float(variances.sum())) / (varying - n_kept), 1e-4 * total / varying),
        1.0,
    )
    distances = np.sort(np.sqrt(found._squared(z[held])))
    # As in split conformal prediction: one row more, that is to come, counts too.
    place = min(int(np.ceil((len(distances) + 1) * (1 - FALSE_ALARMS))), len(distances)) - 1
    return Novelty(**(found.to_dict() | {"threshold": float(distances[place])}))


def _rows(vectors: Vectors, taken: npt.NDArray[np.intp]) -> Array:
    """Give some rows, ascending, standardised."""
    wanted = np.zeros(vectors.shape[0], bool)
    wanted[taken] = True
    found: list[Array] = []
    of_block = _Standardised(vectors.inverse_scale)
    vectors.sum(of_block, [wanted], take=lambda rows: found.append(rows[0]))
    return np.concatenate(found)


@dataclass(frozen=True)
class _Standardised:
    """Give the wanted ones of the rows, standardised."""

    inverse_scale: Floats

    def __call__(self, z: Array, /, *columns: Array) -> BlockResult:
        (wanted,) = columns
        return BlockResult(rows=(np.asarray(z[wanted] * self.inverse_scale, np.float32),))


def _largest(rows: Array, n: int) -> tuple[Array, Array]:
    """Give the largest variances of centred rows (N, D), and their directions (D, n).

    By subspace iteration from a random start (Halko, Martinsson and Tropp, "Finding structure with
    randomness", 2011, algorithm 4.4): thin products instead of a matrix of D x D.
    """
    rng = np.random.default_rng(0)
    width = min(n + _SPARE, *rows.shape)
    basis = rng.normal(size=(rows.shape[1], width)).astype(np.float32)
    for _ in range(_STEPS):
        basis, _ = np.linalg.qr(rows.T @ (rows @ basis))
    inside = rows @ basis
    values, turned = np.linalg.eigh((inside.T @ inside).astype(np.float64) / len(rows))
    order = np.argsort(values)[::-1][:n]
    kept = np.maximum(values[order], 1e-6 * max(float(values.max()), 1e-30))
    return kept.astype(np.float32), (basis @ turned[:, order]).astype(np.float32)
