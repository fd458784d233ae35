"""Settle who judges the labelled rows: the head itself, or, of its own rows, models without them.

In come a head, open stores and what the head says of their rows; out come the probabilities that
all figures of a report are of, and in which words. A head flatters itself on rows that it was
fitted on, so that these are judged by the models of `refits`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.base.arrays import Array, Floats, Indices
from features.errors import InputError
from pipeline.data.conflicts import HANDLINGS, settle
from pipeline.data.join import Joined
from pipeline.data.labelled_rows import Labelled, validation_rows
from pipeline.evaluation.metrics import Metrics, measure
from pipeline.facts.judges.refits import (
    Refits,
    can_be_folded,
    prepared,
    refit,
    settings_of,
    texts_of_folds,
)
from pipeline.facts.judges.scored_rows import ScoredRows
from pipeline.head.head import Head
from pipeline.head.priors import importance
from pipeline.scoring.evaluate import evaluate
from pipeline.solver.solve import Data, softmax

# Standard errors of the mean that the mean of the head's own rows may be from what it remembers: at
# most what rounding makes of it, where that of other rows is about 1 from it.
_SAME = 0.1


@dataclass(frozen=True)
class Judged:
    """Labelled rows, and what is said of them by who did not learn from them.

    Attributes
    ----------
    at : int array (n,)
        Numbers of the rows among all rows.
    rows : Labelled
        The same rows: vectors, labels and texts.
    proba : float64 array (n, K)
    before : float64 array (n, K), optional
        Without the calibration; None where there is none, or the head does not say which.
    weight : float64 array (n,)
        Of the rows, for the prior that the head answers for.
    metrics : Metrics
    measured_on : str
    is_own : bool
        Whether the head was fitted on these very rows.
    refits : Refits, optional
        Who judged; None where the head did.
    """

    at: Indices
    rows: Labelled
    proba: Floats
    before: Floats | None
    weight: Floats
    metrics: Metrics
    measured_on: str
    is_own: bool
    refits: Refits | None


def judge_rows(head: Head, stores: Joined, scored: ScoredRows, memory: int) -> Judged:
    """Give the labelled rows with the probabilities that figures are of.

    Raises
    ------
    InputError
        No row has a label, or one has a label that the head does not know.
    """
    rows = validation_rows(stores, head.sources, head.labels)
    at, own = np.flatnonzero(stores.codes >= 0), _as_fitted(head, stores)
    if own is None:
        return _by_head(head, scored, rows, at, is_own=False)
    options = settings_of(head, memory)
    fitted = rows if own is stores else validation_rows(own, head.sources, head.labels)
    target, data = prepared(head, fitted, options)
    if not _remembers(head, data, fitted.texts):
        return _by_head(head, scored, rows, at, is_own=False)
    texts = texts_of_folds(head, fitted, options)
    if not can_be_folded(fitted.y, texts, len(head.labels)):
        return _by_head(head, scored, rows, at, is_own=True)
    refits = refit(head, target, data, texts, options)
    return _by_refits(head, fitted, np.flatnonzero(own.codes >= 0), refits)


def _as_fitted(head: Head, stores: Joined) -> Joined | None:
    """Leave out the rows that the head's fit would have; None where it was fitted on more or fewer.

    Their texts have several labels, see `settle`.
    """
    handling = handling_of(head)
    own = stores
    if handling != "keep":
        try:
            own, _ = settle(stores, handling)
        except InputError:  # a class would lose all its rows: no head was fitted so
            return None
    return own if head.metadata.get("rows") == np.count_nonzero(own.codes >= 0) else None


def handling_of(head: Head) -> str:
    """Say which rows the fit left out because their texts have several labels."""
    said = head.metadata.get("conflicts")
    handling = said.get("handling") if isinstance(said, dict) else None
    return handling if handling in HANDLINGS else "keep"


def _remembers(head: Head, data: Data, texts: Array) -> bool:
    """Say whether the rows, as many as the head was fitted on, are those rows."""
    known = None if head.texts is None else head.texts.look_up(texts)
    if known is not None:
        return bool(known[1][known[0]].all())
    if head.novelty is None:  # of few rows, or of an earlier frostline: their number has to do
        return True
    moved = (data.vectors.center - head.novelty.center) * data.vectors.inverse_scale
    return bool(np.sqrt(np.square(moved).mean() * len(data.y)) < _SAME)


def _by_refits(head: Head, rows: Labelled, at: Indices, refits: Refits) -> Judged:
    stated = refits.target.stated
    proba, weight = refits.calibrated(), importance(rows.y, stated)
    metrics = measure(rows.y, proba, head.labels, weight=weight)
    measured_on = (
        f"the head's own {len(rows.y):,} training rows, out of fold: "
        f"{refits.trials.measured_on}, at the head's C"
    )
    before = None if refits.method == "none" else refits.raw()
    return Judged(at, rows, proba, before, weight, metrics, measured_on, True, refits)


def _by_head(
    head: Head, scored: ScoredRows, rows: Labelled, at: Indices, *, is_own: bool
) -> Judged:
    proba = scored.proba[at]
    metrics, _ = evaluate(head, scored.scores)
    measured_on = f"{len(rows.y):,} labelled rows of {scored.name}"
    if is_own:
        measured_on += (
            " that the head was fitted on, which flatters it: a class has too few for others to "
            "judge"
        )
    weight = np.ones(len(at)) if head.prior is None else importance(rows.y, head.prior)
    before = _uncalibrated(head, proba)
    return Judged(at, rows, proba, before, weight, metrics, measured_on, is_own, None)


def _uncalibrated(head: Head, proba: Floats) -> Floats | None:
    """Undo the head's calibration, whose form is in `pipeline/head/calibration.py`."""
    said = head.metadata.get("calibration")
    if head.prior is None or not isinstance(said, dict) or said.get("method", "none") == "none":
        return None
    temperature, bias = said.get("temperature"), np.array(said.get("bias"), dtype=object)
    if not isinstance(temperature, float) or bias.shape != (len(head.labels),):
        return None
    log_prior = np.log(head.prior)
    evidence = np.log(np.maximum(proba, np.finfo(float).tiny)) - log_prior - bias.astype(float)
    return softmax(evidence * temperature + log_prior)
