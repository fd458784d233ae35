"""Compare a head with another one on the same rows: what each says of them in, differences out.

The records are those of `fit --against`, and so is what is measured: all rows that have a label,
and by themselves those whose label is the one that the other head had; see
`pipeline/fitting/changes.py`. Intervals are paired as well: what makes a row hard for both heads
cancels. Here they come from the influence of each text on a figure, see `influence` of
`pipeline/evaluation/metrics.py`, which costs much less than drawing the rows again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.base.arrays import Codes, Floats, Mask
from features.errors import InputError
from pipeline.evaluation.metrics import METRICS, influence, score
from pipeline.fitting.changes import Change, Changes, Undisputed
from pipeline.head.priors import importance

# Standard errors of half a 95 % interval.
_95 = 1.96


@dataclass(frozen=True)
class Said:
    """What is said of all rows, on behalf of one head.

    Attributes
    ----------
    labels : tuple of str, (K,)
    proba : float64 array (N, K)
    """

    labels: tuple[str, ...]
    proba: Floats

    def in_order(self, labels: Sequence[str]) -> Floats:
        """Give the probabilities with the classes in another order, (N, K).

        Raises
        ------
        InputError
            The classes are others.
        """
        if set(labels) != set(self.labels):
            raise InputError(
                f"`against` has the labels {', '.join(self.labels)}, the head has "
                f"{', '.join(labels)}; give a head of the same labels"
            )
        return self.proba[:, [self.labels.index(one) for one in labels]]


@dataclass(frozen=True)
class Truth:
    """Rows that have a label.

    Attributes
    ----------
    at : int array (n,)
        Their numbers among all rows.
    y : int array (n,)
        Codes into the labels of the head that is reported on.
    before : int array (n,)
        The labels that the other head had; -1 where there was none.
    text : int array (n,)
        Equal numbers are one text.
    prior : float64 array (K,)
        That figures are for.
    """

    at: Codes
    y: Codes
    before: Codes
    text: Codes
    prior: Floats


def changes_of(
    old: Said, new: Said, truth: Truth, *, against: str, corrections: int, measured_on: str
) -> Changes:
    """Say what has changed.

    Parameters
    ----------
    old, new : Said
        On behalf of the other head, and of this one.
    truth : Truth
    against : str
        The file of the other head.
    corrections : int
        Rows whose label was corrected since.
    measured_on : str

    Raises
    ------
    InputError
        The heads have other classes.
    """
    pair = (old.in_order(new.labels)[truth.at], new.proba[truth.at])
    every = np.ones(len(truth.y), bool)
    same = (truth.before == truth.y) | (truth.before < 0)
    n_classes = len(truth.prior)
    is_shown = not same.all() and np.bincount(truth.y[same], minlength=n_classes).all()
    return Changes(
        against,
        _compared(pair, truth, every),
        int((pair[0].argmax(axis=1) != pair[1].argmax(axis=1)).sum()),
        corrections,
        len(truth.y),
        Undisputed(int(same.sum()), _compared(pair, truth, same)) if is_shown else None,
        measured_on,
        (),
    )


def _compared(pair: tuple[Floats, Floats], truth: Truth, some: Mask) -> tuple[Change, ...]:
    """Compare every figure of some of the rows."""
    y, text = truth.y[some], truth.text[some]
    weight = importance(y, truth.prior)
    found = []
    for metric in METRICS:
        before, after = (score(metric, y, one[some], weight) for one in pair)
        moves = [influence(metric, y, one[some], weight) for one in pair]
        squares = np.square(np.bincount(text, moves[1] - moves[0]))
        gain, half = after - before, _95 * float(np.sqrt(squares.sum()))
        found.append(Change(metric, before, after, gain, gain - half, gain + half))
    return tuple(found)
