"""Read tables of delimited text (CSV, TSV) strictly: no row is guessed at, none swallows another.

A quote opens a cell at its start alone, and a delimiter, a line end or the end of the file follows
the quote that closes it; a quote inside an unquoted cell is text. A file that breaks this is read
by the dialect that fits all of it: quotes that are text (`none`), or quotes escaped by a backslash
(`backslash`). What no dialect fits is rejected, row by row, with the reason. Cells are text here,
nothing is converted. Memory is bounded by `Source.max_line_bytes`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import islice

from features.base.shown import shown
from features.errors import InputError
from features.tweets.source import Source

QUOTINGS = ("auto", "minimal", "none", "backslash")
DELIMITERS = (",", ";", "\t", "|")
# Rows from which the delimiter is told.
_SAMPLE_ROWS = 20
# Stands for a quote that a backslash escapes, until the cells are cut: no text can hold it, as it
# is a lone surrogate that no byte decodes to.
_ESCAPED = "\udc22"
# Different values of a column that are known at most, characters of each, and columns that are
# looked at: what is more is no class.
_MANY, _LONG, _WIDE = 1000, 100, 200
# Bytes that a line takes in memory besides its characters.
_LINE = 64


@dataclass(frozen=True)
class InputFormat:
    """How an input is written, as far as that was said by hand.

    Attributes
    ----------
    format : str, optional
        One of `FORMATS` of `features/tweets/formats.py`, without its dot; default: by the name.
    encoding : str, optional
        Default: by the mark of the file, else UTF-8; what is neither is refused.
    delimiter : str, optional
        One character; default: by the name of the file and its first rows.
    quoting : str
        One of `QUOTINGS`; `auto` decides on the file.
    header : bool
        Whether the first row names the columns; without, they are named `0`, `1`...
    """

    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quoting: str = "auto"
    header: bool = True

    @property
    def given(self) -> list[str]:
        """The parameters of this that were given, as they are named in messages."""
        plain = InputFormat()
        return [
            "input_format" if one.name == "format" else one.name
            for one in fields(self)
            if getattr(self, one.name) != getattr(plain, one.name)
        ]


@dataclass(frozen=True)
class Dialect:
    """What a table was read by.

    Attributes
    ----------
    delimiter, quoting, header
        See `InputFormat`.
    is_plain : bool
        Whether a look at all of it showed that each of its rows is one line of bounded length.
    """

    delimiter: str
    quoting: str
    header: bool
    is_plain: bool = False

    def __str__(self) -> str:
        names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
        quotes = {
            "minimal": "quoted cells",
            "none": "quotes that are text",
            "backslash": "quotes escaped by backslashes",
        }
        between = names.get(self.delimiter, f"{shown(self.delimiter)} between cells")
        return f"{between}, {quotes[self.quoting]}" + ("" if self.header else ", no header")


# A row: the number of its first line, and its cells, or why there are none.
TableRow = tuple[int, list[str], str]


def find_dialect(source: Source, default: str, asked: InputFormat) -> Dialect:
    """Decide how a table is written, by looking at all of it.

    Parameters
    ----------
    source : Source
        Of standard input, what may be held of it is looked at.
    default : str
        The delimiter that the name of the file stands for.
    asked : InputFormat
        What was said by hand, which is never overruled.

    Raises
    ------
    InputError
        Something that was said by hand can't be meant.
    """
    if asked.delimiter is not None and len(asked.delimiter) != 1:
        raise InputError(f"delimiter {asked.delimiter!r} must be one character, such as ; or a tab")
    if asked.quoting not in QUOTINGS:
        raise InputError(f"unknown quoting {asked.quoting!r}: choose one of {', '.join(QUOTINGS)}")
    delimiter, quoting = asked.delimiter, asked.quoting
    if source.ahead is not None and (delimiter is None or quoting == "auto"):
        source.ahead.fill()
    if delimiter is None:
        delimiter = _find_delimiter(source, default)
    if quoting != "auto":
        return Dialect(delimiter, quoting, asked.header)
    if _is_plain(source, delimiter):
        return Dialect(delimiter, "minimal", asked.header, is_plain=not source.is_cut)
    return Dialect(delimiter, _find_quoting(source, delimiter), asked.header)


def read_table(source: Source, dialect: Dialect, stack: ExitStack) -> Iterator[TableRow]:
    """Read rows, the header among them; blank lines are left out."""
    if dialect.is_plain:
        return _parse_plain(source, dialect.delimiter, stack)
    return parse(source.lines(stack), dialect, source)


def _parse_plain(source: Source, delimiter: str, stack: ExitStack) -> Iterator[TableRow]:
    """Give a row a line, as `parse` does, where a look has shown that it may be done quickly."""
    csv.field_size_limit(2 * source.max_line_bytes)
    rows = csv.reader(source.text(stack), delimiter=delimiter, strict=True)
    try:
        for line, cells in enumerate(rows, source.lines_before + 1):
            if cells:
                yield line, cells, ""
    except csv.Error as error:
        raise InputError(f"{source.name} changed while it was read") from error


def parse(
    lines: Iterable[tuple[str, bool]], dialect: Dialect, source: Source
) -> Iterator[TableRow]:
    """Cut lines into rows by a dialect.

    Parameters
    ----------
    lines : iterable of (str, bool)
        Lines with their ends, see `features/tweets/source.py`.
    dialect : Dialect
    source : Source
        Where they come from.

    Raises
    ------
    InputError
        A quote is opened and never closed, or a row goes on for more than a line may have.
    """
    csv.field_size_limit(2 * source.max_line_bytes)
    if dialect.quoting == "none":
        yield from _parse_lines(lines, dialect.delimiter, source)
        return
    escaped = dialect.quoting == "backslash"
    record = _Record(source)
    rows = csv.reader(record.feed(lines, escaped), delimiter=dialect.delimiter, strict=True)
    while True:
        try:
            cells = next(rows, None)
        except csv.Error as error:
            yield record.first, [], record.reason(str(error))
        else:
            if cells is None:
                return
            if record.cut:
                yield record.first, [], _too_long(source)
            elif cells:
                if escaped and any(_ESCAPED in line for line in record.lines):
                    cells = [cell.replace(_ESCAPED, '"') for cell in cells]
                yield record.first, cells, ""
        record.begin()


def _too_long(source: Source) -> str:
    return f"line is longer than {source.max_line_bytes} bytes"


def _parse_lines(
    lines: Iterable[tuple[str, bool]], delimiter: str, source: Source
) -> Iterator[TableRow]:
    """Give a row a line: quotes are text."""
    for number, (line, too_long) in enumerate(lines, source.lines_before + 1):
        content = line.rstrip("\r\n")
        if too_long:
            yield number, [], _too_long(source)
        elif content:
            yield number, content.split(delimiter), ""


class _Record:
    """The raw lines of the row that is being read: one, or more where a cell has some."""

    def __init__(self, source: Source) -> None:
        self._name, self._most = source.name, source.max_line_bytes
        self._read = source.lines_before
        self.begin()

    def begin(self) -> None:
        """Begin the next row."""
        self.first = self._read + 1
        self.lines: list[str] = []
        self.cut = False  # whether one of them was too long
        self._size = 0

    def feed(self, lines: Iterable[tuple[str, bool]], escaped: bool) -> Iterator[str]:
        """Hand lines to the parser, and remember those of the row that it is at."""
        for line, too_long in lines:
            self._read += 1
            self.cut |= too_long
            self._size += len(line) + _LINE
            if self._size > self._most + _LINE:
                raise InputError(
                    f"{self._name}, line {self.first}: its row goes on for more than "
                    f"{self._most} bytes; is a quote opened and never closed?"
                )
            if escaped and '\\"' in line:
                line = line.replace('\\"', _ESCAPED)
            self.lines.append(line)
            yield line

    def reason(self, error: str) -> str:
        """Say why the row can't be read; refuse a file where that takes all behind it along."""
        if "unexpected end" in error:
            raise InputError(
                f"{self._name}, line {self.first}: a quote is opened and never closed, so the rows "
                "behind it cannot be told apart; close it, double a quote that is part of the text "
                '(""), or give `quoting=none` if quotes are text'
            )
        start = shown("".join(self.lines).strip().replace(_ESCAPED, '\\"'))
        if "expected after" in error:
            return f"text follows a closing quote, so where its cells end is not clear: {start}"
        return f"not a row of a table ({error}): {start}"


