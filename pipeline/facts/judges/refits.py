"""Fit models as the head was fitted, on parts of its own rows: what they say of the others.

The models of the five folds judge rows that they did not see, as those of `fit` do. Models of
halves, quarters and so on of the same rows say what fewer rows would have given; they keep the
head's C, which is the variance of the weights before any row is seen and has nothing to do with how
many there are. All are solved together, in the same passes over the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.base.arrays import Array, Codes, Floats, Indices, Mask
from pipeline.data.labelled_rows import Labelled
from pipeline.data.near_duplicates import group_near
from pipeline.evaluation.cross_validation import FOLDS, SELECTION_TOL
from pipeline.evaluation.held_out import HeldOut
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.options import CLASS_WEIGHTS, Options
from pipeline.evaluation.trials import Target, Trials, fold_trials, target_of, training_set
from pipeline.head.calibration import BIAS_CORRECTED, TEMPERATURE
from pipeline.head.head import Head
from pipeline.head.priors import shift
from pipeline.head.settings import inverse_penalty, view_scales, widths
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import Data, Problem, softmax, solve
from pipeline.solver.view_scales import with_view_scales

# Halvings of the rows of a fit, at most, and rows of the smallest class that a fit must have.
_HALVINGS, _LEAST_CLASS_ROWS = 5, 5
# Rows from which on one cut into folds is enough, and cuts at most.
_ENOUGH_ROWS, _MOST_CUTS = 10_000, 4
# Multiplications of a model in one pass from which on the models of fewer rows would take minutes.
_MOST_WORK = 500_000_000


@dataclass(frozen=True)
class Refits:
    """What models say of rows that they did not see.

    Attributes
    ----------
    target : Target
    data : Data
        The rows, prepared for other fits.
    trials : Trials
        The folds of the first cut, then those of the next.
    options : Options
    C : float
    method : str
        How the head is calibrated.
    sizes : tuple of int, (S,)
        Rows that the models are fitted on, the most first.
    logits : tuple of float64 arrays (R, N, K)
        For each size, in each of R cuts, what the models say of the rows of their fold.
    """

    target: Target
    data: Data
    trials: Trials
    options: Options
    C: float
    method: str
    sizes: tuple[int, ...]
    logits: tuple[Floats, ...]

    def folds(self, cut: int) -> Indices:
        """Give the number of the fold of each row in one cut, (N,)."""
        n = self.trials.n_first
        found = np.empty(len(self.target.y), np.intp)
        for number, trial in enumerate(self.trials.all[cut * n : (cut + 1) * n]):
            found[left_out(trial.training)] = number
        return found

    def raw(self, size: int = 0, cut: int = 0) -> Floats:
        """Give the probabilities (N, K) before calibration."""
        return softmax(self.logits[size][cut])

    def calibrated(self, size: int = 0, cut: int = 0) -> Floats:
        """Give the probabilities (N, K), of each fold at the calibration of the others."""
        if self.method == "none":
            return self.raw(size, cut)
        return self._held_out(size, cut).calibrated(self.method)

    def under(self, prior: Floats, cut: int) -> Floats:
        """Give the probabilities (N, K) of the models of most rows for another prior."""
        moved = self.logits[0][cut] + shift(self.target.stated, prior)
        return replace(self._held_out(0, cut), logits=moved, prior=prior).calibrated(TEMPERATURE)

    def _held_out(self, size: int, cut: int) -> HeldOut:
        logits, stated = self.logits[size][cut], self.target.stated
        return HeldOut(self.target.y, logits, self.folds(cut), stated)


def settings_of(head: Head, memory: int) -> Options:
    """Read from a head how it was fitted."""
    said = head.metadata
    metric, weight, seed = said.get("metric"), said.get("class_weight"), said.get("seed")
    prior = None if head.prior is None else dict(zip(head.labels, head.prior, strict=True))
    return Options(
        metric=str(metric) if metric in METRICS else "macro-recall",
        class_weight=str(weight) if weight in CLASS_WEIGHTS else "balanced",
        prior=prior,
        seed=seed if isinstance(seed, int) and 0 <= seed < 2**32 else 0,
        max_iter=1000,
        tol=SELECTION_TOL,
        memory=memory,
    )


def method_of(head: Head) -> str:
    """Say how the head is calibrated."""
    said = head.metadata.get("calibration")
    method = said.get("method") if isinstance(said, dict) else None
    return method if method in (TEMPERATURE, BIAS_CORRECTED) else "none"


def prepared(head: Head, rows: Labelled, options: Options) -> tuple[Target, Data]:
    """Make labelled rows of the head's views ready for fits like that of the head."""
    target = target_of(rows.y, head.labels, options)
    data = target.prepared(rows.X, options.memory)
    return target, with_view_scales(data, view_scales(head), widths(head))


