"""Which layer, which pooling? Views of a store in, one table of what each is worth out. No torch.

Every view, and every combination of several side by side, goes through the same folds and the same
grid of C. All are then measured on the same rows, so that their differences can be tested in pairs. No
head is made: `fit` does that, with the view that is chosen.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.base.arrays import Codes, Floats
from features.errors import InputError
from features.spec.vector_spec import VectorSpec
from pipeline.data.join import Joined, open_joined
from pipeline.data.labelled_rows import classes_of, labelled_rows
from pipeline.data.matching import Matching
from pipeline.evaluation.bootstrap import interval, resampled
from pipeline.evaluation.cross_validation import (
    FOLDS,
    SELECTION_TOL,
    bytes_of,
    check_options,
    fold_trials,
    judge,
    training_set,
)
from pipeline.evaluation.folds import C_GRID
from pipeline.evaluation.metrics import Metrics, measure, score
from pipeline.head.calibration import cross_fitted
from pipeline.head.priors import fitted_prior, importance, parse_prior
from pipeline.solver.solve import prepare, solve_grid


@dataclass(frozen=True)
class Compared:
    """One line of the table: a view, or several side by side.

    Attributes
    ----------
    views : tuple of str
        Names, in the order of the columns; with the number of their encoder if there are several.
    width : int
        D.
    C : float
        The one of the grid that is best by the metric.
    metrics : Metrics
        Of that C, on the held-out rows of all folds.
    difference : float
        From the best, in the metric.
    difference_interval : (float, float)
        95 % percentile interval of the paired bootstrap over rows.
    converged : bool
        False if `max_iter` ended a fit first.
    seconds : float
        To read the vectors and to fit all C and folds.
    """

    views: tuple[str, ...]
    width: int
    C: float
    metrics: Metrics
    difference: float
    difference_interval: tuple[float, float]
    converged: bool
    seconds: float

    @property
    def name(self) -> str:
        """The views, joined."""
        return " + ".join(self.views)

    @property
    def distinguishable(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        low, high = self.difference_interval
        return low > 0 or high < 0


@dataclass(frozen=True)
class Comparison:
    """What `compare` gives.

    Attributes
    ----------
    lines : tuple of Compared
        The best by `metric` comes first.
    metric : str
    labels : tuple of str
    prior : tuple of float
        The shares of the classes that log-loss and calibration error are for.
    rows : int
        Labelled rows, each measured once.
    unlabelled : int
        Rows that were left out because they have no label.
    matching : Matching, optional
        What came of joining the stores of several encoders.
    measured_on : str
    """

    lines: tuple[Compared, ...]
    metric: str
    labels: tuple[str, ...]
    prior: tuple[float, ...]
    rows: int
    unlabelled: int
    matching: Matching | None
    measured_on: str

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON types."""
        content = dataclasses.asdict(self)
        for entry, line in zip(content["lines"], self.lines, strict=True):
            entry["distinguishable"] = line.distinguishable
        return content


@dataclass(frozen=True)
class _Measured:
    views: tuple[str, ...]
    width: int
    C: float
    proba: Floats
    converged: bool
    seconds: float


