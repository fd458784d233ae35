"""Find the borders of rows where a file of text may be cut: a file in, its parts out.

The file is read once, by the reader that reads tweets, and the bytes that it takes are counted:
where it has taken a row to its end, whatever is in it, and would begin the next one as it begins
the first, there is a border. No rule of a format is known here, and only the row at hand is held.

Bytes are counted by writing the text in its encoding again. That is exact for UTF-8, UTF-16, UTF-32
and encodings of one byte a character, also around what can't be decoded; files of other encodings
are not cut. Nor is a file whose count is not its size at the end.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TextIO, cast

from features.tweets.columns import check_columns, with_more_columns
from features.tweets.formats import FORMATS, JSON, JSON_LINES, TABLES, notes_of_text
from features.tweets.json_records import lines_of_objects, rows_in_line
from features.tweets.rows.row_source import Header
from features.tweets.source import Source
from features.tweets.span import Known, Part
from features.tweets.table import InputFormat, find_dialect

# By encoding that takes the mark away, what it may be, and the encoding of what is behind it.
_MARKED = {
    "utf-8-sig": {codecs.BOM_UTF8: "utf-8"},
    "utf-16": {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"},
    "utf-32": {codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be"},
}
# What Python reads by where there is no mark.
_NATIVE = "le" if sys.byteorder == "little" else "be"
_UNMARKED = {
    "utf-8-sig": "utf-8",
    "utf-16": f"utf-16-{_NATIVE}",
    "utf-32": f"utf-32-{_NATIVE}",
}
# What became of a byte that can't be decoded.
_ESCAPE = re.compile("[\udc80-\udcff]")
_ALL_BYTES = bytes(range(256))
# Sets of keys that the objects of a file have, which are remembered.
_MOST_SHAPES = 1000

# What comes of reading on: how many rows, and the columns that are settled then, of objects.
_Step = tuple[int, tuple[tuple[str, str], ...]]


class NotCut(Exception):
    """A file can't be cut; it says why, and what can be done about it."""


class _CountedText:
    """Text of which the bytes and lines are counted that were taken.

    Attributes
    ----------
    at : int
        The byte of the file behind what was taken.
    lines : int
    """

    def __init__(self, width: Callable[[str], int], at: int) -> None:
        self._width, self.at, self.lines = width, at, 0

    def of(self, text: TextIO) -> TextIO:
        """Count this text."""
        self._read = text.readline
        return cast(TextIO, self)

    def readline(self, size: int = -1) -> str:
        """Read a line, or the beginning of a long one."""
        line = self._read(size)
        self.at += self._width(line)
        self.lines += line.endswith(("\n", "\r"))
        return line

    def __iter__(self) -> Iterator[str]:
        return iter(self.readline, "")


@dataclass(frozen=True, kw_only=True)
class _CountedSource(Source):
    """A source whose text is counted."""

    counted: _CountedText

    def text(self, stack: ExitStack) -> TextIO:
        """Give the text to be read."""
        return self.counted.of(super().text(stack))


def parts_of(
    source: Source,
    suffix: str,
    written: InputFormat,
    asked: Mapping[str, str | None],
    part_rows: int,
) -> list[Part]:
    """Cut a file of text into parts of so many rows at most.

    A line of JSON that holds more rows than that is a part of its own.

    Parameters
    ----------
    source : Source
        A file that is not packed.
    suffix : str
        Its format, as in `FORMATS`: a table, lines of text, or JSON.
    written : InputFormat
    asked : mapping
        What was said of the columns, by role.
    part_rows : int

    Raises
    ------
    NotCut
        Values go over lines, as those of an array of JSON do, or the bytes of its encoding can't
        be counted.
    InputError
        It can't be read at all, as a reader of tweets says.
    """
    assert source.path is not None, "it is a file"
    size, encoding = source.path.stat().st_size, source.found_encoding
    with source.bytes_again() as beginning:
        inside, mark = _behind_mark(encoding, beginning.read(4))
    width = _width(inside)
    if width is None:
        raise NotCut(f"where its rows begin can't be told in {encoding} (write it in UTF-8)")
    dialect = find_dialect(source, TABLES[suffix], written) if suffix in TABLES else None
    notes = notes_of_text(source) if suffix == ".txt" else ()
    known = Known(encoding, inside, source.is_clean, dialect, notes=notes)
    counted = _CountedText(width, mark)
    measured = _CountedSource(
        source.name,
        source.path,
        source.raw,
        source.encoding,
        source.max_line_bytes,
        Part(0, size, 0, 0, known=known),
        counted=counted,
    )
    with ExitStack() as stack:
        if suffix in JSON:
            lines = lines_of_objects(measured, stack, lines_alone=suffix in JSON_LINES)
            if lines is None:
                raise NotCut("its values go over lines (write it as JSON Lines, an object a line)")
            parts = list(_cut(_objects(lines, asked, source.name), counted, part_rows))
        else:
            first: list[str] = []
            steps = _rows(measured, suffix, written, stack, first)
            parts = list(_cut(steps, counted, part_rows))
            known = replace(known, first=tuple(first))
    if counted.at != size:
        raise NotCut(f"its bytes are not those of its text in {encoding} (write it in UTF-8)")
    return [replace(part, known=known) for part in parts]


