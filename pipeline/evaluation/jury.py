"""Let rows judge every C: what models say about rows that they did not see in, figures out.

What is kept for each row and C is what the models say, in float32, and the class that they predict,
in a byte or two. All else is computed a C at a time, so that millions of rows are judged in little
more memory than that. Whom a jury hears is settled in `pipeline/evaluation/cross_validation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from features.base.arrays import Codes, Floating, Floats, Indices, Mask
from pipeline.evaluation.choice import (
    Candidate,
    choose,
    paired_in_loss,
    paired_in_score,
    plateau,
)
from pipeline.evaluation.held_out import HeldOut
from pipeline.evaluation.metrics import (
    LOG_LOSS,
    METRICS,
    MeanOfRows,
    OfConfusion,
    confusion_of,
    influence_on_mean,
    slopes,
)
from pipeline.evaluation.options import Options
from pipeline.head.calibration import TEMPERATURE, Calibration, fit_calibration
from pipeline.head.priors import importance
from pipeline.solver.solve import softmax

# Rows that give the temperature at which a C is judged, at most; they know it to a percent or two,
# which moves the log-loss by less than 1e-5.
_TEMPERATURE_ROWS = 5000
# Rows whose probabilities are there at a time.
_AT_ONCE = 2**16


@dataclass(frozen=True)
class Jury:
    """Rows that judge every C, in parts: the mean over the parts is the score.

    Attributes
    ----------
    y, texts : lists of int arrays (n,)
        Of each part: the classes of its rows, and the numbers of their texts.
    logits : list of lists of float arrays (n, K)
        For each C, what its models say about each part, under their own prior.
    moved : float64 array (K,)
        Moves these to the prior that is judged under. They are moved where they are looked at: of
        all C together they take more memory than all else that belongs to a row.
    prior : float64 array (K,)
        The one that is judged under.
    repeats : int
        Times that the same rows are in the parts.
    trials : sequence of int
        Of each part, the trial whose model says all of it; empty where other models do.
    known : dict
        The classes that are predicted for all rows of a trial, by the numbers of C and trial, so
        that juries that hear the same models don't ask twice.
    """

    y: list[Indices]
    texts: list[Codes]
    logits: list[list[Floating]]
    moved: Floats
    prior: Floats
    repeats: int = 1
    trials: Sequence[int] = ()
    known: dict[tuple[int, int], Codes] = field(default_factory=dict)

    def candidates(self, grid: Sequence[float], options: Options) -> tuple[Candidate, ...]:
        """Score every C, with the standard errors of the differences."""
        return self._with_losses(self._scored(grid, options), range(len(grid)), options)

    def best(self, grid: Sequence[float], options: Options) -> int:
        """Choose a C, and give its number; what has no part in the choice is not computed."""
        found = self._scored(grid, options)
        higher = METRICS[options.metric].higher_is_better
        if not options.one_standard_error:
            near = plateau(found, higher_is_better=higher)
            found = self._with_losses(near, [found.index(one) for one in near], options)
        return grid.index(chosen(found, options).C)

    def held_out(self, number: int) -> HeldOut:
        """Give the rows with what the models of one C say about them."""
        groups = np.repeat(np.arange(len(self.y)), [len(y) for y in self.y])
        logits = np.concatenate(self.logits[number]) + self.moved
        return HeldOut(np.concatenate(self.y), logits, groups, self.prior)

    def of(self, number: int) -> Jury:
        """Give the same rows with what is said at one C alone."""
        return replace(self, logits=[self.logits[number]], known={})

    def by_text(self, moves: Iterable[Floats]) -> Floats:
        """Add up what the rows of each part move, (n,) each, by the texts of all, (G,)."""
        joined, filled = np.empty(len(self._text)), 0
        for of_part in moves:
            joined[filled : filled + len(of_part)] = of_part
            filled += len(of_part)
        joined /= len(self.y)
        found = np.asarray(np.bincount(self._text, joined), np.float64)
        return found if self._there.all() else found[self._there]

    @cached_property
    def _text(self) -> Codes:
        return np.concatenate(self.texts)

    @cached_property
    def _there(self) -> Mask:
        """Say which numbers of texts there are."""
        found = np.zeros(int(self._text.max()) + 1, bool)
        found[self._text] = True
        return found

    def predicted(self, number: int, part: int) -> Codes:
        """Give the most probable classes of the rows of a part, (n,), in few bytes."""
        key = (number, self.trials[part]) if self.trials else (number, -1 - part)
        if key not in self.known:
            logits = self.logits[number][part]
            found = np.empty(len(logits), np.min_scalar_type(len(self.prior)))
            for rows in _some(len(logits)):
                found[rows] = softmax(logits[rows] + self.moved).argmax(axis=1)
            self.known[key] = found
        return self.known[key]

    def _scored(self, grid: Sequence[float], options: Options) -> tuple[Candidate, ...]:
        """Score every C by the metric."""
        metric = METRICS[options.metric]
        judge: _OfMean | _OfClasses
        if isinstance(metric, MeanOfRows):
            judge = _OfMean(self, metric, [softmax] * len(grid))
        else:
            judge = _OfClasses(self, metric)
        found = [Candidate(C, judge.scores(n), self.repeats) for n, C in enumerate(grid)]
        return paired_in_score(found, judge, higher_is_better=metric.higher_is_better)

    def _with_losses(
        self, candidates: Sequence[Candidate], numbers: Sequence[int], options: Options
    ) -> tuple[Candidate, ...]:
        """Add the log-losses of some C, of these numbers, at the temperature of all parts."""
        found = [partial(self._temperature(n).probabilities, prior=self.prior) for n in numbers]
        judge = _OfMean(self, LOG_LOSS, found, numbers)
        losses = [float(np.mean(judge.scores(n))) for n in range(len(numbers))]
        told = [replace(one, log_loss=loss) for one, loss in zip(candidates, losses, strict=True)]
        higher = METRICS[options.metric].higher_is_better
        return paired_in_loss(told, judge, higher_is_better=higher)

    def _temperature(self, number: int) -> Calibration:
        """Find the temperature of what is said at a C, on enough of the rows."""
        some, y, weight = self._sample
        logits = np.concatenate(
            [one[at] for one, at in zip(self.logits[number], some, strict=True)]
        )
        return fit_calibration(TEMPERATURE, logits + self.moved, y, self.prior, weight)

    @cached_property
    def _sample(self) -> tuple[list[slice], Codes, Floats]:
        """Take rows evenly over all parts: where they are in each, their classes and weights."""
        n_rows = [len(y) for y in self.y]
        every = -(-sum(n_rows) // _TEMPERATURE_ROWS)
        first = np.cumsum([0, *n_rows[:-1]])
        some = [slice(int(-start % every), None, every) for start in first]
        weights = [importance(y, self.prior)[at] for y, at in zip(self.y, some, strict=True)]
        y = np.concatenate([y[at] for y, at in zip(self.y, some, strict=True)])
        return some, y, np.concatenate(weights)


@dataclass(frozen=True)
class _OfClasses:
    """A metric of the confusion matrix, as rows judge by it; see `Moves`."""

    jury: Jury
    metric: OfConfusion

    def scores(self, number: int) -> tuple[float, ...]:
        """Give the score of each part at a C."""
        parts = range(len(self.jury.y))
        return tuple(float(self.metric.figure(self._confusion(number, part))) for part in parts)

    def __getitem__(self, number: int, /) -> Floats:
        return self.jury.by_text(self._moves(number))

    def _moves(self, number: int) -> Iterator[Floats]:
        for part, y in enumerate(self.jury.y):
            of_cell = slopes(self.metric, self._confusion(number, part))
            yield of_cell[y, self.jury.predicted(number, part)]

    def _confusion(self, number: int, part: int) -> npt.NDArray[np.int64]:
        predicted = self.jury.predicted(number, part)
        return confusion_of(self.jury.y[part], predicted, len(self.jury.prior))


@dataclass(frozen=True)
class _OfMean:
    """A metric that is a mean over rows, as rows judge by it; see `Moves`.

    Attributes
    ----------
    jury : Jury
    metric : MeanOfRows
    probabilities : sequence of callables
        For each C, what turns logits (n, K) into probabilities.
    numbers : sequence of int, optional
        Which C those are; default all.
    """

    jury: Jury
    metric: MeanOfRows
    probabilities: Sequence[Callable[[Floats], Floats]]
    numbers: Sequence[int] | None = None

    def scores(self, number: int) -> tuple[float, ...]:
        """Give the score of each part at a C."""
        return tuple(
            float(np.average(values, weights=weight)) for values, weight in self._parts(number)
        )

    def __getitem__(self, number: int, /) -> Floats:
        return self.jury.by_text(influence_on_mean(*part) for part in self._parts(number))

    def _parts(self, number: int) -> Iterator[tuple[Floats, Floats]]:
        """Give what the rows of each part add, and their weights, (n,) each."""
        C = number if self.numbers is None else self.numbers[number]
        for y, logits in zip(self.jury.y, self.jury.logits[C], strict=True):
            values = np.empty(len(y))
            for rows in _some(len(y)):
                proba = self.probabilities[number](logits[rows] + self.jury.moved)
                values[rows] = self.metric.of_rows(y[rows], proba)
            yield values, importance(y, self.jury.prior)


def _some(n_rows: int) -> Iterator[slice]:
    """Go through rows, some of them at a time."""
    return (slice(start, start + _AT_ONCE) for start in range(0, n_rows, _AT_ONCE))


def chosen(candidates: Sequence[Candidate], options: Options) -> Candidate:
    """Choose among candidates as the options say."""
    return choose(
        candidates,
        higher_is_better=METRICS[options.metric].higher_is_better,
        one_standard_error=options.one_standard_error,
    )
