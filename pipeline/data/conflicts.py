"""Find texts that come with several labels, and keep their rows or leave them out.

In come joined stores, out come the same stores and a record of what was found. Texts are the same
if their digests are, so if they are the same after normalising; stores hold no texts, so examples
are given by the ids of their rows. No label is changed: rows are left out, or stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.arrays import Mask
from features.errors import InputError
from pipeline.data.join import LEFT_OUT, Joined

HANDLINGS = ("keep", "drop", "majority")
# Texts that are shown.
_EXAMPLES = 3


@dataclass(frozen=True)
class Conflict:
    """A text that comes with several labels: its rows by label, and the id of the first of each."""

    rows: dict[str, int]
    ids: dict[str, str]


@dataclass(frozen=True)
class Conflicts:
    """What was found of texts that come with several labels, and what was done.

    Attributes
    ----------
    handling : str
        One of `HANDLINGS`.
    texts, rows : int
        Texts that come with several labels, and their labelled rows.
    tied : int
        Those of the texts whose most frequent label is not one alone.
    left_out : int
        Rows that were left out; see `settle`.
    examples : tuple of Conflict
        The first of the texts.
    """

    handling: str
    texts: int = 0
    rows: int = 0
    tied: int = 0
    left_out: int = 0
    examples: tuple[Conflict, ...] = field(default=())

    def counts(self) -> dict[str, Any]:
        """Give it as JSON types, without ids, which are not a head's to carry."""
        return {
            name: value for name, value in dataclasses.asdict(self).items() if name != "examples"
        }


def settle(stores: Joined, handling: str) -> tuple[Joined, Conflicts]:
    """Find the texts that come with several labels, and leave out those of their rows that must go.

    Parameters
    ----------
    stores : Joined
    handling : str
        `keep` leaves out nothing; `drop` all rows of such texts; `majority` the rows whose label is
        not the one that most rows of their text have, and all rows where no label is.

    Returns
    -------
    stores : Joined
        The same, with the code `LEFT_OUT` for the rows that were left out.
    conflicts : Conflicts

    Raises
    ------
    InputError
        There is no such handling, or it leaves a class without rows.
    """
    if handling not in HANDLINGS:
        raise InputError(f"unknown `conflicts` {handling!r}: choose {', '.join(HANDLINGS)}")
    rows = np.flatnonzero(stores.codes >= 0)
    if not len(rows):
        return stores, Conflicts(handling)
    codes = stores.codes[rows]
    text = numbered(stores.texts()[rows])
    winner = _winners(text, codes, len(stores.label_names))
    disputed = np.isin(text, text[winner != codes])
    if not disputed.any():
        return stores, Conflicts(handling)
    gone = {
        "keep": np.zeros(len(rows), bool),
        "drop": disputed,
        "majority": winner != codes,
    }[handling]
    conflicts = Conflicts(
        handling,
        texts=len(np.unique(text[disputed])),
        rows=int(disputed.sum()),
        tied=len(np.unique(text[winner < 0])),
        left_out=int(gone.sum()),
        examples=_examples(stores, rows, text, disputed),
    )
    _check_classes(stores.label_names, codes, gone, handling)
    codes = stores.codes.copy()
    codes[rows[gone]] = LEFT_OUT
    return dataclasses.replace(stores, codes=codes), conflicts


def numbered(texts: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.intp]:
    """Give equal rows of (n, ·) the same number: (n,)."""
    # As byte strings, which numpy sorts many times faster than rows.
    strings = np.ascontiguousarray(texts).view(f"S{texts.itemsize * texts.shape[1]}").reshape(-1)
    return np.unique(strings, return_inverse=True)[1].reshape(-1)


def _winners(
    text: npt.NDArray[np.intp], codes: npt.NDArray[np.int32], n_classes: int
) -> npt.NDArray[np.intp]:
    """Give, row by row, the label that most rows of its text have: (n,), -1 where that is a tie."""
    pairs, counts = np.unique(text * n_classes + codes, return_counts=True)
    of_text, label = np.divmod(pairs, n_classes)
    most = np.zeros(int(text.max()) + 1, np.intp)
    np.maximum.at(most, of_text, counts)
    first = counts == most[of_text]
    winner = np.full(len(most), -1, np.intp)
    winner[of_text[first]] = label[first]
    winner[np.bincount(of_text[first], minlength=len(most)) > 1] = -1
    return winner[text]


def _examples(
    stores: Joined, rows: npt.NDArray[np.intp], text: npt.NDArray[np.intp], disputed: Mask
) -> tuple[Conflict, ...]:
    """Show the first texts in conflict, in the order of the rows."""
    shown = list(dict.fromkeys(text[disputed].tolist()))[:_EXAMPLES]
    return tuple(_conflict(stores, rows[text == one]) for one in shown)


def _conflict(stores: Joined, rows: npt.NDArray[np.intp]) -> Conflict:
    """Describe a text by its rows."""
    labels = [stores.label_names[code] for code in stores.codes[rows]]
    firsts = {label: int(rows[labels.index(label)]) for label in sorted(set(labels))}
    return Conflict(
        {label: labels.count(label) for label in firsts},
        {label: stores.ids(slice(row, row + 1))[0] for label, row in firsts.items()},
    )


def _check_classes(
    names: Sequence[str], codes: npt.NDArray[np.int32], gone: Mask, handling: str
) -> None:
    """Refuse to lose a class."""
    before = np.bincount(codes, minlength=len(names))
    after = np.bincount(codes[~gone], minlength=len(names))
    for name, n_before, n_after in zip(names, before, after, strict=True):
        if n_before and not n_after:
            raise InputError(
                f"`conflicts={handling}` leaves no row of class {name!r}: the texts of all its "
                f"{n_before:,} rows come with other labels too; give `conflicts=keep`"
            )
