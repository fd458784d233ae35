"""Look at a large file once, and give the parts that it is read in: its index, as JSON too.

A look takes reading all of a file of text, and the footer of a Parquet file. Whoever keeps the
index (see `IndexRequest.key`) spares other jobs that; whether the file has changed since is told by
its size and its time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

from features.base import storage
from features.base.remote.copies import here
from features.errors import InputError
from features.pieces.borders import NotCut, parts_of
from features.pieces.row_size import packing_of
from features.tweets.columns import Columns
from features.tweets.formats import FORMATS, JSON, TABLES
from features.tweets.parquet import row_groups
from features.tweets.reader import readable
from features.tweets.source import Source
from features.tweets.span import Known, Part, Span, known_of
from features.tweets.table import InputFormat

# Bytes of the name of a file that its index is named by; file systems take 255 in all.
_NAME_BYTES = 200
# What can be cut between rows, where it is not packed.
_CUT = (*TABLES, *JSON, ".txt", ".parquet")


@dataclass(frozen=True)
class FileIndex:
    """The parts of a file.

    Attributes
    ----------
    size, modified : int
        Of the file: its bytes, and when it was changed last, in nanoseconds.
    parts : tuple of Part
        Empty where it can't be cut.
    why_whole : str
        Why not, and what can be done about it.
    """

    size: int
    modified: int
    parts: tuple[Part, ...]
    why_whole: str = ""

    def is_of(self, path: str) -> bool:
        """Whether the file is as it was."""
        return (self.size, self.modified) == _state(path)

    def spans(self, path: str) -> list[Span]:
        """Give what is read of the file, part by part."""
        return [Span(path, self.size, part) for part in self.parts] or [Span(path, self.size)]

    def to_json(self) -> dict[str, Any]:
        """Give what `from_json` makes the same index of; what is known is in it once."""
        known = self.parts[0].known if self.parts else None
        borders = [(p.start, p.stop, p.line, p.rows, p.columns) for p in self.parts]
        return {
            "size": self.size,
            "modified": self.modified,
            "known": None if known is None else asdict(known),
            "parts": borders,
            "why_whole": self.why_whole,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> FileIndex:
        """Make an index of what `to_json` gave.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            It is something else.
        """
        known = None if content["known"] is None else known_of(content["known"])
        parts = tuple(_part(*border, known=known) for border in content["parts"])
        borders = [0, *(part.stop for part in parts)]
        if [part.start for part in parts] != borders[:-1] or borders != sorted(borders):
            raise ValueError("its parts do not follow each other")
        if parts and known is not None and borders[-1] != content["size"]:
            raise ValueError("its parts are not all of the file")
        return cls(content["size"], content["modified"], parts, str(content["why_whole"]))


def _part(
    start: int, stop: int, line: int, rows: int, columns: list[list[str]], *, known: Known | None
) -> Part:
    settled = tuple((role, name) for role, name in columns)
    return Part(start, stop, line, rows, settled, known)


@dataclass(frozen=True)
class IndexRequest:
    """Which index is wanted: that of one file, read in one way, in parts of so many rows at most.

    Attributes
    ----------
    path : str
    suffix : str
        Its format, as in `FORMATS`.
    columns : Columns
    written : InputFormat
    part_rows : int
    """

    path: str
    suffix: str
    columns: Columns
    written: InputFormat
    part_rows: int

    @property
    def why_whole(self) -> str:
        """Why a file that is named so is not cut, and what can be done about it; "" where it is."""
        if packing_of(self.path):
            return "it is packed (unpack it, so that jobs can share it)"
        if self.suffix not in _CUT:
            return f"files of {FORMATS[self.suffix].name} are not cut (write it as Parquet)"
        if self.columns.labels is not None:
            return "its labels are in another file (write both as one table)"
        return ""

    @property
    def key(self) -> str:
        """A name to keep the index by, such as `tweets.csv-0123456789abcdef`.

        It is another one for another way of reading or another size of the file. A long name of a
        file is cut, as the whole must be one, too.
        """
        size, _ = _state(self.path)
        asked = [self.suffix, size, self.columns.asked, asdict(self.written), self.part_rows]
        digest = sha256(dumps([self.path, *asked], sort_keys=True).encode()).hexdigest()
        name = Path(self.path).name
        if len(os.fsencode(name)) > _NAME_BYTES:
            name = name.encode(errors="ignore")[:_NAME_BYTES].decode(errors="ignore")
        return f"{name}-{digest[:16]}"


def make_index(request: IndexRequest) -> FileIndex:
    """Look at a file, all of it.

    Raises
    ------
    InputError, FileRefused
        It can't be read, or was changed meanwhile.
    """
    before = _state(request.path)
    if request.why_whole:
        return FileIndex(*before, (), request.why_whole)
    parts, why_whole = [], ""
    try:
        parts = _parts_of(request)
    except NotCut as reason:
        why_whole = str(reason)
    if _state(request.path) != before:
        raise InputError(f"{request.path} changed while it was read: wait until it is complete")
    return FileIndex(*before, tuple(parts), why_whole)


def _parts_of(request: IndexRequest) -> list[Part]:
    path, written = request.path, request.written
    if request.suffix == ".parquet":
        with readable(path), storage.reading(path) as raw:
            return list(_parts_of_groups(row_groups(raw, path), request.part_rows))
    file = here(path)
    with readable(path), file.open("rb") as raw:
        source = Source(path, file, raw, written.encoding)
        return parts_of(source, request.suffix, written, request.columns.asked, request.part_rows)
    raise AssertionError("readable lets no error pass")


def _parts_of_groups(groups: list[int], part_rows: int) -> Iterator[Part]:
    """Put row groups together, in their order; one that is too large is cut.

    Examples
    --------
    >>> [(part.start, part.stop) for part in _parts_of_groups([3, 4, 2, 12, 1], 8)]
    [(0, 7), (7, 9), (9, 17), (17, 22)]
    """
    first = stop = 0
    for group in groups:
        end = stop + group
        while stop < end:
            take = min(part_rows, end - stop)
            if stop - first + take > part_rows:
                yield Part(first, stop, first, stop - first)
                first = stop
            stop += take
    if stop > first:
        yield Part(first, stop, first, stop - first)


def _state(path: str) -> tuple[int, int]:
    """Give the size of a file, and when it was changed last, or a number for its version."""
    if storage.is_url(path):
        there = storage.known(path)
        return there.size, int(sha256(there.version.encode()).hexdigest()[:12], 16)
    with readable(path):
        found = Path(path).stat()
        return found.st_size, found.st_mtime_ns
    raise AssertionError("readable lets no error pass")
