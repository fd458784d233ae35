"""Correct labels: joined stores and files of corrections in, the same stores with new labels out.

A line means the row that has its id, or the row of its number where several have that id. No file
is changed: the labels are those of this run. Nothing is passed over in silence: lines whose id is
not there are counted and named, and what contradicts itself is refused.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from features.base.arrays import Indices
from features.base.shown import listed, shown
from features.errors import InputError
from features.store.format import label_recoding, sort_labels
from pipeline.data.conflicts import numbered
from pipeline.data.corrections_file import CorrectionsFile, Line, as_known, read_corrections
from pipeline.data.join import Joined

# Ids, and texts with other labels, that are shown.
_EXAMPLES = 3


@dataclass(frozen=True)
class Twins:
    """Corrected rows whose text other rows have, with labels that stay other ones.

    Attributes
    ----------
    corrected, others : int
        How many rows there are of either kind.
    examples : tuple of (str, str)
        Ids of a corrected row and of another one of its text.
    """

    corrected: int = 0
    others: int = 0
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Corrections:
    """What was corrected.

    Attributes
    ----------
    files : tuple of CorrectionsFile
    changed : dict of (str, str) to int
        Rows that have another label now, by the label before and after.
    labelled : int
        Rows that had no label and have one now.
    same : int
        Rows that had the label that a line gives them.
    unknown : tuple of str
        Ids of lines that no row has, or none that is in the files of all encoders.
    twins : Twins
    """

    files: tuple[CorrectionsFile, ...] = ()
    changed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    labelled: int = 0
    same: int = 0
    unknown: tuple[str, ...] = ()
    twins: Twins = field(default_factory=Twins)

    @property
    def rows(self) -> int:
        """Rows whose label is not what it was."""
        return sum(self.changed.values()) + self.labelled

    def counts(self) -> dict[str, Any]:
        """Give it as JSON types, without ids, which are not a head's to carry."""
        return {
            "changed": sum(self.changed.values()),
            "labelled": self.labelled,
            "same": self.same,
            "unknown": len(self.unknown),
            "files": [
                {"name": Path(one.name).name, "sha256": one.digest, "lines": len(one.lines)}
                for one in self.files
            ],
        }


def correct(
    stores: Joined, corrections: str | Path | Sequence[str | Path] | None
) -> tuple[Joined, Corrections]:
    """Give rows the labels that files of corrections say.

    Parameters
    ----------
    stores : Joined
        Before `settle`, which may leave rows out by their labels.
    corrections : path or sequence of paths, optional
        See `read_corrections`; all files hold together, in any order.

    Returns
    -------
    stores : Joined
        The same, with other codes. Where no row has a label before, the labels are those of the
        corrections.
    corrections : Corrections

    Raises
    ------
    InputError
        A file can't be used, no id is there, id and row of a line disagree, several rows have an id
        and no number says which is meant, or two lines give one row different labels.
    """
    paths = [corrections] if isinstance(corrections, str | Path) else list(corrections or ())
    if not paths:
        return stores, Corrections()
    files = tuple(read_corrections(path, stores.label_names) for path in paths)
    rows = _Rows.of(stores, {line.id for file in files for line in file.lines})
    given: dict[int, tuple[str, str]] = {}
    unknown: list[str] = []
    for file in files:
        for row, line in rows.meant(file):
            if row is None:
                unknown.append(line.id)
                continue
            where = f"{file.name}, line {line.number}"
            label, before = given.setdefault(row, (line.label, where))
            if label != line.label:
                raise InputError(
                    f"{where}, gives the row of id {shown(line.id)} label {shown(line.label)}, and "
                    f"{before}, label {shown(label)}; delete the one that is wrong"
                )
    if not given:
        raise InputError(
            f"{_named(files)}: no row of {stores} has one of the ids, e.g. {listed(unknown[:1])}; "
            "give the vectors that the corrections were made for (a spreadsheet may have changed "
            "the ids: import that column as text)"
        )
    return _applied(stores, files, {row: label for row, (label, _) in given.items()}, unknown)


def _named(files: Iterable[CorrectionsFile]) -> str:
    return " and ".join(file.name for file in files)


def _applied(
    stores: Joined,
    files: tuple[CorrectionsFile, ...],
    given: Mapping[int, str],
    unknown: Sequence[str],
) -> tuple[Joined, Corrections]:
    """Write the labels into the codes, and count what that changes."""
    names = list(stores.label_names) or sort_labels(set(given.values()))
    before = label_recoding(stores.label_names, names)[stores.codes]
    rows = np.array(sorted(given), np.intp)
    codes = before.copy()
    codes[rows] = [names.index(given[row]) for row in rows.tolist()]
    old, new = before[rows], codes[rows]
    moved = (old >= 0) & (old != new)
    pairs = Counter((names[a], names[b]) for a, b in zip(old[moved], new[moved], strict=True))
    corrected = dataclasses.replace(stores, label_names=names, codes=codes)
    return corrected, Corrections(
        files,
        dict(pairs.most_common()),
        labelled=int(np.count_nonzero(old < 0)),
        same=int(np.count_nonzero(old == new)),
        unknown=tuple(unknown),
        twins=_twins(corrected, rows[old != new]),
    )


