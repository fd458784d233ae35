"""Look at a large file once, and give the parts that it is read in: its index, as JSON too.

A look takes reading all of a file of text, and the footer of a Parquet file. Whoever keeps the
index (see `IndexRequest.key`) spares other jobs that; whether the file has changed since is told by
its size and its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.pieces.borders import parts_of
from features.pieces.row_size import packing_of
from features.tweets.columns import Columns
from features.tweets.formats import JSON, TABLES
from features.tweets.parquet import row_groups
from features.tweets.reader import readable
from features.tweets.source import Source
from features.tweets.span import Known, Part, Span, known_of
from features.tweets.table import InputFormat

# What can be cut between rows, where it is not packed.
_DIVISIBLE = (*TABLES, *JSON, ".txt", ".parquet")


@dataclass(frozen=True)
class FileIndex:
    """The parts of a file.

    Attributes
    ----------
    size, modified : int
        Of the file: its bytes, and when it was changed last, in nanoseconds.
    parts : tuple of Part
        Empty where it can't be cut.
    """

    size: int
    modified: int
    parts: tuple[Part, ...]

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
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> FileIndex:
        """Make an index of what `to_json` gave."""
        known = None if content["known"] is None else known_of(content["known"])
        parts = (_part(*border, known=known) for border in content["parts"])
        return cls(content["size"], content["modified"], tuple(parts))


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
    def is_divisible(self) -> bool:
        """Whether files of this format can be cut; labels in a file of their own stay beside it."""
        packed = packing_of(self.path)
        return self.suffix in _DIVISIBLE and not packed and self.columns.labels is None

    @property
    def key(self) -> str:
        """A name to keep the index by, such as `tweets.csv-0123456789abcdef`.

        It is another one for another way of reading or another size of the file.
        """
        size, _ = _state(self.path)
        asked = [self.suffix, size, self.columns.asked, asdict(self.written), self.part_rows]
        digest = sha256(dumps([self.path, *asked], sort_keys=True).encode()).hexdigest()
        return f"{Path(self.path).name}-{digest[:16]}"


def make_index(request: IndexRequest) -> FileIndex:
    """Look at a file, all of it.

    Raises
    ------
    InputError, FileRefused
        It can't be read, or was changed meanwhile.
    """
    before = _state(request.path)
    if not request.is_divisible:
        return FileIndex(*before, ())
    with readable(request.path), Path(request.path).open("rb") as raw:
        if request.suffix == ".parquet":
            groups = row_groups(raw, request.path)
            parts = list(_parts_of_groups(groups, request.part_rows))
        else:
            written = request.written
            source = Source(request.path, Path(request.path), raw, written.encoding)
            asked = request.columns.asked
            parts = parts_of(source, request.suffix, written, asked, request.part_rows)
    if _state(request.path) != before:
        raise InputError(f"{request.path} changed while it was read: wait until it is complete")
    return FileIndex(*before, tuple(parts))


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
    """Give the size of a file, and when it was changed last."""
    with readable(path):
        found = Path(path).stat()
        return found.st_size, found.st_mtime_ns
    raise AssertionError("readable lets no error pass")
