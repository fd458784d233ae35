"""Models that choose C and are judged: each is fitted on a part of the rows and scores the others.

In come classes, and the ways to leave rows out; out come the problems to solve and, of what the solver
says, the figures for each C and the scores behind the best. Solving is in `pipeline/solver/solve.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Floating, Floats, Indices
from features.errors import InputError
from pipeline.evaluation.folds import Candidate, choose, make_folds
from pipeline.evaluation.metrics import METRICS, score
from pipeline.head.priors import importance, shift
from pipeline.solver.blocks import Rows, default_memory, parse_memory
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import Solution, balanced_weights, softmax

FOLDS = 5
# Certificate of the models that only choose C. On 45,616 tweets it moves the log-loss of a fold by
# 0.0003 at most, a tenth of its standard error, from where 1e-7 puts it.
SELECTION_TOL = 1e-3
CLASS_WEIGHTS = ("none", "balanced")


@dataclass(frozen=True)
class Trial:
    """One cut of the rows: a model is fitted on `training` and judged on rows whose classes are `y`."""

    training: TrainingSet
    y: Indices


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
    logits : sequence of float arrays (n, K)
        Of the chosen C, what each trial's judged rows got, under the stated prior.
    """

    candidates: tuple[Candidate, ...]
    best: Candidate
    solutions: Sequence[Solution]
    logits: Sequence[Floating]


def check_options(
    *, class_weight: str, metric: str, max_iter: int, tol: float, repeats: int
) -> None:
    """Refuse values that are none of those allowed."""
    for value, allowed, what in (
        (class_weight, CLASS_WEIGHTS, "class weight"),
        (metric, METRICS, "metric"),
    ):
        if value not in allowed:
            raise InputError(f"unknown {what} {value!r}: choose {' or '.join(allowed)}")
    if max_iter < 1 or not tol > 0 or repeats < 1:
        raise InputError(f"max iter {max_iter}, tol {tol} and repeats {repeats} must be above 0")


def bytes_of(memory: int | str | None) -> int:
    """Give the bytes of vectors to hold; without, a quarter of what is free."""
    if memory is None:
        return default_memory()
    try:
        return parse_memory(memory)
    except ValueError as error:
        raise InputError(f"memory: {error}; give bytes, or e.g. 512MiB or 2GiB") from error


def training_set(
    y: Indices, n_classes: int, class_weight: str, held_out: npt.NDArray[np.bool_] | None = None
) -> TrainingSet:
    """All rows but those held out, balanced by their own counts or not at all."""
    fitted = y if held_out is None else y[~held_out]
    balanced = class_weight == "balanced"
    return TrainingSet(held_out, balanced_weights(fitted, n_classes) if balanced else None)


def fold_trials(
    y: Indices,
    texts: npt.NDArray[np.integer[Any]],
    labels: Sequence[str],
    *,
    class_weight: str,
    n_folds: int,
    n_tried: int,
    repeats: int,
    seed: int,
) -> list[Trial]:
    """Cut the rows into folds, `repeats` times, and hold out the first `n_tried` of each cut."""
    cuts = [
        make_folds(y, texts, labels, n_folds=n_folds, seed=seed + repeat)
        for repeat in range(repeats)
    ]
    return [
        Trial(training_set(y, len(labels), class_weight, folds == fold), y[folds == fold])
        for folds in cuts
        for fold in range(n_tried)
    ]


def judge(
    grid: Sequence[float],
    trials: Sequence[Trial],
    solutions: Sequence[Solution],
    *,
    metric: str,
    fitted: Floats,
    stated: Floats,
    one_standard_error: bool = False,
    repeats: int = 1,
    validation: Rows | None = None,
) -> Outcome:
    """Compare every C by what its models say about rows that they did not see.

    Parameters
    ----------
    grid, trials
        Every C was tried with every trial.
    solutions : sequence of Solution
        Those of one C follow each other; what follows all of them is not looked at.
    metric : str
        What C is chosen by.
    fitted, stated : float arrays (K,)
        The prior that the models answer for, and the one that they are judged under.
    one_standard_error : bool
        See `choose`.
    repeats : int
        Times that the rows were cut.
    validation : Rows, optional
        The vectors that the one trial is judged on; without, the rows that each trial holds out.
    """
    of_C = [solutions[n * len(trials) : (n + 1) * len(trials)] for n in range(len(grid))]
    logits: list[list[Floating]]
    if validation is None:
        logits = [[one.held_out for one in found] for found in of_C]
    else:
        logits = [[one] for one in _logits(validation, [found for (found,) in of_C])]
    moved = [[one + shift(fitted, stated) for one in of_trials] for of_trials in logits]
    weights = [importance(trial.y, stated) for trial in trials]
    candidates = tuple(
        Candidate(
            C,
            tuple(
                score(metric, trial.y, softmax(one), weight)
                for trial, one, weight in zip(trials, of_trials, weights, strict=True)
            ),
            repeats,
        )
        for C, of_trials in zip(grid, moved, strict=True)
    )
    best = choose(
        candidates, higher_is_better=metric != "log-loss", one_standard_error=one_standard_error
    )
    chosen = candidates.index(best)
    return Outcome(candidates, best, of_C[chosen], moved[chosen])


def _logits(X: Rows, solutions: Sequence[Solution]) -> list[npt.NDArray[np.float32]]:
    """Floating of raw vectors (N, D) by each model, (N, K)."""
    shape = (X.shape[0], len(solutions[0].intercept))
    logits = [np.empty(shape, np.float32) for _ in solutions]
    start = 0
    for block in X.blocks():
        x = block.astype(np.float32, copy=False)
        for one, solution in zip(logits, solutions, strict=True):
            one[start : start + len(x)] = x @ solution.coef.T + solution.intercept
        start += len(x)
    return logits
