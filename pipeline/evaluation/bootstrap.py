"""Draw rows again and again, to see how sure the differences between classifiers are. Pure.

Rows are drawn again with replacement, the same ones for all classifiers: what makes some rows hard
for all of them then cancels in the differences (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, chapters 8 and 13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
    draws = Draws(None, seed, rounds, most_counts)
    return draws.figures([metric], y, probas, weight=weight)[metric]


@dataclass(frozen=True)
class Draws:
    """How rows are drawn again.

    Attributes
    ----------
    texts : int array (N,), optional
        Equal numbers are one text: its rows are alike, so that they are drawn together. Without,
        each row is drawn by itself.
    seed, rounds : int
    most_counts : int
        Drawn rows that are counted at a time, which bounds the memory.
    """

    texts: Codes | None = None
    seed: int = 0
    rounds: int = BOOTSTRAP_ROUNDS
    most_counts: int = 4_000_000

    def figures(
        self,
        metrics: Sequence[str],
        y: Codes,
        probas: Sequence[Floating],
        *,
        weight: Floats | None = None,
    ) -> dict[str, Floats]:
        """Give several figures of V classifiers, each (rounds, V), of the same draws.

        Arguments as for `resampled`.
        """
        # Rows of a class lie together, so that it is a slice of them.
        order = np.argsort(y, kind="stable")
        y, probas = y[order], [proba[order] for proba in probas]
        texts = np.arange(len(y))
        if self.texts is not None:
            texts = np.unique(self.texts, return_inverse=True)[1][order]
        weight = np.ones(len(y)) if weight is None else weight[order]
        of_draws = {name: _figures(name, y, probas, weight) for name in metrics}
        found: dict[str, list[Floats]] = {name: [] for name in metrics}
        for times in self._times(texts):
            for name, figures in of_draws.items():
                found[name].append(figures(times))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _times(self, texts: Codes) -> Iterator[Floats]:
        """Give how often each row is drawn, (some rounds, N), until all rounds are drawn."""
        rng = np.random.default_rng(self.seed)
        n_texts = int(texts.max()) + 1
        at_once = max(1, self.most_counts // len(texts))
        for first in range(0, self.rounds, at_once):
            drawn = [
                np.bincount(rng.integers(0, n_texts, n_texts), minlength=n_texts)[texts]
                for _ in range(min(at_once, self.rounds - first))
            ]
            yield np.array(drawn, np.float64)


def interval(values: Floats) -> tuple[float, float]:
    """Give the 95 % percentile interval of resampled values, (rounds,)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


# Each takes how often the rows were drawn, (B, N), and gives the figures, (B, V).
_Figures = Callable[[Floats], Floats]


def _figures(metric: str, y: Codes, probas: Sequence[Floating], weight: Floats) -> _Figures:
    one = METRICS[metric]
    if isinstance(one, MeanOfRows):
        return _means(one, y, probas, weight)
    return _of_confusions(one, y, probas)


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
