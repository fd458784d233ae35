"""Measure probabilities against true labels: `Metrics` out. No drawing, no scikit-learn.

The figures are in the table `METRICS`, which all that chooses, compares or shows one looks up. The
formulas are those of scikit-learn's functions of the same names; the tests hold them together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Codes, Floating, Floats

# Bins of the expected calibration error: Guo et al., "On Calibration of Modern Neural Networks",
# 2017, section 3.
_CALIBRATION_BINS = 15
BOOTSTRAP_ROUNDS = 2000
# Counts for each row, in the differences that give the slopes of a figure by its counts: one of
# them more or less is a small step then. Figures depend on the shares of the counts only.
_COUNTS = 1000

# Rows by true and predicted class, (..., K, K); drawn ones are counted as floats.
Counts = npt.NDArray[np.number[Any]]


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
    figures : dict of str to float
        By their names in `METRICS`.
    macro_recall_interval : (float, float)
        95 % percentile interval of the bootstrap over rows.
    calibration_error : float
        Expected calibration error of the most probable class: the mean, over 15 bins of equal width
        from 0 to 1, of the distance between confidence and accuracy; rows count by their weights.
    confusion : list of lists of int, (K, K)
        Rows: true class; columns: predicted class.
    """

    rows: int
    figures: dict[str, float]
    macro_recall_interval: tuple[float, float]
    calibration_error: float
    classes: tuple[ClassMetrics, ...]
    confusion: list[list[int]]

    @property
    def macro_recall(self) -> float:
        """Mean recall over the classes that have rows."""
        return self.figures["macro-recall"]

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that have rows."""
        return self.figures["macro-f1"]

    @property
    def accuracy(self) -> float:
        """Share of the rows whose most probable class is the true one."""
        return self.figures["accuracy"]

    @property
    def log_loss(self) -> float:
        """Mean of -ln p(true class), in nats; rows count by their weights."""
        return self.figures["log-loss"]

    def _repr_html_(self) -> str:
        """Show them in a notebook."""
        from features.base.notebook import MOST_ROWS, facts_html, table_html

        low, high = self.macro_recall_interval
        facts = {METRICS[name].label: f"{figure:.4f}" for name, figure in self.figures.items()}
        facts["95 % interval of macro recall"] = f"{low:.4f} to {high:.4f}"
        facts["calibration error"] = f"{self.calibration_error:.4f}"
        per_class = [
            [one.label, f"{one.rows:,}", *(f"{x:.4f}" for x in (one.precision, one.recall, one.f1))]
            for one in self.classes
        ]
        shown = facts_html(f"Metrics of {self.rows:,} rows", facts)
        shown += table_html(["class", "rows", "precision", "recall", "F1"], per_class)
        if len(self.classes) > MOST_ROWS // 2:
            return shown
        names = [one.label for one in self.classes]
        counts = zip(names, self.confusion, strict=True)
        confusion = [[name, *(f"{rows:,}" for rows in row)] for name, row in counts]
        return shown + table_html(["true \\ predicted", *names], confusion)

    def to_dict(self) -> dict[str, Any]:
        """Give the metrics as JSON types, the figures beside the rest: `macro_recall`, …."""
        content = dataclasses.asdict(self)
        figures = content.pop("figures")
        named = {name.replace("-", "_"): figure for name, figure in figures.items()}
        return {"rows": content.pop("rows"), **named, **content}


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
    confusion = confusion_of(y, predicted, len(label_names))
    true, found, hits = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    precision = hits / np.maximum(found, 1)
    recall = hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(true + found, 1)
    return Metrics(
        rows=len(y),
        figures={metric: score(metric, y, proba, weight) for metric in METRICS},
        macro_recall_interval=_bootstrap_interval(confusion, np.random.default_rng(seed)),
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
    one = METRICS[metric]
    if isinstance(one, MeanOfRows):
        return float(np.average(one.of_rows(y, proba), weights=weight))
    return float(one.figure(confusion_of(y, proba.argmax(axis=1), proba.shape[1])))


def influence(
    metric: str,
    y: npt.NDArray[np.integer[Any]],
    proba: npt.NDArray[np.floating[Any]],
    weight: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.float64]:
    """Say how much each row moves a figure of `METRICS`, to first order, (N,); they sum to 0.

    It is the derivative of the figure by the weight of the row. The root of the sum of its squares
    is the standard error of the figure, and that of the difference of two figures' influences the
    standard error of their difference (the infinitesimal jackknife: Efron, "The Jackknife, the
    Bootstrap and Other Resampling Plans", 1982, chapter 6). Arguments as for `measure`.
    """
    one = METRICS[metric]
    if isinstance(one, MeanOfRows):
        weight = np.ones(len(y)) if weight is None else weight
        return influence_on_mean(one.of_rows(y, proba), weight)
    predicted = proba.argmax(axis=1)
    return np.asarray(slopes(one, confusion_of(y, predicted, proba.shape[1]))[y, predicted])


def influence_on_mean(values: Floats, weight: Floats) -> Floats:
    """Say how much each row moves the mean of values (N,) by weights (N,); see `influence`."""
    return np.asarray(weight / weight.sum() * (values - np.average(values, weights=weight)))


def slopes(metric: OfConfusion, confusion: npt.NDArray[np.int64]) -> Floats:
    """Say how much a row of each true and predicted class moves a figure, (K, K).

    They are central differences; see `influence`.
    """
    counts = confusion * _COUNTS
    cells = counts.nonzero()
    step = np.zeros((len(cells[0]), *counts.shape))
    step[np.arange(len(step)), *cells] = 1.0
    found = np.zeros(counts.shape)
    found[cells] = (metric.figure(counts + step) - metric.figure(counts - step)) / 2 * _COUNTS
    return found


def confusion_of(
    y: npt.NDArray[np.integer[Any]], predicted: npt.NDArray[np.integer[Any]], n_classes: int
) -> npt.NDArray[np.int64]:
    """Count rows by true and predicted class, (K, K)."""
    cells = np.bincount(y * n_classes + predicted, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes).astype(np.int64)


def _accuracy(confusion: Counts) -> Floats:
    return np.asarray(_hits(confusion).sum(axis=-1) / confusion.sum(axis=(-2, -1)))


def _macro_recall(confusion: Counts) -> Floats:
    """Mean recall over the classes that have rows: the official figure of TweetEval's sentiment."""
    true = confusion.sum(axis=-1)
    return _macro(_hits(confusion) / np.maximum(true, 1), true)


def _macro_f1(confusion: Counts) -> Floats:
    true, found = confusion.sum(axis=-1), confusion.sum(axis=-2)
    return _macro(2 * _hits(confusion) / np.maximum(true + found, 1), true)


def _hits(confusion: Counts) -> Counts:
    return np.asarray(np.diagonal(confusion, axis1=-2, axis2=-1))


def _macro(of_class: Floats, true: Counts) -> Floats:
    """Mean over the classes that have rows; a class without any got 0."""
    return np.asarray(of_class.sum(axis=-1) / np.count_nonzero(true, axis=-1))


def losses(y: Codes, proba: Floating) -> Floats:
    """Give -ln p(true class) of each row, in nats."""
    # p = 0 for the true class would be an infinite loss for one rounding to zero.
    given = np.maximum(proba[np.arange(len(y)), y].astype(np.float64), np.finfo(np.float64).tiny)
    return np.asarray(-np.log(given))


@dataclass(frozen=True)
class OfConfusion:
    """A metric that is a function of the confusion matrix.

    Attributes
    ----------
    label : str
        As it is shown.
    figure : callable
        Takes counts (..., K, K), rows the true classes and columns the predicted ones, and gives
        the figures (...).
    higher_is_better : bool
    """

    label: str
    figure: Callable[[Counts], Floats]
    higher_is_better: bool = True


@dataclass(frozen=True)
class MeanOfRows:
    """A metric that is a mean over rows, by their weights.

    Attributes
    ----------
    label : str
        As it is shown.
    of_rows : callable
        Takes true classes (N,) and probabilities (N, K), and gives what each row adds, (N,).
    higher_is_better : bool
    """

    label: str
    of_rows: Callable[[Codes, Floating], Floats]
    higher_is_better: bool


LOG_LOSS = MeanOfRows("log-loss", losses, higher_is_better=False)

# What C can be chosen by, views are compared in and results are shown with. The order is that of
# the terminal.
METRICS: dict[str, OfConfusion | MeanOfRows] = {
    "macro-recall": OfConfusion("macro recall", _macro_recall),
    "accuracy": OfConfusion("accuracy", _accuracy),
    "macro-f1": OfConfusion("macro F1", _macro_f1),
    "log-loss": LOG_LOSS,
}


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