def compare(
    features: str | Path | Sequence[str | Path],
    *,
    combine: Sequence[Sequence[str]] = (),
    cv: int = FOLDS,
    metric: str = "macro-recall",
    class_weight: str = "balanced",
    prior: str | Mapping[str, float] | None = None,
    seed: int = 0,
    max_iter: int = 1000,
    memory: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Measure every view of one store or several in the same cross-validation.

    Parameters
    ----------
    features : path or sequence of paths
        What `extract` wrote, with labels; of one encoder or of several, as for `fit`.
    combine : sequence of sequences of str
        Views to be tried side by side as well, as `pooling` of `fit` names them.
    cv : int
        Folds; see `make_folds`.
    metric : str
        One of `METRICS`: C is chosen by it, and the lines are compared in it.
    class_weight, prior, seed, max_iter, memory
        As for `fit`. The seed is that of the folds and of the bootstrap.
    progress : callable, optional
        Called with the number of lines that are done, and of all.

    Notes
    -----
    Probabilities are calibrated as those of `fit` are. C is chosen on the rows that are measured on, and the best line is the best of those tested: its
    own figure is a little too good, as is its lead. The intervals hold one by one, not all at a time.

    Raises
    ------
    InputError
        As for `fit`; a combination names fewer than two views.

    Examples
    --------
    >>> from features import extract
    >>> from pipeline import compare
    >>> summary = extract("examples/tweets.csv", "tweets.h5", pooling=["cls", "mean"])
    >>> result = compare("tweets.h5", combine=[["cls", "mean"]])
    >>> sorted(line.name for line in result.lines)
    ['cls', 'cls + mean', 'mean']
    >>> result.lines[0].difference
    0.0
    """
    check_options(
        class_weight=class_weight, metric=metric, max_iter=max_iter, tol=SELECTION_TOL, repeats=1
    )
    held = bytes_of(memory)
    with open_joined(features) as stores:
        asked = _lines(stores, combine)
        labels = classes_of(stores)
        rows = labelled_rows(stores, asked[0], labels)
        trials = fold_trials(
            rows.y,
            rows.texts,
            labels,
            class_weight=class_weight,
            n_folds=cv,
            n_tried=cv,
            repeats=1,
            seed=seed,
        )
        class_rows = np.bincount(rows.y, minlength=len(labels)).tolist()
        fitted = fitted_prior(class_rows, class_weight)
        stated = fitted if prior is None else parse_prior(prior, labels, class_rows)
        y = np.concatenate([trial.y for trial in trials])
        groups = np.repeat(np.arange(cv), [len(trial.y) for trial in trials])
        weight = importance(y, stated)
        everything = training_set(rows.y, len(labels), class_weight)
        measured = []
        for number, sources in enumerate(asked):
            if progress is not None:
                progress(number, len(asked))
            started = time.perf_counter()
            rows = labelled_rows(stores, sources, labels)
            data = prepare(
                rows.X,
                rows.y,
                n_classes=len(labels),
                memory=held,
                class_weight=everything.class_weight,
            )
            solutions = solve_grid(
                data,
                C_GRID,
                [trial.training for trial in trials],
                tol=SELECTION_TOL,
                max_iter=max_iter,
            )
            outcome = judge(C_GRID, trials, solutions, metric=metric, fitted=fitted, stated=stated)
            logits = np.concatenate(outcome.logits).astype(np.float64)
            measured.append(
                _Measured(
                    tuple(stores.name(source) for source in sources),
                    rows.X.shape[1],
                    outcome.best.C,
                    cross_fitted(logits, y, groups, stated, weight),
                    all(solution.converged for solution in solutions),
                    time.perf_counter() - started,
                )
            )
    return Comparison(
        _compared(measured, y, weight, labels, metric, seed),
        metric,
        tuple(labels),
        tuple(stated.tolist()),
        len(y),
        rows.unlabelled,
        stores.matching,
        f"{cv}-fold cross-validation, each text by a model that did not see it",
    )


def _lines(stores: Joined, combine: Sequence[Sequence[str]]) -> list[tuple[VectorSpec, ...]]:
    """Every view, and what is asked for beside; each once."""
    lines: list[tuple[VectorSpec, ...]] = [(source,) for source in stores.every_view()]
    for asked in combine:
        found = tuple(stores.choose(asked))
        if len(found) < 2:
            raise InputError(
                f"--combine {','.join(asked)}: name two views or more, with commas between them"
            )
        if found not in lines:
            lines.append(found)
    return lines


def _compared(
    measured: Sequence[_Measured],
    y: Codes,
    weight: Floats,
    labels: Sequence[str],
    metric: str,
    seed: int,
) -> tuple[Compared, ...]:
    """Order the lines by their figure, and test their differences to the first one's."""
    sign = -1 if metric == "log-loss" else 1
    figures = np.array([score(metric, y, one.proba, weight) for one in measured])
    draws = resampled(metric, y, [one.proba for one in measured], weight=weight, seed=seed)
    order = sorted(range(len(measured)), key=lambda i: (-sign * figures[i], measured[i].width))
    best = order[0]
    return tuple(
        Compared(
            measured[i].views,
            measured[i].width,
            measured[i].C,
            measure(y, measured[i].proba, labels, seed=seed, weight=weight),
            float(figures[i] - figures[best]),
            interval(draws[:, i] - draws[:, best]),
            measured[i].converged,
            measured[i].seconds,
        )
        for i in order
    )