def _cut(steps: Iterator[_Step], counted: _CountedText, part_rows: int) -> Iterator[Part]:
    """Put a border behind as many steps as have so many rows, and none before the first."""
    start = line = rows = 0
    columns: tuple[tuple[str, str], ...] = ()
    end = 0, 0, columns
    for more, settled in steps:
        if rows and rows + more > part_rows:
            yield Part(start, end[0], line, rows, columns)
            (start, line, columns), rows = end, 0
        rows += more
        end = counted.at, counted.lines, settled
    yield Part(start, counted.at, line, rows, columns)


def _rows(
    source: Source, suffix: str, written: InputFormat, stack: ExitStack, first: list[str]
) -> Iterator[_Step]:
    """Read rows by their format; `first` becomes the first one of a table."""
    has_header = written.header
    for _, cells in FORMATS[suffix].read(source, written, stack):
        if isinstance(cells, Header):
            if has_header:
                first.extend(cells.columns)
            yield 0, ()
            continue
        if not first:
            first.extend(cells)
        yield 1, ()


def _objects(
    lines: Iterator[tuple[str, bool]], asked: Mapping[str, str | None], name: str
) -> Iterator[_Step]:
    """Read lines of objects until they have settled the columns; from there on, count lines."""
    columns: dict[str, str] = {}
    settled: tuple[tuple[str, str], ...] = ()
    roles = {role for role, column in asked.items() if column != ""}
    most: tuple[str, ...] = ()
    shapes: set[tuple[str, ...]] = set()  # that have settled what they can
    for line, too_long in lines:
        rows = int(too_long or bool(line.strip()))
        if rows and not too_long and not roles <= columns.keys():
            found = list(rows_in_line(line))
            rows = len(found)
            for keys in [tuple(row) for row in found if isinstance(row, dict)]:
                if keys in shapes:
                    continue
                most = max(most, keys, key=len)
                columns = with_more_columns(asked, columns, keys, name)
                settled = tuple(columns.items())
                if len(shapes) < _MOST_SHAPES:
                    shapes.add(keys)
        yield rows, settled
    if "text" not in columns and most:
        check_columns(asked, columns, most, name)


def _behind_mark(encoding: str, start: bytes) -> tuple[str, int]:
    """Give the encoding of what is behind the mark of a file, and how many bytes that has."""
    name = codecs.lookup(encoding).name
    for mark, inside in _MARKED.get(name, {}).items():
        if start.startswith(mark):
            return inside, len(mark)
    return _UNMARKED.get(name, encoding), 0


def _width(encoding: str) -> Callable[[str], int] | None:
    """Give what counts the bytes of decoded text; None where that is not known for certain."""
    name = codecs.lookup(encoding).name
    if name == "utf-8":
        return _utf_8_width
    for unit, wide in ((2, "utf-16-"), (4, "utf-32-")):
        if name in (f"{wide}le", f"{wide}be"):
            return lambda text: _wide_width(text, name, unit)
    return len if _is_of_one_byte(encoding) else None


def _utf_8_width(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def _wide_width(text: str, encoding: str, unit: int) -> int:
    if text.isascii():
        return unit * len(text)
    escapes = len(_ESCAPE.findall(text))
    return len(text.encode(encoding, "surrogatepass")) - escapes * (unit - 1)


def _is_of_one_byte(encoding: str) -> bool:
    """Whether each byte is a character, whatever stands before and behind it."""
    begin = codecs.getincrementaldecoder(encoding)
    try:
        alone = [begin("surrogateescape").decode(bytes([byte])) for byte in _ALL_BYTES]
        together = begin("surrogateescape").decode(_ALL_BYTES, final=True)
    except UnicodeError:
        return False
    return all(len(one) == 1 for one in alone) and together == "".join(alone)
