"""Choose C: fit every one of a grid on a part of the rows, and judge it on the others.

In come prepared vectors and the trials; out comes, for each C, what its models say about rows that
they did not see, and of the best one all that is needed to go on. Solving is in
`pipeline/solver/solve.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.base.arrays import Floating
from pipeline.evaluation.folds import C_GRID, Candidate, choose
from pipeline.evaluation.held_out import HeldOut
from pipeline.evaluation.metrics import METRICS, score
from pipeline.evaluation.options import Options
from pipeline.evaluation.trials import Target, Trials
from pipeline.head.priors import importance, shift
from pipeline.solver.blocks import Rows
from pipeline.solver.solve import Data, Solution, softmax, solve_grid

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
    converged : bool
        Whether the models of every C were fitted to their tolerance.
    """

    candidates: tuple[Candidate, ...]
    best: Candidate
    solutions: Sequence[Solution]
    held_out: HeldOut
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
        Every C was tried with every trial.
    solutions : sequence of Solution
        Those of one C follow each other.
    target : Target
        With the prior that the models answer for, and the one that they are judged under.
    trials : Trials
    options : Options
    """
    n_trials = len(trials.all)
    of_C = [solutions[n * n_trials : (n + 1) * n_trials] for n in range(len(grid))]
    logits: list[list[Floating]]
    if trials.validation is None:
        logits = [[one.held_out for one in found] for found in of_C]
    else:
        logits = [[one] for one in _logits(trials.validation, [found for (found,) in of_C])]
    moved = [
        [one + shift(target.fitted, target.stated) for one in of_trials] for of_trials in logits
    ]
    weights = [importance(trial.y, target.stated) for trial in trials.all]
    candidates = tuple(
        Candidate(
            C,
            tuple(
                score(options.metric, trial.y, softmax(one), weight)
                for trial, one, weight in zip(trials.all, of_trials, weights, strict=True)
            ),
            trials.repeats,
        )
        for C, of_trials in zip(grid, moved, strict=True)
    )
    best = choose(
        candidates,
        higher_is_better=METRICS[options.metric].higher_is_better,
        one_standard_error=options.one_standard_error,
    )
    chosen = candidates.index(best)
    first = np.concatenate(moved[chosen][: trials.n_first]).astype(np.float64)
    held_out = HeldOut(trials.y, first, trials.groups, target.stated)
    converged = all(solution.converged for solution in solutions)
    return Outcome(candidates, best, of_C[chosen], held_out, converged)


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