def _twins(stores: Joined, corrected: Indices) -> Twins:
    """Find rows of the same texts whose labels are others than those of the corrected rows."""
    if not len(corrected):
        return Twins()
    text = numbered(stores.texts())
    is_corrected = np.zeros(len(text), bool)
    is_corrected[corrected] = True
    others = np.flatnonzero(np.isin(text, text[corrected]) & (stores.codes >= 0) & ~is_corrected)
    of_text: dict[int, list[int]] = {}
    for row in others.tolist():
        of_text.setdefault(int(text[row]), []).append(row)
    differing: set[int] = set()
    pairs: list[tuple[int, int]] = []
    for row in corrected.tolist():
        alike = of_text.get(int(text[row]), ())
        found = [other for other in alike if stores.codes[other] != stores.codes[row]]
        differing.update(found)
        pairs += [(row, found[0])] if found else []
    examples = tuple((_id(stores, a), _id(stores, b)) for a, b in pairs[:_EXAMPLES])
    return Twins(len(pairs), len(differing), examples)


def _id(stores: Joined, row: int) -> str:
    return stores.ids(slice(row, row + 1))[0]


@dataclass(frozen=True)
class _Rows:
    """The rows that some ids mean.

    Attributes
    ----------
    stores : Joined
    of_id : dict of str to list of int
        Joined rows, by the ids that are asked for.
    number : int array (N,)
        Of each joined row in the first store, as `row` counts.
    """

    stores: Joined
    of_id: dict[str, list[int]]
    number: Indices

    @classmethod
    def of(cls, stores: Joined, asked: set[str]) -> _Rows:
        """Look for ids, also behind the quote of `excel_safe`."""
        asked = asked | {identity.removeprefix("'") for identity in asked}
        of_id: dict[str, list[int]] = {}
        for row, identity in enumerate(stores.ids(slice(0, stores.n_rows))):
            if identity in asked:
                of_id.setdefault(identity, []).append(row)
        number = np.flatnonzero(stores.kept[0]) if stores.kept else np.arange(stores.n_rows)
        return cls(stores, of_id, number)

    def meant(self, file: CorrectionsFile) -> Iterator[tuple[int | None, Line]]:
        """Give each line with the row that it means, None where no row has its id."""
        known = [as_known(line.id, self.of_id) for line in file.lines]
        start = self._start(file, known)
        for identity, line in zip(known, file.lines, strict=True):
            if identity is None:
                yield None, line
            elif line.row is not None:
                yield self._at(start + line.row, identity), line
            elif len(rows := self.of_id[identity]) > 1:
                raise InputError(
                    f"{file.name}, line {line.number}: {len(rows)} rows have id {shown(line.id)}; "
                    "give the number of the one that is meant, counted from 0, in a column row"
                )
            else:
                yield rows[0], line

    def _start(self, file: CorrectionsFile, known: Sequence[str | None]) -> int:
        """Find the row from which a file counts: the first one of all, or of one of the files.

        Whoever made a list of the rows of `pool.h5` may give it to a fit on `train.h5 pool.h5`.
        """
        lines = [
            (line.row, identity)
            for line, identity in zip(file.lines, known, strict=True)
            if identity is not None and line.row is not None
        ]
        starts = self.stores.stores[0].starts
        fitting = [
            start
            for start in starts
            if all(self._at(start + number, identity) is not None for number, identity in lines)
        ]
        if not lines or len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise InputError(
                f"{file.name}: its lines can be of rows of several of the files in {self.stores}, "
                "which have the same ids; extract these with ids that tell all rows apart "
                "(`id_column`)"
            )
        raise self._disagreement(file, known)

    def _disagreement(self, file: CorrectionsFile, known: Sequence[str | None]) -> InputError:
        """Name the first line whose row, counted from the first one of all, has another id."""
        line, identity = next(
            (line, identity)
            for line, identity in zip(file.lines, known, strict=True)
            if identity is not None
            and line.row is not None
            and self._at(line.row, identity) is None
        )
        there = int(self.number[self.of_id[identity][0]])
        return InputError(
            f"{file.name}, line {line.number}: row {line.row} does not have id {shown(line.id)}, "
            f"which is that of row {there}; give the vectors that the list was made of, or, where "
            "no two rows have the same id, leave out its column row"
        )

    def _at(self, number: int, identity: str) -> int | None:
        """Give the joined row of a number in the first store, if it has this id."""
        return next((row for row in self.of_id[identity] if self.number[row] == number), None)
