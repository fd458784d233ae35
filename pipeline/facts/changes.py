"""Compare a head with another one on the same rows: what each says of them in, differences out.

Intervals are paired: what makes a row hard for both heads cancels. They come from the influence of
each text on a figure, see `influence` of `pipeline/evaluation/metrics.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.base.arrays import Codes, Floats
from features.errors import InputError
from pipeline.evaluation.metrics import METRICS, influence, score
from pipeline.facts.figures import Change, Changes

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
    text : int array (n,)
        Equal numbers are one text.
    weight : float64 array (n,)
    """

    at: Codes
    y: Codes
    text: Codes
    weight: Floats


def changes_of(old: Said, new: Said, truth: Truth, *, against: str, corrections: int) -> Changes:
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

    Raises
    ------
    InputError
        The heads have other classes.
    """
    before, after = old.in_order(new.labels), new.proba
    changes = []
    for metric in METRICS:
        pair = [(metric, truth.y, one[truth.at], truth.weight) for one in (before, after)]
        old_value, new_value = (score(*one) for one in pair)
        moves = influence(*pair[1]) - influence(*pair[0])
        half = _95 * float(np.sqrt(np.square(np.bincount(truth.text, moves)).sum()))
        gain = new_value - old_value
        changes.append(Change(metric, old_value, new_value, gain, gain - half, gain + half))
    flipped = int((before.argmax(axis=1) != after.argmax(axis=1)).sum())
    return Changes(against, tuple(changes), flipped, corrections)