def _find_delimiter(source: Source, default: str) -> str:
    """Take another delimiter than that of the name where it cuts all rows alike, and that doesn't.

    Where none does, the header tells: what is in it, that of the name first.
    """
    with source.lines_again() as lines:
        sample = list(islice((line for line, _ in lines if line.strip()), _SAMPLE_ROWS))
    csv.field_size_limit(2 * source.max_line_bytes)
    marks = [mark for mark in (default, *DELIMITERS) if sample and mark in sample[0]]
    for mark in sorted(marks, key=lambda mark: (mark != default, -sample[0].count(mark))):
        if len(set(_widths(sample, mark, is_cut=len(sample) == _SAMPLE_ROWS))) == 1:
            return mark
    if default in marks:
        return default
    return max(marks, key=lambda mark: sample[0].count(mark), default=default)


def _widths(sample: Sequence[str], delimiter: str, *, is_cut: bool) -> list[int]:
    """Count the cells of the first rows; where they are cut, the last one may go on."""
    rows = [len(cells) for cells in csv.reader(sample, delimiter=delimiter)]
    return rows[:-1] if is_cut and len(rows) > 1 else rows


@dataclass
class _Fit:
    """How a dialect fits a file: rows that break it, of another width, that swallow others."""

    broken: int = 0
    odd: int = 0
    swallowing: int = 0

    @property
    def perfect(self) -> bool:
        return not (self.broken or self.odd or self.swallowing)


