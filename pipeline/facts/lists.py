"""List the rows that are worth a look: arrays of all rows in, records of some of them out. Pure.

Of rows of one text, one is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from features.base.arrays import Codes, Floats, Indices
from pipeline.facts.facts import Listed, Suspect
from pipeline.labelling.label_noise import Doubts

# Rows of a list.
LISTED = 50


@dataclass(frozen=True)
class Sheet:
    """What lists say of all rows.

    Attributes
    ----------
    labels : tuple of str, (K,)
    label : int array (N,)
        Codes into `labels`; -1 where a row has none.
    proba : float64 array (N, K)
    numbers : int array (N,)
    ids : list of str, (N,)
    text : int array (N,)
        Equal numbers are one text.
    texts : sequence of str, (N,), optional
    """

    labels: tuple[str, ...]
    label: Codes
    proba: Floats
    numbers: Codes
    ids: list[str]
    text: Codes
    texts: Sequence[str] | None

    def listed(self, row: int) -> Listed:
        """Give the record of a row."""
        predicted = int(self.proba[row].argmax())
        return Listed(
            int(self.numbers[row]),
            self.ids[row],
            self.labels[self.label[row]] if self.label[row] >= 0 else "",
            self.labels[predicted],
            float(self.proba[row, predicted]),
            None if self.texts is None else self.texts[row],
        )

    def first_of_texts(self, rows: Indices) -> Iterator[int]:
        """Give rows in their order, of each text the first, as many as a list has."""
        seen: set[int] = set()
        for row in rows.tolist():
            if len(seen) == LISTED:
                return
            if int(self.text[row]) not in seen:
                seen.add(int(self.text[row]))
                yield row


def mistakes(sheet: Sheet, judged: Indices) -> tuple[Listed, ...]:
    """List judged rows whose label is not the predicted one, the most confident first."""
    proba = sheet.proba[judged]
    wrong = judged[proba.argmax(axis=1) != sheet.label[judged]]
    order = np.argsort(-sheet.proba[wrong].max(axis=1), kind="stable")
    return tuple(map(sheet.listed, sheet.first_of_texts(wrong[order])))


def uncertain(sheet: Sheet) -> tuple[Listed, ...]:
    """List the rows whose prediction is the least sure."""
    order = np.argsort(sheet.proba.max(axis=1), kind="stable")
    return tuple(map(sheet.listed, sheet.first_of_texts(order)))


def suspects(sheet: Sheet, judged: Indices, doubts: Doubts) -> tuple[Suspect, ...]:
    """List judged rows whose label is doubtful and not the most probable one."""
    proba = sheet.proba[judged[doubts.order]]
    other = doubts.order[proba.argmax(axis=1) != sheet.label[judged[doubts.order]]]
    place = {int(judged[one]): int(one) for one in other}
    return tuple(
        Suspect(
            **vars(sheet.listed(row)),
            score=float(doubts.combined[place[row]]),
            suggested=sheet.labels[doubts.suggested[place[row]]],
            loss=float(doubts.loss[place[row]]),
        )
        for row in sheet.first_of_texts(judged[other])
    )
