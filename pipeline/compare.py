"""Compare the views of a store: one table of what each layer and pooling is worth. No torch.

Every view, and every combination of several side by side, goes through the same folds and the same
grid of C. All are then measured on the same rows, so that their differences can be tested in pairs.
No head is made: `fit` does that, with the view that is chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from features.base.arrays import Floats
from features.base.machine import bytes_of
from features.engines.engine import Engine
from features.errors import InputError
from features.spec.vector_spec import VectorSpec
from pipeline.data.conflicts import Conflicts, settle
from pipeline.data.corrections import Corrections, correct
from pipeline.data.join import Joined, open_joined
from pipeline.data.labelled_rows import classes_of, labelled_rows
from pipeline.data.matching import Matching
from pipeline.data.shared_rows import Sharing
from pipeline.evaluation.bootstrap import interval, resampled
from pipeline.evaluation.cross_validation import FOLDS, SELECTION_TOL, select
from pipeline.evaluation.metrics import METRICS, Metrics, measure, score
from pipeline.evaluation.options import Options
from pipeline.evaluation.trials import Target, Trials, are_few, fold_trials, target_of, weighed
from pipeline.head.calibration import TEMPERATURE
from pipeline.head.priors import importance
from pipeline.solver import blas


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
    corrections : Corrections
        Labels that were given by hand.
    conflicts : Conflicts
        Texts that come with several labels, and what was done with their rows.
    measured_on : str
    """

    lines: tuple[Compared, ...]
    metric: str
    labels: tuple[str, ...]
    prior: tuple[float, ...]
    rows: int
    unlabelled: int
    matching: Matching | None
    corrections: Corrections
    conflicts: Conflicts
    measured_on: str

    def _repr_html_(self) -> str:
        """Show it in a notebook, the best line first."""
        from features.base.notebook import facts_html, table_html

        metric = METRICS[self.metric].label
        rows = []
        for line in self.lines:
            low, high = line.difference_interval
            differing = f"{line.difference:+.4f} ({low:+.4f} to {high:+.4f})"
            told = "" if line.distinguishable else "~ best"
            figure = f"{line.metrics.figures[self.metric]:.4f}"
            is_best = line is self.lines[0]
            cells = [line.name, f"{line.width:,}", f"{line.C:g}", figure]
            rows.append([*cells, *(["", "best"] if is_best else [differing, told])])
        facts = {"rows": f"{self.rows:,}", "measured on": self.measured_on}
        heads = ["view", "D", "C", metric, "Δ vs best (95 % interval)", ""]
        return facts_html(f"Comparison by {metric}", facts) + table_html(heads, rows)

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as JSON types."""
        content = dataclasses.asdict(dataclasses.replace(self, corrections=Corrections()))
        content["corrections"] = self.corrections.counts() if self.corrections.files else None
        for entry, line in zip(content["lines"], self.lines, strict=True):
            entry["metrics"] = line.metrics.to_dict()
            entry["distinguishable"] = line.distinguishable
        return content


# Views side by side.
_Line = tuple[VectorSpec, ...]


@dataclass(frozen=True, eq=False)
class _Measured:
    views: tuple[str, ...]
    width: int
    C: float
    proba: Floats
    figure: float
    converged: bool
    seconds: float


@blas.one_thread()
def compare(
    features: str | Path | Sequence[str | Path],
    *,
    combine: Sequence[Sequence[str]] | str = (),
    cv: int = FOLDS,
    corrections: str | Path | Sequence[str | Path] | None = None,
    conflicts: str = "keep",
    metric: str = "macro-recall",
    class_weight: str = "balanced",
    prior: str | Mapping[str, float] | None = None,
    seed: int = 0,
    max_iter: int = 1000,
    memory: int | str | None = None,
    engine: Engine | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> Comparison:
    """Measure every view of one store or several in the same cross-validation.

    Parameters
    ----------
    features : path or sequence of paths
        What `extract` wrote, with labels; of one encoder or of several, as for `fit`.
    combine : sequence of sequences of str, or "auto"
        Views to be tried side by side as well, as `pooling` of `fit` names them. `auto` starts from
        the best view and adds the one that helps most, for as long as the paired interval of what
        it adds lies above 0.
    cv : int
        Folds; see `make_folds`.
    metric : str
        One of `METRICS`: C is chosen by it, and the lines are compared in it.
    corrections, conflicts, class_weight, prior, seed, max_iter, memory, engine
        As for `fit`. The seed is that of the folds and of the bootstrap.
    progress : callable, optional
        Called with the number of lines that are done, with the share of the one that is at work,
        and of all.

    Notes
    -----
    Probabilities are calibrated as those of `fit` are, and C is chosen as there: no row judges the
    C that it is measured with. But the best line is the best of those tested: its own figure is a
    little too good, as is its lead. The intervals hold one by one, not all at a time.

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
    options = Options(
        metric=metric,
        class_weight=class_weight,
        prior=prior,
        seed=seed,
        max_iter=max_iter,
        tol=SELECTION_TOL,
        memory=bytes_of(memory),
    )
    sharing = Sharing(engine, None if memory is None else options.memory)
    with ExitStack() as files:
        joined = files.enter_context(open_joined(features))
        corrected, corrections_made = correct(joined, corrections)
        settled, found = settle(corrected, conflicts)
        asked = _lines(settled, combine)
        labels = classes_of(settled)
        stores = files.enter_context(sharing.out(settled, features))
        rows = labelled_rows(stores, asked[0], labels)
        target = target_of(rows.y, labels, options)
        every = stores.every_view()
        widest = _width(tuple(every)) if combine == "auto" else max(map(_width, asked))
        nested = are_few(len(rows.y), widest, len(labels))
        trials = fold_trials(target, rows.texts, options, n_folds=cv, n_tried=cv, nested=nested)

        def measure_lines(lines: Sequence[_Line]) -> list[_Measured]:
            found = []
            for number, sources in enumerate(lines):
                told = None
                if progress is not None:
                    progress(number, len(lines))
                    told = partial(_tell, progress, number, len(lines))
                found.append(_measure(stores, sources, target, trials, options, told))
            return found

        measured = measure_lines(asked)
        if combine == "auto":
            measured += _grown(measured, every, measure_lines, target, trials, options)
    return Comparison(
        _compared(measured, target, trials, options),
        metric,
        target.labels,
        tuple(target.stated.tolist()),
        len(trials.y),
        rows.unlabelled,
        stores.matching,
        corrections_made,
        found,
        trials.measured_on,
    )


