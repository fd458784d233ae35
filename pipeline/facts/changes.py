"""Compare a head with an earlier one on the same rows: both heads in, what has changed out.

Where the head is judged by models that did not see the rows, so is the earlier one, in the same
folds, as in `pipeline/fitting/changes.py`. On other rows each head judges itself, unless they are
its own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from features.base.arrays import Floats, Indices
from features.errors import InputError
from pipeline.data.join import Joined
from pipeline.evaluation.cross_validation import FOLDS
from pipeline.evaluation.folds import number_texts
from pipeline.evaluation.options import Options
from pipeline.facts.judges.judged import Judged, judge_rows
from pipeline.facts.judges.refits import left_out
from pipeline.facts.judges.scored_rows import score_rows
from pipeline.fitting.changes import BothHeads, Changes
from pipeline.fitting.out_of_fold import FoldedRows, out_of_fold
from pipeline.head.head import Head


@dataclass(frozen=True)
class Against:
    """Another head, to compare with on the same rows.

    Attributes
    ----------
    head : Head
    file : str
    stores : Joined
        The rows with the labels that it was fitted on, without corrections.
    """

    head: Head
    file: str
    stores: Joined


def changes_of(
    head: Head, stores: Joined, judged: Judged, against: Against, *, corrections: int, memory: int
) -> Changes:
    """Say what has changed.

    Parameters
    ----------
    head : Head
    stores : Joined
        The rows with their corrected labels.
    judged : Judged
        Those that have one, as they are judged on behalf of the head.
    against : Against
    corrections : int
        Rows whose label was corrected since.
    memory : int
        Bytes of vectors to hold.

    Raises
    ------
    InputError
        The heads have other classes.
    """
    if set(head.labels) != set(against.head.labels):
        raise InputError(
            f"`against` has the labels {', '.join(against.head.labels)}, the head has "
            f"{', '.join(head.labels)}; give a head of the same labels"
        )
    before = codes_of(head, against.stores)[judged.at]
    has_all = np.bincount(before[before >= 0], minlength=len(head.labels)).all()
    if judged.refits is not None and has_all:
        own = FoldedRows(
            _with_labels(stores, judged),
            tuple(stores.like(head.sources)),
            judged.refits.target,
            judged.refits.data,
            [left_out(one.training) for one in judged.refits.trials.all[:FOLDS]],
        )
        both = _by_models(own, judged, judged.refits.options, against.head, before)
    else:
        prior = (
            np.full(len(head.labels), 1 / len(head.labels)) if head.prior is None else head.prior
        )
        texts = number_texts(judged.rows.texts)
        probas = [_by_itself(head, judged, against, memory), judged.proba]
        both = BothHeads(before, judged.rows.y, probas, texts, prior, seed=0)
    return both.changes(against.file, corrections, judged.measured_on)


def _by_models(
    rows: FoldedRows, judged: Judged, options: Options, other: Head, before: Indices
) -> BothHeads:
    """Let models of the other head's settings and labels judge in the same folds."""
    return BothHeads(
        rows.judged(before),
        rows.judged(judged.rows.y),
        [out_of_fold(other, before, rows, options), rows.judged(judged.proba)],
        rows.judged(number_texts(judged.rows.texts)),
        rows.target.stated,
        options.seed,
    )


def codes_of(head: Head, stores: Joined) -> Indices:
    """Give the labels of all rows as codes into the head's; -1 where there is none."""
    known = {label: code for code, label in enumerate(head.labels)}
    # Codes below 0, no label and `LEFT_OUT`, count from the end.
    codes = np.array([*(known.get(name, -1) for name in stores.label_names), -1, -1], np.intp)
    return codes[stores.codes]


def _with_labels(stores: Joined, judged: Judged) -> Joined:
    """Take the label from the rows that are not judged."""
    codes = np.full(len(stores.codes), -1, stores.codes.dtype)
    codes[judged.at] = stores.codes[judged.at]
    return dataclasses.replace(stores, codes=codes)


def _by_itself(head: Head, judged: Judged, against: Against, memory: int) -> Floats:
    """Give what the other head says of the rows, or models do where it was fitted on them."""
    scored = score_rows(against.head, against.stores)
    proba: Floats = scored.proba.copy()
    if (against.stores.codes >= 0).any():
        found = judge_rows(against.head, against.stores, scored, memory)
        proba[found.at] = found.proba
    return proba[judged.at][:, [against.head.labels.index(label) for label in head.labels]]
