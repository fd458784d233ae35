"""True labels and probabilities in, `Metrics` out. No drawing, no scikit-learn.

The formulas are those of scikit-learn's functions of the same names; the tests hold them together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Bins of the expected calibration error: Guo et al., "On Calibration of Modern Neural Networks",
# 2017, section 3.
_CALIBRATION_BINS = 15
BOOTSTRAP_ROUNDS = 2000


@dataclass(frozen=True)
class ClassMetrics:
    """One class: how many rows have it, and how well they are found."""

    label: str
    rows: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Metrics:
    """What a classifier is worth on labelled rows.

    Attributes
    ----------
    macro_recall, macro_f1 : float
        Means over the classes that have rows.
    macro_recall_interval : (float, float)
        95 % percentile interval of the bootstrap over rows.
    log_loss : float
        Mean of -ln p(true class), in nats; rows count by their weights.
    calibration_error : float
        Expected calibration error of the most probable class: the mean, over 15 bins of equal width
        from 0 to 1, of the distance between confidence and accuracy; rows count by their weights.
    confusion : list of lists of int, (K, K)
        Rows: true class; columns: predicted class.
    """

    rows: int
    accuracy: float
    macro_recall: float
    macro_recall_interval: tuple[float, float]
    macro_f1: float
    log_loss: float
    calibration_error: float
    classes: tuple[ClassMetrics, ...]
    confusion: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        """Give the metrics as JSON types."""
        return dataclasses.asdict(self)


def measure(
    y: npt.NDArray[np.integer[Any]],
    proba: npt.NDArray[np.floating[Any]],
    label_names: Sequence[str],
    *,
    seed: int = 0,
    weight: npt.NDArray[np.float64] | None = None,
) -> Metrics:
    """Compare true labels with probabilities.

    Parameters
    ----------
    y : int array (N,)
        Codes into `label_names`.
    proba : float array (N, K)
        Rows sum to one. The predicted class is the most probable one.
    label_names : sequence of str, (K,)
    seed : int
        For the bootstrap.
    weight : float array (N,), optional
        Of the rows, in log-loss and calibration error, as `importance` of `pipeline/head/priors.py`
        gives them for the prior that the probabilities answer for. What counts rows, or takes the
        mean over classes, does without. Default 1.
    """
    weight = np.ones(len(y)) if weight is None else weight
    predicted = proba.argmax(axis=1)
    confusion = _confusion(y, predicted, len(label_names))
    true, found, hits = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    precision = hits / np.maximum(found, 1)
    recall = hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(true + found, 1)
    return Metrics(
        rows=len(y),
        accuracy=_accuracy(confusion),
        macro_recall=_macro_recall(confusion),
        macro_recall_interval=_bootstrap_interval(confusion, np.random.default_rng(seed)),
        macro_f1=_macro_f1(confusion),
        log_loss=log_loss(y, proba, weight),
        calibration_error=_calibration_error(proba.max(axis=1), predicted == y, weight),
        classes=tuple(
            ClassMetrics(name, int(true[k]), float(precision[k]), float(recall[k]), float(f1[k]))
            for k, name in enumerate(label_names)
        ),
        confusion=confusion.tolist(),
    )


def score(
    metric: str,
    y: npt.NDArray[np.integer[Any]],
    proba: npt.NDArray[np.floating[Any]],
    weight: npt.NDArray[np.float64] | None = None,
) -> float:
    """Give one figure of `METRICS`; arguments as for `measure`."""
    if metric == "log-loss":
        return log_loss(y, proba, weight)
    return _OF_CONFUSION[metric](_confusion(y, proba.argmax(axis=1), proba.shape[1]))


def log_loss(
    y: npt.NDArray[np.integer[Any]],
    proba: npt.NDArray[np.floating[Any]],
    weight: npt.NDArray[np.float64] | None = None,
) -> float:
    """Mean of -ln p(true class), in nats, over rows by their weights."""
    return float(-np.average(np.log(of_truth(y, proba)), weights=weight))


def of_truth(
    y: npt.NDArray[np.integer[Any]], proba: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float64]:
    """What the true classes got, (N,), above 0."""
    # p = 0 for the true class would be an infinite loss for one rounding to zero.
    given = proba[np.arange(len(y)), y].astype(np.float64)
    return np.asarray(np.maximum(given, np.finfo(np.float64).tiny))


def _confusion(
    y: npt.NDArray[np.integer[Any]], predicted: npt.NDArray[np.integer[Any]], n_classes: int
) -> npt.NDArray[np.int64]:
    cells = np.bincount(y * n_classes + predicted, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes).astype(np.int64)


def _accuracy(confusion: npt.NDArray[np.int64]) -> float:
    return float(np.trace(confusion) / confusion.sum())


def _macro_recall(confusion: npt.NDArray[np.int64]) -> float:
    """Mean recall over the classes that have rows: the official figure of TweetEval's sentiment."""
    true = confusion.sum(axis=1)
    there = true > 0
    return float((np.diag(confusion)[there] / true[there]).mean())


def _macro_f1(confusion: npt.NDArray[np.int64]) -> float:
    true, found = confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = 2 * np.diag(confusion) / np.maximum(true + found, 1)
    return float(f1[true > 0].mean())


_OF_CONFUSION = {
    "macro-recall": _macro_recall,
    "macro-f1": _macro_f1,
    "accuracy": _accuracy,
}
# What C can be chosen by; log-loss is better where it is lower, the others where they are higher.
METRICS = (*_OF_CONFUSION, "log-loss")


def _bootstrap_interval(
    confusion: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of macro recall when rows are drawn again with replacement.

    Rows of one cell of the confusion matrix are alike, so drawing N rows is drawing the counts of
    the cells from a multinomial distribution. Recall only needs, for each class, its hits and its
    misses.
    """
    hits = np.diag(confusion)
    misses = confusion.sum(axis=1) - hits
    cells = np.concatenate([hits, misses])
    drawn = rng.multinomial(cells.sum(), cells / cells.sum(), size=BOOTSTRAP_ROUNDS)
    drawn_hits, drawn_misses = np.split(drawn, 2, axis=1)
    rows = drawn_hits + drawn_misses
    recall = np.divide(drawn_hits, rows, out=np.zeros(rows.shape), where=rows > 0)
    macro = recall.sum(axis=1) / np.count_nonzero(rows, axis=1)
    low, high = np.percentile(macro, [2.5, 97.5])
    return float(low), float(high)


def _calibration_error(
    confidence: npt.NDArray[np.floating[Any]],
    correct: npt.NDArray[np.bool_],
    weight: npt.NDArray[np.float64],
) -> float:
    """Mean over the rows of |accuracy - confidence| of their bin."""
    bins = np.minimum((confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=weight * (correct - confidence), minlength=_CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / weight.sum())