def texts_of_folds(head: Head, rows: Labelled, options: Options) -> Array:
    """Say which rows are held out together: those of a text, or nearly so, as in the fit."""
    cosine = head.metadata.get("near_identical")
    if not isinstance(cosine, float):
        return rows.texts
    return group_near(rows.X, rows.texts, cosine, memory=options.memory)


def can_be_folded(y: Codes, texts: Array, n_classes: int) -> bool:
    """Say whether each class has rows, and texts, for every fold."""
    _, first = np.unique(texts, axis=0, return_index=True)
    return all(int(np.bincount(one, minlength=n_classes).min()) >= FOLDS for one in (y, y[first]))


def refit(head: Head, target: Target, data: Data, texts: Array, options: Options) -> Refits:
    """Fit the models of all folds and sizes.

    Parameters
    ----------
    head : Head
    target, data
        See `prepared`.
    texts : int array (N, ·)
        Equal rows are held out together.
    options : Options
    """
    n_rows, n_classes = len(target.y), len(target.labels)
    cuts = int(np.clip(_ENOUGH_ROWS // n_rows, 1, _MOST_CUTS))
    trials = fold_trials(
        target, texts, replace(options, repeats=cuts), n_folds=FOLDS, n_tried=FOLDS, nested=False
    )
    C, fractions = inverse_penalty(head), _fractions(data, target)
    rng = np.random.default_rng(options.seed)
    problems = []
    for trial in trials.all:
        rows = np.flatnonzero(~left_out(trial.training))
        order = _in_equal_shares(target.y, rows, n_classes, rng)
        for fraction in fractions:
            some = _of_first(target, order[: round(len(order) * fraction)], options)
            problems.append(Problem(C, some, options.tol))
    solutions = solve(data, problems, max_iter=options.max_iter)
    logits = [np.empty((cuts, n_rows, n_classes)) for _ in fractions]
    moved = shift(target.fitted, target.stated)
    for number, solution in enumerate(solutions):
        at, size = divmod(number, len(fractions))
        judged = left_out(trials.all[at].training)
        among = judged[left_out(problems[number].training)]
        logits[size][at // FOLDS, judged] = solution.held_out[among] + moved
    n_fitted = n_rows * (FOLDS - 1) / FOLDS
    sizes = tuple(round(n_fitted * fraction) for fraction in fractions)
    return Refits(target, data, trials, options, C, method_of(head), sizes, tuple(logits))


def left_out(training: TrainingSet) -> Mask:
    """Give the rows that models of a fold are not fitted on, (N,)."""
    if training.held_out is None:
        raise ValueError("a fold leaves rows out")
    return training.held_out


def _fractions(data: Data, target: Target) -> list[float]:
    """Say which shares of a training set are fitted on: halves of halves, the whole first."""
    if len(target.y) * data.vectors.shape[1] * len(target.labels) > _MOST_WORK:
        return [1.0]
    least = min(target.class_rows) * (FOLDS - 1) / FOLDS
    found = [1 / 2**k for k in range(_HALVINGS + 1)]
    return [one for one in found if one == 1 or one * least >= _LEAST_CLASS_ROWS]


def _in_equal_shares(y: Codes, rows: Indices, n_classes: int, rng: np.random.Generator) -> Indices:
    """Put rows into an order of which any beginning has the classes in about their shares."""
    rows = rng.permutation(rows)
    place = np.empty(len(rows))
    for k in range(n_classes):
        of_class = np.flatnonzero(y[rows] == k)
        place[of_class] = (np.arange(len(of_class)) + 0.5) / max(1, len(of_class))
    return rows[np.argsort(place, kind="stable")]


def _of_first(target: Target, rows: Indices, options: Options) -> TrainingSet:
    """Take some rows to be fitted on."""
    held_out: Mask = np.ones(len(target.y), bool)
    held_out[rows] = False
    return training_set(target.y, len(target.labels), options.class_weight, held_out)
