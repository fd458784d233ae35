"""Find the labels of judged rows that are probably wrong, with what `frostline suspects` knows.

All labels are scored by the probabilities of who did not learn from them: of the head's own rows in
two rounds, as in `pipeline/labelling/suspects.py`, of others by the head. Comparing every row with
every other would take minutes where there are many, so the nearest rows are looked up for the most
doubtful ones alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.base.arrays import Array, Floats, Indices
from pipeline.evaluation.folds import number_texts
from pipeline.facts.judges.judged import Judged
from pipeline.facts.judges.refits import Refits
from pipeline.head.head import Head
from pipeline.head.settings import view_scales, widths
from pipeline.labelling.label_noise import (
    Doubts,
    doubt_by_joint,
    estimate_joint,
    find_doubts,
    trust,
)
from pipeline.labelling.neighbours import directions, share_of_others, standardised
from pipeline.labelling.suspects import out_of_fold
from pipeline.solver.blocks import Workers
from pipeline.solver.centred import centred

# Rows whose neighbours are looked up.
_ASKED = 1000


@dataclass(frozen=True)
class Found:
    """The doubts of all judged rows, and those of them whose neighbours were asked, or none.

    `left_out` says what was not done, and why.
    """

    doubts: Doubts | None
    asked: Indices
    left_out: tuple[str, ...]


def doubts_of(head: Head, judged: Judged, memory: int) -> Found:
    """Score the labels of the judged rows.

    Parameters
    ----------
    head : Head
    judged : Judged
    memory : int
        Bytes that the vectors may take.
    """
    y, nothing = judged.rows.y, np.empty(0, np.intp)
    class_rows = np.bincount(y, minlength=len(head.labels))
    if not class_rows.all():
        why = "Label suspects: not looked for, as not every class has labelled rows."
        return Found(None, nothing, (why,))
    if judged.is_own and judged.refits is None:
        why = "Label suspects: not looked for, as a class has too few rows to be judged by others."
        return Found(None, nothing, (why,))
    shares = class_rows / len(y)
    proba = _out_of_fold(judged.refits, shares) if judged.refits else _moved(head, judged, shares)
    rough = find_doubts(y, proba, np.zeros(len(y)))
    asked = rough.order[:_ASKED]
    needed = len(y) * judged.rows.X.shape[1] * 8
    if needed > memory:
        why = (
            f"Label suspects: without their nearest rows, which would take {needed >> 20:,} MiB "
            f"where {memory >> 20:,} are allowed; raise `--memory`."
        )
        return Found(rough, nothing, (why,))
    others = np.zeros(len(y))
    others[asked] = share_of_others(
        _directions(head, judged), y, number_texts(judged.rows.texts), asked=asked
    )
    said: tuple[str, ...] = ()
    if len(y) > _ASKED:
        said = (
            f"Label suspects: the nearest rows were looked up for the {_ASKED:,} most doubtful "
            f"of {len(y):,} labels.",
        )
    return Found(find_doubts(y, proba, others), asked, said)


def _out_of_fold(refits: Refits, shares: Floats) -> Floats:
    """Judge labels in two rounds, under their own shares, (R, N, K)."""
    target = replace(refits.target, stated=shares)
    y, options = target.y, refits.options
    plain = np.array([refits.under(shares, cut) for cut in range(len(refits.logits[0]))])
    mean = plain.mean(axis=0)
    doubt = doubt_by_joint(y, mean, estimate_joint(y, mean))
    trusting = replace(refits.data, weight=trust(y, doubt))
    return out_of_fold(trusting, target, refits.trials, refits.C, options)


def _moved(head: Head, judged: Judged, shares: Floats) -> Floats:
    """Give the head's probabilities under the shares of the labels, (1, N, K)."""
    if head.prior is None:
        return judged.proba[None]
    weighted = judged.proba * (shares / head.prior)
    return np.asarray((weighted / weighted.sum(axis=1, keepdims=True))[None])


def _directions(head: Head, judged: Judged) -> Array:
    """Give the standardised rows at length 1, (N, D)."""
    if judged.refits is not None:
        data = judged.refits.data
        return directions(standardised(data.vectors, data.scale))
    X = judged.rows.X
    vectors = centred(X, np.ones(X.shape[0]), memory=0, workers=Workers())
    return directions(standardised(vectors, np.repeat(view_scales(head), widths(head))))
