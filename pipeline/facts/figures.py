"""Name the figures of a report: records of curves, tables and differences. Computes nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TriedC:
    """One C of the grid.

    Attributes
    ----------
    C, score : float
    delta, standard_error : float
        Difference to the best score, and its standard error over the same rows.
    log_loss : float
    chosen, best, plateau : bool
        Whether the head has it, its score is the best, and the rows can't tell it from the best.
    """

    C: float
    score: float
    delta: float
    standard_error: float
    log_loss: float
    chosen: bool
    best: bool
    plateau: bool


@dataclass(frozen=True)
class Choice:
    """How C was chosen: the metric, by its name in `METRICS`, and every C that was tried."""

    metric: str
    grid: tuple[TriedC, ...]


@dataclass(frozen=True)
class Confusion:
    """Counts (K, K): rows the true classes, columns the predicted ones."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class PrecisionRecall:
    """The precision-recall curve of one class against all others.

    Attributes
    ----------
    label : str
    recall, precision : tuples of float, (n,)
        By rising recall; 100 points at most.
    average_precision : float
        Of all points, not of those that are kept alone.
    """

    label: str
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    average_precision: float


@dataclass(frozen=True)
class Bin:
    """Rows of about one confidence: its mean, the share that is right, and how many there are."""

    confidence: float
    accuracy: float
    rows: int


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, before calibration (None where there was none) and after."""

    before: tuple[Bin, ...] | None
    after: tuple[Bin, ...]


@dataclass(frozen=True)
class CurvePoint:
    """What fits of some rows are worth: the mean, with the ends of its 95 % interval."""

    rows: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast(CurvePoint):
    """What more rows would probably be worth.

    `gain` is to what all rows that there are give, with the ends of its own 95 % interval.
    """

    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class LearningCurve:
    """What fits of more and more rows are worth, on rows that they did not see."""

    metric: str
    points: tuple[CurvePoint, ...]
    forecast: Forecast | None
