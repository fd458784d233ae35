"""Describe what is read of a file: all of it, or the part between two borders of rows.

A reader of tweets takes a `Span` wherever it takes the path of a file. It is made by one process
and read by another, so it can be written as JSON, and it carries what a look at the whole file has
shown: each part is read by the same decisions, and no part needs to look at the file again. Nothing
is opened here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from features.tweets.table import Dialect


@dataclass(frozen=True)
class Known:
    """What a look at all of a file of text has shown.

    Attributes
    ----------
    encoding : str
        As it was asked for, or found by the content.
    encoding_inside : str
        The same for what does not begin with the mark of the file, e.g. `utf-16-le`.
    is_clean : bool
        See `Source.is_clean`.
    dialect : Dialect or None
        Of a table.
    first : tuple of str
        The cells of the first row of a table.
    notes : tuple of str
        What there is to say about lines of text.
    """

    encoding: str
    encoding_inside: str
    is_clean: bool = False
    dialect: Dialect | None = None
    first: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """What is between two borders of rows.

    Attributes
    ----------
    start, stop : int
        In bytes; of a Parquet file, in rows.
    line : int
        Lines before it; of a Parquet file, rows.
    rows : int
        Rows in it, usable or not; of lines of JSON, at least so many.
    columns : tuple of (str, str)
        By role, the keys that objects before it have settled: of lines of JSON.
    known : Known or None
        None for a Parquet file.
    """

    start: int
    stop: int
    line: int
    rows: int
    columns: tuple[tuple[str, str], ...] = ()
    known: Known | None = None

    @property
    def is_first(self) -> bool:
        """Whether it begins where the file does."""
        return self.start == 0


@dataclass(frozen=True)
class Span:
    """What is read of a file.

    Attributes
    ----------
    path : str
        As the user gave it.
    size : int
        Bytes that the file had when the span was made; of another size it is refused.
    part : Part or None
        None for all of it.
    """

    path: str
    size: int
    part: Part | None = None

    def to_json(self) -> dict[str, Any]:
        """Give what `from_json` makes the same span of."""
        return {"path": self.path, "size": self.size} | (
            {} if self.part is None else {"part": asdict(self.part)}
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Span:
        """Make a span of what `to_json` gave."""
        part = content.get("part")
        return cls(content["path"], content["size"], None if part is None else part_of(part))


def part_of(content: dict[str, Any]) -> Part:
    """Make a part of what `asdict` gave, before or behind JSON."""
    columns = tuple((role, name) for role, name in content["columns"])
    known = content["known"]
    return Part(
        **content | {"columns": columns, "known": None if known is None else known_of(known)}
    )


def known_of(content: dict[str, Any]) -> Known:
    """Make what is known of a file of what `asdict` gave, before or behind JSON."""
    dialect = content["dialect"]
    return Known(
        **content
        | {
            "dialect": None if dialect is None else Dialect(**dialect),
            "first": tuple(content["first"]),
            "notes": tuple(content["notes"]),
        }
    )