def _measure(
    stores: Joined,
    sources: Sequence[VectorSpec],
    target: Target,
    trials: Trials,
    options: Options,
    told: Callable[[float, int], None] | None,
) -> _Measured:
    """Choose C for some views side by side, and take what their held-out rows got."""
    started = perf_counter()
    rows = labelled_rows(stores, sources, target.labels)
    data = target.prepared(rows.X, options.memory)
    data = weighed(data, target, [source.width for source in sources], rows.texts)
    outcome = select(dataclasses.replace(data, told=told), target, trials, options)
    proba, weight = outcome.nested.calibrated(TEMPERATURE), outcome.nested.weight
    return _Measured(
        tuple(stores.name(source) for source in sources),
        rows.X.shape[1],
        outcome.best.C,
        proba,
        score(options.metric, trials.y, proba, weight),
        outcome.converged,
        perf_counter() - started,
    )


def _tell(
    progress: Callable[[float, int], None], line: int, of_lines: int, done: float, of: int
) -> None:
    """Tell how far a line is, by its models that are done."""
    progress(line + done / of, of_lines)


def _width(sources: _Line) -> int:
    return sum(source.width for source in sources)


def _lines(stores: Joined, combine: Sequence[Sequence[str]] | str) -> list[_Line]:
    """Give every view, and what is asked for beside; each once."""
    lines: list[_Line] = [(source,) for source in stores.every_view()]
    if isinstance(combine, str):
        if combine != "auto":
            raise InputError(f"`combine` is {combine!r}: give lists of views, or auto")
        return lines
    for asked in combine:
        if list(asked) == ["auto"]:
            raise InputError("`combine=auto` finds its views itself: leave out the others, or auto")
        found = tuple(stores.choose(asked))
        if len(found) < 2:
            raise InputError(
                f"`combine` names {','.join(asked) or 'nothing'} by itself: name two views or "
                "more to be put side by side, e.g. cls,mean@-2"
            )
        if found not in lines:
            lines.append(found)
    return lines


def _grown(
    singles: Sequence[_Measured],
    every: Sequence[VectorSpec],
    measure_lines: Callable[[Sequence[_Line]], list[_Measured]],
    target: Target,
    trials: Trials,
    options: Options,
) -> list[_Measured]:
    """Add view after view to the best one, while rows can tell that it helps; give all tried.

    That is forward selection, which does not try every set. Of what is tried in a step the best is
    tested, so that its interval is a little too good.
    """
    now = _ranked(singles, options.metric)[0]
    taken: _Line = (every[singles.index(now)],)
    tried: list[_Measured] = []
    while len(taken) < len(every):
        lines = [(*taken, source) for source in every if source not in taken]
        found = measure_lines(lines)
        tried += found
        best = _ranked(found, options.metric)[0]
        sign = 1 if METRICS[options.metric].higher_is_better else -1
        draws = resampled(
            options.metric,
            trials.y,
            [now.proba, best.proba],
            weight=importance(trials.y, target.stated),
            seed=options.seed,
        )
        if min(sign * bound for bound in interval(draws[:, 1] - draws[:, 0])) <= 0:
            break
        now, taken = best, lines[found.index(best)]
    return tried


def _ranked(measured: Sequence[_Measured], metric: str) -> list[_Measured]:
    """Order by the metric, the best first; among equals the narrowest."""
    sign = 1 if METRICS[metric].higher_is_better else -1
    return sorted(measured, key=lambda one: (-sign * one.figure, one.width))


def _compared(
    measured: Sequence[_Measured], target: Target, trials: Trials, options: Options
) -> tuple[Compared, ...]:
    """Order the lines by their figure, and test their differences to the first one's."""
    metric, seed, y = options.metric, options.seed, trials.y
    weight = importance(y, target.stated)
    draws = resampled(metric, y, [one.proba for one in measured], weight=weight, seed=seed)
    of_line = dict(zip(measured, draws.T, strict=True))
    ranked = _ranked(measured, metric)
    best = ranked[0]
    return tuple(
        Compared(
            one.views,
            one.width,
            one.C,
            measure(y, one.proba, target.labels, seed=seed, weight=weight),
            one.figure - best.figure,
            interval(of_line[one] - of_line[best]),
            one.converged,
            one.seconds,
        )
        for one in ranked
    )
