"""Find the labels that are probably wrong: a head and labelled vectors in, a ranked list out.

Models of the head's C, views and class weights are fitted on a part of the rows and judge the
labels of the others, several times over, in two rounds. What speaks against a label is scored in
`label_noise.py` and `neighbours.py`. No label is changed, no tweet is read, and the head itself
scores nothing: it has learned from the labels in question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.base.arrays import Floats, Indices
from features.base.machine import bytes_of
from features.errors import InputError
from pipeline.data.corrections import Corrections, correct
from pipeline.data.join import open_joined
from pipeline.data.labelled_rows import Labelled, validation_rows
from pipeline.data.matching import Matching
from pipeline.evaluation.cross_validation import FOLDS, SELECTION_TOL
from pipeline.evaluation.held_out import HeldOut
from pipeline.evaluation.options import Options
from pipeline.evaluation.trials import Target, Trials, fold_trials, target_of
from pipeline.head.calibration import TEMPERATURE
from pipeline.head.head import Head
from pipeline.head.priors import shift
from pipeline.head.settings import inverse_penalty, view_scales, widths
from pipeline.labelling.label_noise import (
    Doubts,
    doubt_by_joint,
    estimate_joint,
    find_doubts,
    trust,
)
from pipeline.labelling.neighbours import disagreement
from pipeline.solver.solve import Data, Problem, solve
from pipeline.solver.view_scales import with_view_scales

COLUMNS = (
    "rank",
    "id",
    "row",
    "label",
    "suggested",
    "probability",
    "loss",
    "confident",
    "neighbours",
)


@dataclass(frozen=True)
class Suspects:
    """The labels of some rows, ranked by how doubtful they are.

    Attributes
    ----------
    labels : tuple of str
        Names of the K classes.
    y : int array (N,)
        Labels of all rows, codes into `labels`.
    doubts : Doubts
        Scores of all rows.
    shown : int array (n,)
        Which rows are listed, the most doubtful first.
    ids : list of str
        Of the rows that are listed.
    rows : int array (n,)
        Their numbers in the file, from 0; in the first one where several are joined.
    unlabelled : int
        Rows that were left out because they have no label.
    matching : Matching, optional
        What came of joining the stores of several encoders.
    corrections : Corrections
        Labels that were given by hand.
    C : float
        That of the models.
    measured_on : str
        Who judged the labels.
    """

    labels: tuple[str, ...]
    y: Indices
    doubts: Doubts
    shown: Indices
    ids: list[str]
    rows: Indices
    unlabelled: int
    matching: Matching | None
    corrections: Corrections
    C: float
    measured_on: str

    def table(self) -> Iterator[dict[str, Any]]:
        """Give the rows that are listed, by `COLUMNS`."""
        found = self.doubts
        for rank, (at, identity, row) in enumerate(
            zip(self.shown.tolist(), self.ids, self.rows.tolist(), strict=True), 1
        ):
            scores = (found.probability, found.loss, found.confident, found.neighbours)
            cells = (
                rank,
                identity,
                row,
                self.labels[self.y[at]],
                self.labels[found.suggested[at]],
                *(round(float(one[at]), 6) for one in scores),
            )
            yield dict(zip(COLUMNS, cells, strict=True))

    def pairs(self) -> dict[tuple[str, str], int]:
        """Count the rows that are listed by label and suggested one, the most frequent first."""
        found = Counter(
            (self.labels[self.y[at]], self.labels[self.doubts.suggested[at]]) for at in self.shown
        )
        return dict(found.most_common())


def suspects(
    head: Head,
    features: str | Path | Sequence[str | Path],
    *,
    number: int = 100,
    corrections: str | Path | Sequence[str | Path] | None = None,
    cv: int = FOLDS,
    repeats: int = 3,
    seed: int = 0,
    max_iter: int = 1000,
    memory: int | str | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> Suspects:
    """Rank labels by how probably they are wrong.

    Parameters
    ----------
    head : Head
        Says which views, which C, which scales of the views and which class weights.
    features : path or sequence of paths
        Labelled vectors of the head's encoders, most often those that it was fitted on.
    number : int
        Rows to list; all, where there are fewer.
    corrections, cv, repeats, seed, max_iter, memory
        As for `fit`; the vectors must fit into `memory`.
    progress : callable, optional
        Called with the number of models that are fitted, and of all.

    Raises
    ------
    InputError
        `number` is below 1, no row is labelled, a label is none of the head's, a class has fewer
        rows than folds, the head does not say its C, or the vectors do not fit into `memory`.
    FileRefused
        The vectors are of another encoder.
    """
    if number < 1:
        raise InputError(f"`number` is {number}; list at least 1 row")
    with open_joined(features) as opened:
        stores, corrected = correct(opened, corrections)
        rows = validation_rows(stores, head.sources, head.labels)
        evidence = gather(
            head,
            rows,
            cv=cv,
            repeats=repeats,
            seed=seed,
            max_iter=max_iter,
            memory=memory,
            progress=progress,
        )
        doubts = find_doubts(rows.y, evidence.proba, evidence.disagreement)
        shown = doubts.order[:number]
        joined = np.flatnonzero(stores.codes >= 0)[shown]
        ids = stores.ids(slice(0, stores.n_rows))
        return Suspects(
            tuple(head.labels),
            rows.y,
            doubts,
            shown,
            [ids[row] for row in joined],
            np.flatnonzero(stores.kept[0])[joined] if stores.kept else joined,
            rows.unlabelled,
            stores.matching,
            corrected,
            inverse_penalty(head),
            evidence.measured_on,
        )


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against the labels of N rows.

    Attributes
    ----------
    proba : float64 array (R, N, K)
        Of R repeats, each by models that did not see the row, for the shares of the labels.
    plain : float64 array (R, N, K)
        The same of the first round, by models to which all labels were alike.
    disagreement : float64 array (N,)
        Share of the nearest rows that have another label.
    measured_on : str
        Which models those are.
    """

    proba: Floats
    plain: Floats
    disagreement: Floats
    measured_on: str


