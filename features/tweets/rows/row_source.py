"""The description of rows that come from something else than a file. Nothing is read here.

A row is the number of its line, or its number in a table, with its cells. A reader of tweets takes
a `RowSource` wherever it takes the path of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Header:
    """The columns of a table, and what there is to say about how it is read.

    Attributes
    ----------
    columns : list of str
    format : str
        How it is read, e.g. the dialect of a file.
    notes : tuple of str
        What is in it and is not read.
    """

    columns: list[str]
    format: str = ""
    notes: tuple[str, ...] = field(default=())


# Its number, and its cells: those of a table in the order of its header, or by key; or why there
# are none.
Row = tuple[int, list[Any] | dict[str, Any] | Header | str]


@dataclass(frozen=True)
class RowSource:
    """An input whose rows come from memory, or from another library.

    Attributes
    ----------
    name : str
        For messages, and for the record of what a store was made from.
    format : str
        What it is, in words.
    rows : callable
        From the bytes that a text may have to an iterator of rows, a `Header` first where the
        columns are known before; a longer text is `Odd`. Called once for each time that it is read.
    n_rows : int, optional
        Where it is known.
    """

    name: str
    format: str
    rows: Callable[[int], Iterator[Row]]
    n_rows: int | None = None
