"""Divide rows into those that are learned from and those that judge what was learned. No solving.

In come the classes of labelled rows, and the texts that rows share; out come a `Target`, what there
is to learn, and `Trials`: the ways to leave rows out of a fit, so that they can judge it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Floats, Indices
from pipeline.evaluation.folds import make_folds
from pipeline.evaluation.options import Options
from pipeline.head.priors import fitted_prior, parse_prior
from pipeline.solver.blocks import Rows
from pipeline.solver.objective import TrainingSet
from pipeline.solver.solve import Data, balanced_weights, prepare


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
    """One cut of the rows: a model is fitted on `training`, and judged on rows of classes `y`."""

    training: TrainingSet
    y: Indices


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
    """

    all: tuple[Trial, ...]
    groups: Indices
    measured_on: str
    repeats: int = 1
    validation: Rows | None = None

    @property
    def training(self) -> list[TrainingSet]:
        """What the models are fitted on, one a trial."""
        return [trial.training for trial in self.all]

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
    remark : str
        What else holds rows together, added to `measured_on`.
    """
    y, labels = target.y, target.labels
    cuts = [
        make_folds(y, texts, labels, n_folds=n_folds, seed=options.seed + repeat)
        for repeat in range(options.repeats)
    ]
    trials = tuple(
        Trial(training_set(y, len(labels), options.class_weight, folds == fold), y[folds == fold])
        for folds in cuts
        for fold in range(n_tried)
    )
    if n_tried > 1:
        measured_on = f"{n_folds}-fold cross-validation, each text by a model that did not see it"
        measured_on += remark
    else:
        rows = len(trials[0].y)
        measured_on = f"a held-out fold of {rows} rows, by a model fitted on the rest"
    groups = np.repeat(np.arange(n_tried), [len(trial.y) for trial in trials[:n_tried]])
    return Trials(trials, groups, measured_on, options.repeats)
