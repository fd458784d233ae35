"""Choose C: fit every one of a grid on a part of the rows, and judge it on the others.

In come prepared vectors and the trials; out comes, for each C, what its models say about rows that
they did not see, and of the best one all that is needed to go on. The figures of a choice are
nested: the rows of each fold are measured at the C that the other folds choose. Where rows are few,
the models that these folds hear did not see the rows of that fold either, as in a loop of
cross-validations inside another; with many rows, that would cost more than it changes. All models
are solved together, in the same passes over the data. Solving is in `pipeline/solver/solve.py`, the
rule of the choice in `pipeline/evaluation/choice.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from features.base.arrays import Floating, Floats, Indices
from pipeline.evaluation.choice import C_GRID, Candidate, choose, paired
from pipeline.evaluation.held_out import HeldOut
from pipeline.evaluation.metrics import METRICS, influence, score
from pipeline.evaluation.options import Options
from pipeline.evaluation.trials import Target, Trials
from pipeline.head.calibration import TEMPERATURE, fit_calibration
from pipeline.head.priors import importance, shift
from pipeline.solver.blocks import Rows
from pipeline.solver.solve import Data, Solution, softmax, solve_grid

FOLDS = 5
# Certificate of the models that only choose C. On 45,616 tweets it moves the log-loss of a fold by
# 0.0003 at most, a tenth of its standard error, from where 1e-7 puts it.
SELECTION_TOL = 1e-3
# Rows that give the temperature at which a C is judged, at most; they know it to a percent or two,
# which moves the log-loss by less than 1e-5.
_TEMPERATURE_ROWS = 5000


@dataclass(frozen=True)
class Outcome:
    """What came of the trials.

    Attributes
    ----------
    candidates : tuple of Candidate
        One a C.
    best : Candidate
        The one that is chosen.
    solutions : sequence of Solution
        Of the chosen C, one a trial; with validation rows there is one.
    held_out : HeldOut
        The rows that the first repeat judges on, and what those solutions say about them.
    nested : HeldOut
        The same rows, and what models say about them whose C was chosen by the others: figures of
        these don't profit from the choice.
    nested_choices : tuple of float
        The C that each group of these rows is measured with.
    converged : bool
        Whether the models of every C were fitted to their tolerance.
    """

    candidates: tuple[Candidate, ...]
    best: Candidate
    solutions: Sequence[Solution]
    held_out: HeldOut
    nested: HeldOut
    nested_choices: tuple[float, ...]
    converged: bool


def select(data: Data, target: Target, trials: Trials, options: Options) -> Outcome:
    """Fit every C of `C_GRID` in every trial, and choose one."""
    solutions = solve_grid(
        data,
        C_GRID,
        trials.training,
        tol=max(options.tol, SELECTION_TOL),
        max_iter=options.max_iter,
    )
    return judge(C_GRID, solutions, target, trials, options)


def judge(
    grid: Sequence[float],
    solutions: Sequence[Solution],
    target: Target,
    trials: Trials,
    options: Options,
) -> Outcome:
    """Compare every C by what its models say about rows that they did not see.

    Parameters
    ----------
    grid : sequence of float
        Every C was tried with every training set of the trials.
    solutions : sequence of Solution
        Those of one C follow each other.
    target : Target
        With the prior that the models answer for, and the one that they are judged under.
    trials : Trials
    options : Options
    """
    n_models, n_trials = len(trials.training), len(trials.all)
    of_C = [solutions[n * n_models : (n + 1) * n_models] for n in range(len(grid))]
    scores: list[list[Floating]]
    if trials.validation is None:
        scores = [[one.held_out for one in found] for found in of_C]
    else:
        scores = [[one] for one in _logits(trials.validation, [found for (found,) in of_C])]
    moved = shift(target.fitted, target.stated)

    def of_first(number: int) -> Floats:
        """What the models of a C say about the rows of the first repeat, in one array."""
        return np.concatenate(scores[number][: trials.n_first]) + moved

    judged: dict[tuple[int, int], _Judged] = {}
    jury = _Jury(
        [trial.y for trial in trials.all],
        [trial.texts for trial in trials.all],
        [of_models[:n_trials] for of_models in scores],
        moved,
        trials.repeats,
        range(n_trials),
    )
    candidates = jury.candidates(grid, target, options, judged)
    chosen = candidates.index(_choose(candidates, options))
    held_out = HeldOut(trials.y, of_first(chosen), trials.groups, target.stated)
    nested, nested_choices, calibrated_by = held_out.logits.copy(), [], {}
    for group, others in _other_juries(trials, scores, moved):
        found = others.candidates(grid, target, options, judged)
        best = found.index(_choose(found, options))
        nested[trials.groups == group] = of_first(best)[trials.groups == group]
        nested_choices.append(grid[best])
        calibrated_by[group] = others.held_out(best, target.stated)
    return Outcome(
        candidates,
        candidates[chosen],
        of_C[chosen][:n_trials],
        held_out,
        replace(held_out, logits=nested, calibrated_by=calibrated_by),
        tuple(nested_choices),
        all(solution.converged for solution in solutions),
    )


# What the metric says of a part of the rows at a C: its score, and what each row adds to it.
_Judged = tuple[float, Floats]


@dataclass(frozen=True)
class _Jury:
    """Rows that judge every C, in parts: the mean over the parts is the score.

    Attributes
    ----------
    y, texts : lists of int arrays (n,)
        Of each part: the classes and the texts of its rows.
    logits : list of lists of float arrays (n, K)
        For each C, what its models say about each part, under their own prior.
    moved : float64 array (K,)
        Moves these to the prior that is judged under. They are moved where they are looked at: of
        all C together they take more memory than all else that belongs to a row.
    repeats : int
        Times that the same rows are in the parts.
    trials : sequence of int
        Of each part, the trial whose model says all of it; empty where other models do.
    """

    y: list[Indices]
    texts: list[Indices]
    logits: list[list[Floating]]
    moved: Floats
    repeats: int = 1
    trials: Sequence[int] = ()

    def candidates(
        self,
        grid: Sequence[float],
        target: Target,
        options: Options,
        judged: dict[tuple[int, int], _Judged],
    ) -> tuple[Candidate, ...]:
        """Score every C, and give the standard errors of the differences.

        `judged` has what is known already, by C and trial, and gets what is found here.
        """
        weights = [importance(y, target.stated) for y in self.y]
        _, text = np.unique(np.concatenate(self.texts), return_inverse=True)
        candidates: list[Candidate] = []
        influences: list[Floats] = []
        of_losses: list[Floats] = []
        for number, (C, logits) in enumerate(zip(grid, self.logits, strict=True)):
            of_metric = [
                self._judged(number, part, options.metric, weights[part], judged)
                for part in range(len(logits))
            ]
            scores = tuple(one for one, _ in of_metric)
            tempered = list(
                zip(self.y, self._tempered(logits, target, weights), weights, strict=True)
            )
            loss = float(np.mean([score("log-loss", *part) for part in tempered]))
            candidates.append(Candidate(C, scores, self.repeats, log_loss=loss))
            for moves, found in (
                ([one for _, one in of_metric], influences),
                ([influence("log-loss", *part) for part in tempered], of_losses),
            ):
                joined = np.concatenate(moves) / len(logits)
                found.append(np.bincount(text, joined).astype(np.float64))
        higher = METRICS[options.metric].higher_is_better
        return paired(
            candidates, np.array(influences), np.array(of_losses), higher_is_better=higher
        )

    def _judged(
        self,
        number: int,
        part: int,
        metric: str,
        weight: Floats,
        judged: dict[tuple[int, int], _Judged],
    ) -> _Judged:
        """Judge a part at the C of this number, unless another jury has done so."""
        key = (number, self.trials[part]) if self.trials else None
        if key is not None and key in judged:
            return judged[key]
        rows = self.y[part], softmax(self.logits[number][part] + self.moved), weight
        found = score(metric, *rows), influence(metric, *rows)
        if key is not None:
            judged[key] = found
        return found

    def held_out(self, number: int, prior: Floats) -> HeldOut:
        """Give the rows with what the models of one C say about them."""
        groups = np.repeat(np.arange(len(self.y)), [len(y) for y in self.y])
        logits = np.concatenate(self.logits[number]) + self.moved
        return HeldOut(np.concatenate(self.y), logits, groups, prior)

    def _tempered(
        self, logits: Sequence[Floating], target: Target, weights: Sequence[Floats]
    ) -> list[Floats]:
        """Give probabilities at the temperature of all parts, found on enough of the rows."""
        wide = [one + self.moved for one in logits]
        y, every = np.concatenate(self.y), np.concatenate(wide)
        some = slice(None, None, -(-len(y) // _TEMPERATURE_ROWS))
        prior, weight = target.stated, np.concatenate(weights)
        found = fit_calibration(TEMPERATURE, every[some], y[some], prior, weight[some])
        return [found.probabilities(one, prior) for one in wide]


def _choose(candidates: Sequence[Candidate], options: Options) -> Candidate:
    return choose(
        candidates,
        higher_is_better=METRICS[options.metric].higher_is_better,
        one_standard_error=options.one_standard_error,
    )


def _other_juries(
    trials: Trials, scores: Sequence[Sequence[Floating]], moved: Floats
) -> Iterator[tuple[int, _Jury]]:
    """Give, for each group of the rows of the first repeat, all others as a jury.

    Where there are pairs, the jury hears models that did not see the rows of the group either.
    """
    n_trials, first = len(trials.all), trials.all[: trials.n_first]
    if len(scores) == 1:  # nothing is chosen
        return
    for group in np.unique(trials.groups):
        if trials.validation is not None:
            others = trials.groups != group
            if others.any():
                of_others = [[logits[others]] for (logits,) in scores]
                yield group, _Jury([trials.y[others]], [first[0].texts[others]], of_others, moved)
            continue
        # Numbers of models, which of the rows that they score, and the trials of these rows.
        heard: list[tuple[int, slice | npt.NDArray[np.bool_], int]] = []
        whole: list[int] = []
        if trials.pairs:
            for number, pair in enumerate(trials.pairs, n_trials):
                a, b = pair.trials
                if group in (a, b):
                    other = b if group == a else a
                    heard.append((number, pair.of_first == (other == a), other))
        else:
            heard = [(other, slice(None), other) for other in range(len(first)) if other != group]
            whole = [other for other, _, _ in heard]
        yield (
            group,
            _Jury(
                [first[other].y for _, _, other in heard],
                [first[other].texts for _, _, other in heard],
                [[of_models[model][rows] for model, rows, _ in heard] for of_models in scores],
                moved,
                trials=whole,
            ),
        )


def _logits(X: Rows, solutions: Sequence[Solution]) -> list[npt.NDArray[np.float32]]:
    """Score raw vectors (N, D) by each model, (N, K)."""
    shape = (X.shape[0], len(solutions[0].intercept))
    logits = [np.empty(shape, np.float32) for _ in solutions]
    start = 0
    for block in X.blocks():
        x = block.astype(np.float32, copy=False)
        for one, solution in zip(logits, solutions, strict=True):
            one[start : start + len(x)] = x @ solution.coef.T + solution.intercept
        start += len(x)
    return logits
