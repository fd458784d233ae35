"""Divide rows into those that are learned from and those that judge what was learned. No solving.

In come the classes of labelled rows, and the texts that rows share; out come a `Target`, what there
is to learn, and `Trials`: the ways to leave rows out of a fit, so that they can judge it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Floats, Indices
from pipeline.evaluation.folds import make_folds, number_texts
from pipeline.evaluation.options import Options
from pipeline.head.priors import fitted_prior, parse_prior
from pipeline.solver.blocks import Rows
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import Data, balanced_weights, prepare
from pipeline.solver.view_scales import find_view_scales, with_view_scales

# Multiplications of a model in one pass: with more, models of pairs would take seconds. Of so many
# rows, what one fold changes in a model of the rest hardly moves the choice either.
_PAIR_WORK = 15_000_000


@dataclass(frozen=True)
class Target:
    """What is to be learned: the class of each row.

    Attributes
    ----------
    labels : tuple of str
        Names of the K classes.
    y : int array (N,)
        Codes into `labels`.
    class_rows : list of int
        Rows of each class.
    fitted, stated : float arrays (K,)
        The prior that models of these rows answer for, and the one that they are judged under.
    everything : TrainingSet
        All rows, none held out.
    """

    labels: tuple[str, ...]
    y: Indices
    class_rows: list[int]
    fitted: Floats
    stated: Floats
    everything: TrainingSet

    def prepared(self, X: Rows, memory: int) -> Data:
        """Make the vectors (N, D) of these rows ready for the solver, see `prepare`."""
        return prepare(
            X,
            self.y,
            n_classes=len(self.labels),
            memory=memory,
            class_weight=self.everything.class_weight,
        )


def weighed(
    data: Data, target: Target, widths: Sequence[int], texts: npt.NDArray[np.integer[Any]]
) -> Data:
    """Give each of several views side by side the scale that suits it; see `find_view_scales`.

    Parameters
    ----------
    data : Data
    target : Target
    widths : sequence of int
        Columns of each view.
    texts : int array (N, ·)
        Equal rows are of one text.
    """
    if len(widths) == 1:
        return data
    half = number_texts(texts) % 2 == 0
    scales = find_view_scales(data, widths, half, target.everything.class_weight)
    return with_view_scales(data, scales, widths)


def target_of(y: Indices, labels: Sequence[str], options: Options) -> Target:
    """Give what is to be learned from rows of these classes, and for which prior."""
    class_rows = np.bincount(y, minlength=len(labels)).tolist()
    fitted = fitted_prior(class_rows, options.class_weight)
    prior = options.prior
    stated = fitted if prior is None else parse_prior(prior, labels, class_rows)
    everything = training_set(y, len(labels), options.class_weight)
    return Target(tuple(labels), y, class_rows, fitted, stated, everything)


def training_set(
    y: Indices, n_classes: int, class_weight: str, held_out: npt.NDArray[np.bool_] | None = None
) -> TrainingSet:
    """Take all rows but those held out, balanced by their own counts or not at all."""
    fitted = y if held_out is None else y[~held_out]
    balanced = class_weight == "balanced"
    return TrainingSet(held_out, balanced_weights(fitted, n_classes) if balanced else None)


@dataclass(frozen=True)
class Trial:
    """One cut of the rows: a model is fitted on some of them, and judged on others.

    Attributes
    ----------
    training : TrainingSet
    y : int array (n,)
        Classes of the rows that judge.
    texts : int array (n,)
        Numbers of their texts: rows of one text are alike, so that they count together.
    """

    training: TrainingSet
    y: Indices
    texts: Indices


@dataclass(frozen=True)
class Pair:
    """A model that sees the rows of neither of two trials.

    Each trial chooses C by what such models say about the rows of the others. So no row has a part
    in choosing the C that it is measured with.

    Attributes
    ----------
    training : TrainingSet
        It leaves the rows of both out.
    trials : (int, int)
        Which two.
    of_first : bool array (n,)
        Which of the rows that are left out, in their order, are those of the first.
    """

    training: TrainingSet
    trials: tuple[int, int]
    of_first: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trials:
    """All cuts of the rows.

    Attributes
    ----------
    all : tuple of Trial
        Those of the first repeat, then those of the next.
    groups : int array (n,)
        Of the rows that the first repeat judges on: each group is calibrated by the others.
    measured_on : str
        Which rows those are, in words.
    repeats : int
        Times that the rows were cut.
    validation : Rows, optional
        The vectors that the one trial is judged on; without, the rows that each trial holds out.
    pairs : tuple of Pair
        One for every two trials of the first repeat; none where C is given or `validation` is
        there, with two folds, or where rows are not few.
    """

    all: tuple[Trial, ...]
    groups: Indices
    measured_on: str
    repeats: int = 1
    validation: Rows | None = None
    pairs: tuple[Pair, ...] = ()

    @property
    def training(self) -> list[TrainingSet]:
        """What the models are fitted on: one a trial, then one a pair."""
        return [trial.training for trial in self.all] + [pair.training for pair in self.pairs]

    @property
    def n_first(self) -> int:
        """Trials of the first repeat, in which each row is judged on once at most."""
        return len(self.all) // self.repeats

    @property
    def y(self) -> Indices:
        """Classes of the rows that the first repeat judges on."""
        return np.concatenate([trial.y for trial in self.all[: self.n_first]])


def fold_trials(
    target: Target,
    texts: npt.NDArray[np.integer[Any]],
    options: Options,
    *,
    n_folds: int,
    n_tried: int,
    nested: bool,
    remark: str = "",
) -> Trials:
    """Cut the rows into folds, some times over, and hold out the first `n_tried` of each cut.

    Parameters
    ----------
    target : Target
    texts : int array (N, ·)
        Equal rows are held out together.
    options : Options
    n_folds, n_tried : int
    nested : bool
        Whether there are to be pairs.
    remark : str
        What else holds rows together, added to `measured_on`.
    """
    y, labels = target.y, target.labels
    numbers = number_texts(texts)
    small = np.min_scalar_type(n_folds)  # there is one for each row and repeat
    cuts = [
        make_folds(y, numbers[:, None], labels, n_folds=n_folds, seed=options.seed + repeat).astype(
            small
        )
        for repeat in range(options.repeats)
    ]
    numbers = numbers.astype(np.min_scalar_type(-len(y)), copy=False)
    trials = tuple(
        Trial(
            training_set(y, len(labels), options.class_weight, folds == fold),
            y[folds == fold],
            numbers[folds == fold],
        )
        for folds in cuts
        for fold in range(n_tried)
    )
    groups = np.repeat(
        np.arange(n_tried, dtype=small), [len(trial.y) for trial in trials[:n_tried]]
    )
    if n_tried == 1:
        rows = len(trials[0].y)
        measured_on = f"a held-out fold of {rows} rows, by a model fitted on the rest"
        return Trials(trials, groups, measured_on, options.repeats)
    pairs = _pairs(target, cuts[0], n_tried, options) if nested else ()
    measured_on = f"{n_folds}-fold cross-validation, each text by a model that did not see it"
    measured_on += f"{remark}{', at a C chosen without it' if pairs else ''}"
    return Trials(trials, groups, measured_on, options.repeats, pairs=pairs)


def are_few(n_rows: int, width: int, n_classes: int) -> bool:
    """Say whether rows of so many columns and classes are few enough for models of pairs."""
    # Each row and, in the preconditioner, each column twice is multiplied by all weights.
    return (n_rows + 2 * width) * width * n_classes <= _PAIR_WORK


def _pairs(target: Target, folds: Indices, n_folds: int, options: Options) -> tuple[Pair, ...]:
    """Leave every two folds out, if a third one is left to be fitted on."""
    if n_folds < 3:
        return ()
    pairs = []
    for a, b in combinations(range(n_folds), 2):
        held_out = (folds == a) | (folds == b)
        training = training_set(target.y, len(target.labels), options.class_weight, held_out)
        pairs.append(Pair(training, (a, b), folds[held_out] == a))
    return tuple(pairs)
