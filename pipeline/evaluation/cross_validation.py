"""Choose C: fit every one of a grid on a part of the rows, and judge it on the others.

In come prepared vectors and the trials; out comes, for each C, what its models say about rows that
they did not see, and of the best one all that is needed to go on. The figures of a choice are
nested: the rows of each fold are measured at the C that the other folds choose. Where rows are few,
the models that these folds hear did not see the rows of that fold either, as in a loop of
cross-validations inside another; with many rows, that would cost more than it changes. All models
are solved together, in the same passes over the data. Solving is in `pipeline/solver/solve.py`, how
rows judge in `pipeline/evaluation/jury.py`, and the rule of the choice in
`pipeline/evaluation/choice.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from features.base.arrays import Codes, Floating, Indices
from pipeline.evaluation.choice import C_GRID, Candidate
from pipeline.evaluation.held_out import HeldOut, MadeWhenAsked
from pipeline.evaluation.jury import Jury, chosen
from pipeline.evaluation.options import Options
from pipeline.evaluation.trials import Target, Trials
from pipeline.head.priors import shift
from pipeline.solver.blocks import Rows
from pipeline.solver.solve import Data, Solution, solve_grid

FOLDS = 5
# Certificate of the models that only choose C. On 45,616 tweets it moves the log-loss of a fold by
# 0.0003 at most, a tenth of its standard error, from where 1e-7 puts it.
SELECTION_TOL = 1e-3


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
    said: list[list[Floating]]
    if trials.validation is None:
        said = [[one.held_out for one in found] for found in of_C]
    else:
        said = [[one] for one in _logits(trials.validation, [found for (found,) in of_C])]
    jury = Jury(
        [trial.y for trial in trials.all],
        [trial.texts for trial in trials.all],
        [of_models[:n_trials] for of_models in said],
        shift(target.fitted, target.stated),
        target.stated,
        trials.repeats,
        range(n_trials),
    )
    candidates = jury.candidates(grid, options)
    best = candidates.index(chosen(candidates, options))
    logits = np.concatenate(said[best][: trials.n_first]) + jury.moved
    held_out = HeldOut(trials.y, logits, trials.groups, target.stated)
    nested, nested_choices, calibrated_by = logits, [], {}
    for group, others in _other_juries(trials, said, jury):
        number = others.best(grid, options)
        if number != best:
            its = trials.groups == group
            of_group = said[number][group] if trials.validation is None else said[number][0][its]
            nested = logits.copy() if nested is logits else nested
            nested[its] = of_group + jury.moved
        nested_choices.append(grid[number])
        calibrated_by[int(group)] = partial(others.of(number).held_out, 0)
    return Outcome(
        candidates,
        candidates[best],
        of_C[best][:n_trials],
        held_out,
        replace(held_out, logits=nested, calibrated_by=MadeWhenAsked(calibrated_by)),
        tuple(nested_choices),
        all(solution.converged for solution in solutions),
    )


def _other_juries(
    trials: Trials, said: Sequence[Sequence[Floating]], everyone: Jury
) -> Iterator[tuple[int, Jury]]:
    """Give, for each group of the rows of the first repeat, all others as a jury.

    Where there are pairs, the jury hears models that did not see the rows of the group either.
    """
    n_trials, first = len(trials.all), trials.all[: trials.n_first]
    if len(said) == 1:  # nothing is chosen
        return

    def of_others(
        y: list[Indices], texts: list[Codes], logits: list[list[Floating]], whole: Sequence[int]
    ) -> Jury:
        known = everyone.known if whole else {}
        return replace(
            everyone, y=y, texts=texts, logits=logits, repeats=1, trials=whole, known=known
        )

    for group in np.unique(trials.groups):
        if trials.validation is not None:
            others = trials.groups != group
            if others.any():
                logits = [[of_all[others]] for (of_all,) in said]
                yield group, of_others([trials.y[others]], [first[0].texts[others]], logits, ())
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
            of_others(
                [first[other].y for _, _, other in heard],
                [first[other].texts for _, _, other in heard],
                [[of_models[model][rows] for model, rows, _ in heard] for of_models in said],
                whole,
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
