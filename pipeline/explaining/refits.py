"""Fit a head again on its own rows, and without some of them, to see what a vector gets then.

The C, the scales of the views, the class weights and the temperature are those that the head says;
what else was folded into it is a number for each class, which stays too. Which rows matter is
estimated in `pipeline/solver/influence.py`, and shown in `pipeline/explaining/training.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.base.arrays import Floating, Floats, Mask
from features.errors import CannotContinue
from pipeline.data.labelled_rows import Labelled
from pipeline.evaluation.trials import training_set
from pipeline.explaining.logits import log_odds
from pipeline.head.head import Head
from pipeline.head.settings import inverse_penalty, view_scales, widths
from pipeline.solver.influence import influence
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import Data, Problem, Solution, prepare, softmax, solve
from pipeline.solver.view_scales import with_view_scales

# One row of 50,000 changes P by some hundred-thousandths; what is left of a fit must be far below.
# Rounding may end a fit a little before the first; the second is enough still.
_TOL, _ENOUGH = 1e-12, 1e-9
_MOST_PASSES = 1000


@dataclass(frozen=True)
class Refit:
    """A head's fit, done again, and the vector (D,) and label that are looked at.

    Attributes
    ----------
    head : Head
    everything : TrainingSet
        All rows.
    data : Data
    solution : Solution
        On all rows.
    temperature : float
        What the head's evidence was divided by.
    x : float64 array (D,)
    label : int
    """

    head: Head
    everything: TrainingSet
    data: Data
    solution: Solution
    temperature: float
    x: Floats
    label: int

    @property
    def mean(self) -> Floats:
        """That of the rows, (D,)."""
        return self.data.vectors.center.astype(np.float64)

    def logits(self, solution: Solution) -> Floats:
        """Give what a head of these weights would say of the vector, (K,).

        At the mean of the rows, the head and the fit on all of them agree by definition.
        """
        head, full, mean = self.head, self.solution, self.mean
        folded = head.coef @ mean + head.intercept
        folded = folded - (full.coef @ mean + full.intercept) / self.temperature
        return np.asarray((solution.coef @ self.x + solution.intercept) / self.temperature + folded)

    def estimated(self) -> Floats:
        """Estimate how much the log-odds of the label fall without each of the rows, (N,)."""
        logits = self.logits(self.solution)
        # d log(p / (1 - p)) / d logits.
        direction = -softmax(np.delete(logits, self.label)[None])[0]
        direction = np.insert(direction, self.label, 1.0) / self.temperature
        return influence(self.data, self.everything, self.solution, self.x, direction)

    def without(self, some: Sequence[Mask]) -> list[float | None]:
        """Fit without each of some sets of rows, and give how much the log-odds fall then.

        None where a class would be left without rows.

        Parameters
        ----------
        some : sequence of bool arrays (N,)
        """
        y, n_classes = self.data.y.astype(np.intp), self.data.n_classes
        weighed = "none" if self.everything.class_weight is None else "balanced"
        there = np.bincount(y, minlength=n_classes) > 0
        possible = [
            n
            for n, out in enumerate(some)
            if ((np.bincount(y[~out], minlength=n_classes) > 0) == there).all()
        ]
        problems = [
            Problem(
                self.solution.C, training_set(y, n_classes, weighed, some[n]), _TOL, self.solution
            )
            for n in possible
        ]
        solutions = solve(self.data, problems, max_iter=_MOST_PASSES)
        before = log_odds(self.logits(self.solution), self.label)
        falls: list[float | None] = [None] * len(some)
        for n, solution in zip(possible, solutions, strict=True):
            _check(solution)
            falls[n] = before - log_odds(self.logits(solution), self.label)
        return falls


def refit(head: Head, rows: Labelled, x: Floating, label: int, *, memory: int) -> Refit:
    """Fit a head again on its rows.

    Parameters
    ----------
    head : Head
    rows : Labelled
        Of the head's views, with codes into its labels.
    x : float array (D,)
    label : int
    memory : int
        Bytes of vectors that may be held.

    Raises
    ------
    InputError
        The head does not say its C, or scales that can be.
    CannotContinue
        The fit does not come near enough to its optimum.
    """
    class_weight = str(head.metadata.get("class_weight", "balanced"))
    everything = training_set(rows.y, len(head.labels), class_weight)
    data = prepare(
        rows.X,
        rows.y,
        n_classes=len(head.labels),
        memory=memory,
        class_weight=everything.class_weight,
    )
    data = with_view_scales(data, view_scales(head), widths(head))
    # Not from the head's weights: on other rows these may be too far off to begin with.
    problem = Problem(inverse_penalty(head), everything, _TOL)
    (solution,) = solve(data, [problem], max_iter=_MOST_PASSES)
    _check(solution)
    return Refit(head, everything, data, solution, _temperature(head), x.astype(np.float64), label)


def _check(solution: Solution) -> None:
    """Refuse to look for small differences between fits that are not at their optimum."""
    if solution.gap > _ENOUGH:
        raise CannotContinue(
            f"the head's fit, done again, ends {solution.gap:.1e} from its optimum, relatively, "
            f"where {_ENOUGH:g} is needed to see what a tweet does: leave out `training`, or fit a "
            "head with a smaller `C`"
        )


def _temperature(head: Head) -> float:
    """Give the temperature that is folded into a head; 1 where it names none."""
    record = head.metadata.get("calibration")
    found = record.get("temperature") if isinstance(record, dict) else None
    return found if isinstance(found, float) and 0 < found < float("inf") else 1.0
