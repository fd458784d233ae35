"""Draw rows again and again, to see how sure the differences between classifiers are. Pure.

Rows are drawn again with replacement, the same ones for all classifiers: what makes some rows hard
for all of them then cancels in the differences (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, chapters 8 and 13).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from features.base.arrays import Codes, Floating, Floats
from pipeline.evaluation.metrics import BOOTSTRAP_ROUNDS, METRICS, MeanOfRows, OfConfusion


def resampled(
    metric: str,
    y: Codes,
    probas: Sequence[Floating],
    *,
    weight: Floats | None = None,
    seed: int = 0,
    rounds: int = BOOTSTRAP_ROUNDS,
    most_counts: int = 4_000_000,
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
        Of the rows, in a mean over them; see `measure`.
    seed, rounds : int
    most_counts : int
        Drawn rows that are counted at a time, which bounds the memory.

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
    one = METRICS[metric]
    figures = (
        _means(one, y, probas, weight)
        if isinstance(one, MeanOfRows)
        else _of_confusions(one, y, probas)
    )
    rng = np.random.default_rng(seed)
    n_rows = len(y)
    at_once = max(1, most_counts // n_rows)
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


def _means(metric: MeanOfRows, y: Codes, probas: Sequence[Floating], weight: Floats) -> _Figures:
    values = np.column_stack([metric.of_rows(y, proba) for proba in probas]) * weight[:, None]
    return lambda times: times @ values / (times @ weight)[:, None]


def _of_confusions(metric: OfConfusion, y: Codes, probas: Sequence[Floating]) -> _Figures:
    """Count the cells of all confusion matrices in a product a class: rows drawn x predictions."""
    n_classes = probas[0].shape[1]
    # Counts below 2^24 are exact in float32.
    dtype = np.float32 if len(y) < 2**24 else np.float64
    predicted = np.column_stack(
        [np.eye(n_classes, dtype=dtype)[proba.argmax(axis=1)] for proba in probas]
    )  # (N, V * K)
    classes = _slices(y, n_classes)

    def figures(times: Floats) -> Floats:
        times = times.astype(dtype)
        cells = [times[:, rows] @ predicted[rows] for rows in classes]
        confusion = np.stack(cells, axis=1).astype(np.float64)  # (B, K, V * K)
        shape = (len(times), n_classes, len(probas), n_classes)
        return metric.figure(confusion.reshape(shape).swapaxes(1, 2))

    return figures


def _slices(y: Codes, n_classes: int) -> list[slice]:
    """Where the rows of each class lie in sorted classes."""
    ends = np.searchsorted(y, np.arange(n_classes), side="right")
    starts = [0, *ends[:-1].tolist()]
    return [slice(a, b) for a, b in zip(starts, ends.tolist(), strict=True)]
