"""Several classifiers' scores on the same rows in, how sure their differences are out. Pure.

Rows are drawn again with replacement, the same ones for all classifiers: what makes some rows hard
for all of them then cancels in the differences (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, chapters 8 and 13).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from features.base.arrays import Codes, Floating, Floats
from pipeline.evaluation.metrics import BOOTSTRAP_ROUNDS, of_truth

# Counts of drawn rows that are held at a time.
_VALUES = 4_000_000


def resampled(
    metric: str,
    y: Codes,
    probas: Sequence[Floating],
    *,
    weight: Floats | None = None,
    seed: int = 0,
    rounds: int = BOOTSTRAP_ROUNDS,
) -> Floats:
    """Give a figure of V classifiers in each of many resamples of the rows.

    Parameters
    ----------
    metric : str
        One of `METRICS`.
    y : int array (N,)
        True classes, 0 to K-1.
    probas : sequence of V float arrays (N, K)
    weight : float array (N,), optional
        Of the rows, in the log-loss; see `measure`.
    seed, rounds : int

    Returns
    -------
    float64 array (rounds, V)

    Examples
    --------
    The second classifier is right in one row more of four:

    >>> y = np.array([0, 0, 1, 1])
    >>> probas = [np.eye(2)[[0, 0, 0, 0]], np.eye(2)[[0, 0, 0, 1]]]
    >>> figures = resampled("accuracy", y, probas, rounds=5)
    >>> figures.shape, bool((figures[:, 0] <= figures[:, 1]).all())
    ((5, 2), True)
    """
    # Rows of a class lie together, so that it is a slice of them.
    order = np.argsort(y, kind="stable")
    y, probas = y[order], [proba[order] for proba in probas]
    weight = np.ones(len(y)) if weight is None else weight[order]
    figures = _FIGURES[metric](y, probas, weight)
    rng = np.random.default_rng(seed)
    n_rows = len(y)
    at_once = max(1, _VALUES // n_rows)
    found = []
    for first in range(0, rounds, at_once):
        drawn = [
            np.bincount(rng.integers(0, n_rows, n_rows), minlength=n_rows)
            for _ in range(min(at_once, rounds - first))
        ]
        found.append(figures(np.array(drawn, np.float64)))
    return np.concatenate(found)


def interval(values: Floats) -> tuple[float, float]:
    """Give the 95 % percentile interval of resampled values, (rounds,)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


# Each takes how often the rows were drawn, (B, N), and gives the figures, (B, V).
_Figures = Callable[[Floats], Floats]


def _accuracy(y: Codes, probas: Sequence[Floating], weight: Floats) -> _Figures:
    correct = _correct(y, probas)
    return lambda times: times @ correct / times.sum(axis=1, keepdims=True)


def _log_loss(y: Codes, probas: Sequence[Floating], weight: Floats) -> _Figures:
    losses = -np.log(np.column_stack([of_truth(y, proba) for proba in probas]))
    losses *= weight[:, None]
    return lambda times: times @ losses / (times @ weight)[:, None]


def _macro_recall(y: Codes, probas: Sequence[Floating], weight: Floats) -> _Figures:
    correct, classes = _correct(y, probas), _slices(y, probas[0].shape[1])

    def figures(times: Floats) -> Floats:
        total, there = np.zeros((2, len(times), len(probas)))
        for rows in classes:
            drawn = times[:, rows].sum(axis=1, keepdims=True)
            total += times[:, rows] @ correct[rows] / np.maximum(drawn, 1)
            there += drawn > 0
        return np.asarray(total / there)

    return figures


def _macro_f1(y: Codes, probas: Sequence[Floating], weight: Floats) -> _Figures:
    n_classes = probas[0].shape[1]
    correct, classes = _correct(y, probas), _slices(y, n_classes)
    predicted = [proba.argmax(axis=1) for proba in probas]

    def figures(times: Floats) -> Floats:
        found = np.array(
            [[np.bincount(p, row, n_classes) for p in predicted] for row in times]
        )  # (B, V, K)
        total, there = np.zeros((2, len(times), len(probas)))
        for k, rows in enumerate(classes):
            drawn = times[:, rows].sum(axis=1, keepdims=True)
            f1 = 2 * (times[:, rows] @ correct[rows]) / np.maximum(drawn + found[:, :, k], 1)
            total += np.where(drawn > 0, f1, 0.0)
            there += drawn > 0
        return np.asarray(total / there)

    return figures


_FIGURES = {
    "macro-recall": _macro_recall,
    "macro-f1": _macro_f1,
    "accuracy": _accuracy,
    "log-loss": _log_loss,
}


def _correct(y: Codes, probas: Sequence[Floating]) -> Floats:
    """Whether each classifier is right, (N, V)."""
    return np.column_stack([proba.argmax(axis=1) == y for proba in probas]).astype(np.float64)


def _slices(y: Codes, n_classes: int) -> list[slice]:
    """Where the rows of each class lie in sorted classes."""
    ends = np.searchsorted(y, np.arange(n_classes), side="right")
    starts = [0, *ends[:-1].tolist()]
    return [slice(a, b) for a, b in zip(starts, ends.tolist(), strict=True)]
