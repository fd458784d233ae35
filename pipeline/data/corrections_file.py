"""Read a file of corrections: a table of `id`, `row` and `label` in, checked lines out.

It is what the report page gives, what `suspects` and `label-next` write, with labels that a person
has changed or filled in, or any table that has these columns; the others are not read. No store is
opened here, and which row a line means is settled in `corrections.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.base.remote.copies import here
from features.base.shown import listed, shown
from features.errors import InputError
from features.tweets.columns import choose_columns
from features.tweets.findings import folded_label
from features.tweets.formats import FORMATS, format_of
from features.tweets.reader import readable
from features.tweets.rows.row_source import Header
from features.tweets.source import Source
from features.tweets.table import InputFormat
from features.tweets.values import BLANKS, id_of, label_of

_COLUMNS = ("id", "row", "label")
# Before such cells, `excel_safe` puts a quote: `pipeline/scoring/output_files.py`.
_QUOTE = "'"


@dataclass(frozen=True)
class Line:
    """One line that has a label.

    Attributes
    ----------
    number : int
        Of the line in the file, from 1.
    id : str
    row : int, optional
        From 0, as `suspects` and `label-next` count; None where the cell is empty.
    label : str
    """

    number: int
    id: str
    row: int | None
    label: str


@dataclass(frozen=True)
class CorrectionsFile:
    """A file of corrections.

    Attributes
    ----------
    name : str
        Its path, as it was given.
    digest : str
        SHA-256 of its bytes.
    lines : tuple of Line
        Those that have a label.
    empty : int
        Lines without one, which change nothing.
    """

    name: str
    digest: str
    lines: tuple[Line, ...]
    empty: int


def read_corrections(path: str | Path, label_names: Sequence[str]) -> CorrectionsFile:
    """Read a file of corrections.

    Parameters
    ----------
    path : path
        A table, or JSON Lines.
    label_names : sequence of str
        Labels that are known; where there are none, every label is taken.

    Raises
    ------
    InputError
        It can't be read, a column is missing, a line can't be used, a label is not known, or no
        line has one.
    """
    name = str(path)
    if name == "-":
        raise InputError("`corrections` are read from a file, not from standard input")
    suffix = format_of(name)
    with ExitStack() as stack:
        stack.enter_context(readable(name))
        file = here(path)
        raw = stack.enter_context(file.open("rb"))
        digest = hashlib.file_digest(raw, "sha256").hexdigest()
        raw.seek(0)
        source = Source(name, file, raw)
        lines, empty = [], 0
        for number, cells in _cells(source, suffix, stack):
            try:
                line = _line(number, cells, label_names)
            except ValueError as error:
                raise InputError(f"{name}, line {number}: {error}") from error
            if line is None:
                empty += 1
            else:
                lines.append(line)
    if not lines:
        raise InputError(
            f"{name} has no line with a label; fill in its column label, or leave out `corrections`"
        )
    return CorrectionsFile(name, digest, tuple(lines), empty)


def _cells(source: Source, suffix: str, stack: ExitStack) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the number and the cells of every line, by the names of `_COLUMNS`."""
    header: list[str] | None = None
    places: dict[str, str] = {}
    for number, row in FORMATS[suffix].read(source, InputFormat(), stack):
        if isinstance(row, str):
            raise InputError(f"{source.name}, line {number}: {row}")
        if isinstance(row, Header):
            header = row.columns
            places = _places(source.name, header)
        elif isinstance(row, dict):
            places = _places(source.name, list(row))
            yield number, {role: row[key] for role, key in places.items()}
        else:
            assert header is not None, "a table begins with its columns"
            yield number, {role: row[header.index(key)] for role, key in places.items()}


def _places(name: str, columns: Sequence[str]) -> dict[str, str]:
    """Find the columns; `row` alone may be missing."""
    places = choose_columns({role: role for role in _COLUMNS}, columns)
    for role in ("id", "label"):
        if role not in places:
            raise InputError(
                f"{name} has no column {role!r}; its columns are: {listed(columns)}; corrections "
                "have the columns id, row and label, as `frostline suspects` writes them"
            )
    for column in places.values():
        if columns.count(column) > 1:
            raise InputError(f"{name} has column {shown(column)} more than once; rename one")
    return places


def _line(number: int, cells: dict[str, Any], label_names: Sequence[str]) -> Line | None:
    """Check a line; None where it has no label."""
    label = _label(cells["label"], label_names)
    if label is None:
        return None
    identity = id_of(cells["id"])
    if identity is None:
        raise ValueError("it has a label and no id; give the id of the row that the label is for")
    row = label_of(cells.get("row"))
    if row is not None and not (row.isascii() and row.isdigit() and len(row) < 19):
        raise ValueError(
            f"row is {shown(row)}; it must be the number of a row, counted from 0, or empty"
        )
    return Line(number, identity, None if row is None else int(row), label)


def _label(cell: object, label_names: Sequence[str]) -> str | None:
    """Give a label as the stores have it, None for an empty cell."""
    # A mapping may have given a name that is read as missing elsewhere.
    if isinstance(cell, str) and (name := as_known(cell.strip(BLANKS), label_names)) is not None:
        return name
    label = label_of(cell)
    if label is None or not label_names:
        return label
    if (name := as_known(label, label_names)) is not None:
        return name
    like = [known for known in label_names if folded_label(known) == folded_label(label)]
    meant = f" (is {shown(like[0])} meant?)" if like else ""
    raise ValueError(
        f"label {shown(label)} is none of the labels in the vectors: {listed(label_names)}{meant}; "
        "write one of these, or, for a new class, extract the tweets again with labels that have it"
    )


def as_known(text: str, known: Collection[str]) -> str | None:
    """Give the one of some known texts that is meant, maybe behind the quote of `excel_safe`."""
    if text in known:
        return text
    unquoted = text.removeprefix(_QUOTE)
    return unquoted if unquoted in known else None