def gather(
    head: Head,
    rows: Labelled,
    *,
    cv: int = FOLDS,
    repeats: int = 3,
    seed: int = 0,
    max_iter: int = 1000,
    memory: int | str | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> Evidence:
    """Fit models as the head was fitted, and let them and the neighbours judge the labels.

    There are two rounds: wrong labels teach the models of the first one to make the same mistakes,
    so those of the second one learn less from the rows whose labels the first one doubts. A row is
    never among those that the models which judge it are fitted on; in the second round, its label
    has a part in the weights of these.

    Parameters
    ----------
    head : Head
    rows : Labelled
        Of the head's views, with codes into its labels.
    cv, repeats, seed, max_iter, memory, progress
        As for `suspects`.
    """
    C = inverse_penalty(head)
    options = Options(
        metric="log-loss",
        class_weight=str(head.metadata.get("class_weight", "balanced")),
        prior="training",
        seed=seed,
        max_iter=max_iter,
        tol=SELECTION_TOL,
        memory=bytes_of(memory),
        repeats=repeats,
    )
    _check_classes(rows.y, head.labels, cv)
    target = target_of(rows.y, head.labels, options)
    trials = fold_trials(target, rows.texts, options, n_folds=cv, n_tried=cv, nested=False)
    data = target.prepared(rows.X, options.memory)
    data = replace(with_view_scales(data, view_scales(head), widths(head)), told=progress)
    differing = disagreement(data, rows.texts, memory=options.memory)
    models = len(trials.training)
    first = data.telling(0, 2 * models)
    plain = out_of_fold(first, target, trials, C, options)
    mean = plain.mean(axis=0)
    doubt = doubt_by_joint(rows.y, mean, estimate_joint(rows.y, mean))
    second = replace(data.telling(models, 2 * models), weight=trust(rows.y, doubt))
    return Evidence(
        out_of_fold(second, target, trials, C, options),
        plain,
        differing,
        f"{trials.measured_on}; {repeats} times over",
    )


def out_of_fold(data: Data, target: Target, trials: Trials, C: float, options: Options) -> Floats:
    """Give what models say of rows that they did not see, (R, N, K), one for each repeat.

    The probabilities are calibrated by the other folds, and are for `target.stated`.
    """
    problems = [Problem(C, one, options.tol) for one in trials.training]
    solutions = solve(data, problems, max_iter=options.max_iter)
    moved = shift(target.fitted, target.stated)
    found = []
    for first in range(0, len(trials.all), trials.n_first):
        logits = np.empty((len(target.y), len(target.labels)))
        folds = np.empty(len(target.y), np.intp)
        for number in range(first, first + trials.n_first):
            held_out = trials.training[number].held_out
            logits[held_out] = solutions[number].held_out + moved
            folds[held_out] = number
        held = HeldOut(target.y, logits, folds, target.stated)
        found.append(held.calibrated(TEMPERATURE))
    return np.array(found)


def _check_classes(y: Indices, labels: Sequence[str], cv: int) -> None:
    """Refuse classes that can't be in every fold, with a cure that suits."""
    counts = np.bincount(y, minlength=len(labels))
    least = int(counts.argmin())
    if counts[least] < max(cv, 2):
        raise InputError(
            f"class {labels[least]!r} has {counts[least]} labelled rows, fewer than the {cv} folds "
            "that labels are judged in; give the vectors that the head was fitted on, or `cv` "
            "fewer folds, at least 2"
        )