def _find_quoting(source: Source, delimiter: str) -> str:
    fit = _fit(source, Dialect(delimiter, "minimal", header=True))
    if fit.perfect:
        return "minimal"
    others = ["backslash", "none"] if fit.broken or fit.swallowing else ["none"]
    for quoting in others:
        if _fit(source, Dialect(delimiter, quoting, header=True)).perfect:
            return quoting
    return "minimal"


def _is_plain(source: Source, delimiter: str) -> bool:
    """Whether strict quoting cuts the file into rows of one line and one width, found quickly."""
    if source.found_encoding != "utf-8-sig" or not source.look.has_short_lines:
        return False
    if not source.look.has_quotes:
        return True  # of other widths or not: no other quoting would cut it in another way
    width = n_rows = 0
    csv.field_size_limit(2 * source.max_line_bytes)
    with source.text_again() as text:
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            for cells in rows:
                width = width or len(cells)
                n_rows += 1
                if rows.line_num != n_rows or len(cells) not in (0, width):
                    return False
        except (csv.Error, InputError):
            return False
    return True


def _fit(source: Source, dialect: Dialect) -> _Fit:
    """Go through the file by a dialect."""
    fit = _Fit()
    values = _Values(dialect.delimiter, source.max_line_bytes)
    header: list[str] | None = None
    with source.lines_again() as lines:
        spy = _Spy(lines)
        try:
            for _, cells, reason in parse(spy.lines(), dialect, source):
                if reason:
                    fit.broken += 1
                elif header is None:
                    header = cells
                    # Of one column, any line would be a row.
                    fit.odd += len(header) == 1 and dialect.quoting == "none"
                elif len(cells) != len(header):
                    fit.odd += 1
                elif len(spy.row) > 1:
                    values.hold(spy.row[1:])
                else:
                    values.add(cells)
                if fit.broken or (fit.odd and dialect.quoting != "minimal"):
                    break  # more of it would change nothing
                spy.forget()
        except InputError:  # a quote that is never closed
            if source.is_cut:  # or closed behind what is seen
                values.hold(spy.row[1:])
            else:
                fit.broken += 1
    if header is not None and len(header) > 1:
        fit.swallowing = values.swallowing()
    return fit


class _Spy:
    """Remembers the lines of the row that is read."""

    def __init__(self, lines: Iterable[tuple[str, bool]]) -> None:
        self._lines = lines
        self.forget()

    def forget(self) -> None:
        """Begin the next row."""
        self.row: list[str] = []

    def lines(self) -> Iterator[tuple[str, bool]]:
        """Hand the lines on."""
        for line, too_long in self._lines:
            self.row.append(line)
            yield line, too_long


class _Values:
    """What is known of columns from rows of one line, and rows of several that may swallow some.

    Known is which columns hold few values, and which numbers. That is known best at the end, so
    rows of several lines wait for it, in bounded memory: those beyond are judged as they come.
    """

    def __init__(self, delimiter: str, most: int) -> None:
        self._delimiter, self._most = delimiter, most
        self._seen: list[set[str]] = []
        self._whole: list[bool] = []
        self._rows = self._width = 0
        self._waiting: list[Sequence[str]] = []
        self._held = 0
        self._swallowing = 0

    def add(self, cells: Sequence[str]) -> None:
        """Learn a row."""
        if not self._rows:
            self._width = len(cells)
            self._seen = [set() for _ in cells[:_WIDE]]
            self._whole = [True] * len(self._seen)
        self._rows += 1
        for n, cell in enumerate(cells[:_WIDE]):
            if len(self._seen[n]) <= _MANY:
                self._seen[n].add(cell.strip()[:_LONG])
            if self._whole[n]:
                self._whole[n] = cell.strip().isdigit()

    def hold(self, lines: Sequence[str]) -> None:
        """Take the further lines of a row."""
        self._held += sum(len(line) + _LINE for line in lines)
        if self._held <= self._most:
            self._waiting.append(lines)
        else:
            self._swallowing += self._swallows(lines)

    def swallowing(self) -> int:
        """How many rows of several lines swallow others."""
        return self._swallowing + sum(self._swallows(lines) for lines in self._waiting)

    def _swallows(self, lines: Sequence[str]) -> bool:
        """Whether one of the further lines of a row would be a row itself."""
        return any(
            self._is_row(line.rstrip("\r\n").split(self._delimiter))
            for line in lines
            if line.count(self._delimiter) == self._width - 1
        )

    def _is_row(self, cells: Sequence[str]) -> bool:
        """Whether as many cells as others are look like them, where those look like something."""
        if not self._rows:
            return False
        classes = [
            cell.strip()[:_LONG] in seen
            for cell, seen in zip(cells, self._seen, strict=False)  # those that are looked at
            if len(seen) <= max(2, self._rows // 3) and len(seen) <= _MANY
        ]
        numbers = [
            cell.strip().isdigit() for cell, whole in zip(cells, self._whole, strict=False) if whole
        ]
        # A number in its column says more than a class that may not have come up yet.
        return all(numbers) if numbers else bool(classes) and all(classes)
