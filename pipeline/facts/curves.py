"""Draw the lines of a report from true classes and probabilities: arrays in, records out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.base.arrays import Codes, Floats
from pipeline.facts.figures import Bin, Confusion, PrecisionRecall, Reliability

# Points of a curve that are kept, and bins of the confidence.
_POINTS, _BINS = 100, 15


def confusion_of(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Confusion:
    """Give the counts of true and predicted classes."""
    return Confusion(tuple(labels), tuple(tuple(row) for row in counts))


def precision_recall(y: Codes, proba: Floats, labels: Sequence[str]) -> tuple[PrecisionRecall, ...]:
    """Give the curve of each class that has rows, against all others."""
    return tuple(
        _of_class(y == k, proba[:, k], label) for k, label in enumerate(labels) if (y == k).any()
    )


def _of_class(is_true: Codes, score: Floats, label: str) -> PrecisionRecall:
    """Take every score as the least one of the rows that are found, from the largest down."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(is_true[order])[last]
    precision, recall = hits / (last + 1), hits / hits[-1]
    average = float(np.diff(recall, prepend=0.0) @ precision)
    kept = np.unique(np.searchsorted(recall, np.linspace(recall[0], 1.0, _POINTS)))
    return PrecisionRecall(
        label, tuple(recall[kept].tolist()), tuple(precision[kept].tolist()), average
    )


def reliability(y: Codes, proba: Floats, before: Floats | None, weight: Floats) -> Reliability:
    """Compare confidence with accuracy in bins of equal width; rows count by their weights."""
    return Reliability(
        None if before is None else _bins(y, before, weight), _bins(y, proba, weight)
    )


def _bins(y: Codes, proba: Floats, weight: Floats) -> tuple[Bin, ...]:
    confidence, is_right = proba.max(axis=1), proba.argmax(axis=1) == y
    at = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    rows, total = np.bincount(at, minlength=_BINS), np.bincount(at, weight, _BINS)
    sums = [np.bincount(at, weight * one, _BINS) for one in (confidence, is_right)]
    return tuple(
        Bin(float(sums[0][k] / total[k]), float(sums[1][k] / total[k]), int(rows[k]))
        for k in np.flatnonzero(rows)
    )
