"""Gather what a fit takes: rows with labels, what there is to learn, and who judges. No solving.

In come paths and what was asked for; out comes a `Task`, whose vectors are ready for the
solver. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.errors import InputError
from features.spec.vector_spec import VectorSpec
from pipeline.data.conflicts import Conflicts, settle
from pipeline.data.corrections import Corrections, correct
from pipeline.data.join import Joined, open_joined
from pipeline.data.labelled_rows import Labelled, classes_of, labelled_rows, validation_rows
from pipeline.data.near_duplicates import group_near
from pipeline.data.shared_rows import Sharing
from pipeline.evaluation.cross_validation import FOLDS
from pipeline.evaluation.folds import number_texts
from pipeline.evaluation.options import Options
from pipeline.evaluation.trials import (
    Target,
    Trial,
    Trials,
    are_few,
    fold_trials,
    target_of,
    weighed,
)
from pipeline.solver.solve import Data


@dataclass(frozen=True)
class Plan:
    """Which rows judge.

    Attributes
    ----------
    n_folds, n_tried : int
        Folds that the rows are cut into, and those of them that are held out.
    is_fixed : bool
        Whether C is given.
    near_identical : float, optional
        The cosine from which on texts are held out together.
    validation : path or sequence of paths, optional
        Stores whose rows judge instead of folds.
    """

    n_folds: int
    n_tried: int
    is_fixed: bool
    near_identical: float | None
    validation: str | Path | Sequence[str | Path] | None


@dataclass(frozen=True)
class Task:
    """All that a fit takes from files: rows, what is to be learned from them, and who judges it.

    Attributes
    ----------
    opened, stores : Joined
        The stores as they are, and with the labels of this run.
    corrections : Corrections
        Labels that were given by hand.
    conflicts : Conflicts
        Texts that come with several labels, and what was done with their rows.
    sources : tuple of VectorSpec
        The views to fit on.
    rows : Labelled
    target : Target
    trials : Trials
    held : Joined, optional
        The stores of `Plan.validation`.
    near_identical : float, optional
        See `Plan`.
    data : Data
        The vectors of `rows`, ready for the solver.
    """

    opened: Joined
    stores: Joined
    corrections: Corrections
    conflicts: Conflicts
    sources: tuple[VectorSpec, ...]
    rows: Labelled
    target: Target
    trials: Trials
    held: Joined | None
    near_identical: float | None
    data: Data


def plan_of(
    cv: int | None,
    near_identical: float | None,
    validation: str | Path | Sequence[str | Path] | None,
    options: Options,
    *,
    is_fixed: bool,
) -> Plan:
    """Settle which rows judge; with a fixed C one fold of those of the default is enough."""
    of_folds = options.one_standard_error or options.repeats > 1 or near_identical is not None
    if validation is not None and of_folds:
        raise InputError(
            "`one_standard_error`, `repeats` and `near_identical` need folds: leave out "
            "`validation`, or leave them out"
        )
    n_folds = FOLDS if cv is None else cv
    n_tried = 1 if is_fixed and cv is None else n_folds
    return Plan(n_folds, n_tried, is_fixed, near_identical, validation)


def load(
    files: ExitStack,
    features: str | Path | Sequence[str | Path],
    pooling: str | Sequence[str] | None,
    *,
    corrections: str | Path | Sequence[str | Path] | None,
    conflicts: str,
    plan: Plan,
    options: Options,
    sharing: Sharing,
) -> Task:
    """Take the labelled rows of the views that are asked for, and settle who judges them."""
    opened = files.enter_context(open_joined(features))
    corrected, corrections_made = correct(opened, corrections)
    settled, found = settle(corrected, conflicts)
    sources = settled.choose([pooling] if isinstance(pooling, str) else pooling)
    settled.check_all_taken(sources)
    labels = classes_of(settled)
    stores = files.enter_context(sharing.out(settled, features))
    rows = labelled_rows(stores, sources, labels)
    target = target_of(rows.y, labels, options)
    if plan.validation is None:
        held, trials = None, _in_folds(rows, target, plan, options)
    else:
        held = files.enter_context(open_joined(plan.validation))
        trials = _on_validation(held, sources, target)
    data = target.prepared(rows.X, options.memory)
    if not plan.is_fixed:
        data = weighed(data, target, [source.width for source in sources], rows.texts)
    return Task(
        opened,
        stores,
        corrections_made,
        found,
        tuple(sources),
        rows,
        target,
        trials,
        held,
        plan.near_identical,
        data,
    )


def _in_folds(rows: Labelled, target: Target, plan: Plan, options: Options) -> Trials:
    """Hold out folds of the rows themselves."""
    texts, remark = rows.texts, ""
    if plan.near_identical is not None:
        texts = group_near(rows.X, texts, plan.near_identical, memory=options.memory)
        remark = f", nor one nearly the same ({len(np.unique(texts)):,} groups)"
    return fold_trials(
        target,
        texts,
        options,
        n_folds=plan.n_folds,
        n_tried=plan.n_tried,
        nested=not plan.is_fixed and are_few(*rows.X.shape, len(target.labels)),
        remark=remark,
    )


def _on_validation(stores: Joined, sources: Sequence[VectorSpec], target: Target) -> Trials:
    """Judge on the rows of other stores, by a model of all rows that are fitted."""
    held = validation_rows(stores, sources, target.labels)
    measured_on = f"the {len(held.y)} rows of {stores}"
    if stores.matching is not None and (unmatched := sum(stores.matching.left_out.values())):
        measured_on += f", without {unmatched} that do not match"
    groups = held.texts[:, 0].astype(np.intp) % FOLDS  # copies of a text stay together
    trial = Trial(target.everything, held.y, number_texts(held.texts))
    return Trials((trial,), groups, measured_on, validation=held.X)
