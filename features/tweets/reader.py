"""Files, frames and data sets of tweets in, `Tweet` and `Reject` records out, in input order.

The formats of files are in `features/tweets/formats.py`, other sources of rows in
`features/tweets/rows`. A row that can't be used becomes a `Reject` with its line and the reason,
and reading goes on; a file that can't be used is an `InputError`. Text comes out as it stands in
the file, repaired only where it is not Unicode; the normaliser is in
`features/spec/normalize.py`. Nothing here knows about models.
"""

from __future__ import annotations

import gzip
import lzma
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO, cast

from features.base import storage
from features.base.paths import check_input
from features.base.remote.copies import here
from features.base.shown import NOT_UNICODE, listed, shown
from features.errors import FileRefused, InputError, system_reason
from features.tweets.columns import (
    LABEL_CASES,
    Columns,
    check_columns,
    check_single,
    choose_columns,
    with_more_columns,
)
from features.tweets.findings import Findings, folded_label
from features.tweets.formats import (
    FORMATS,
    TABLES,
    format_by_content,
    format_of,
    in_words,
)
from features.tweets.rows.inputs import Input, inputs_of, path_of
from features.tweets.rows.row_source import Header, Row, RowSource
from features.tweets.source import MAX_LINE_BYTES, LookAhead, Source
from features.tweets.span import Part, Span
from features.tweets.table import InputFormat
from features.tweets.values import BLANKS, EXPONENT, id_of, kind_of, label_of, whole_text

MAX_ID_BYTES = 256
# Characters that are never more bytes.
_SHORT_ID = MAX_ID_BYTES // 4
# Bytes of a file from which on it is told at every so many rows only how much of it is read.
_LARGE, _STEP = 2**20, 16
# Sets of keys that the objects of a file have, which are remembered.
_MOST_SHAPES = 1000


@dataclass(slots=True)  # frozen, it would take three times as long to make
class Tweet:
    """One usable row, and where it stands; `repaired` says that what is no text became U+FFFD."""

    id: str
    text: str
    label: str | None = None
    repaired: bool = False
    source: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)
    group: str | None = None

    def rejected(self, reason: str) -> Reject:
        """Give the reject that it becomes, when it turns out later that it can't be used."""
        return Reject(self.source, self.line, reason, shown(self.text))


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that could not be used: where, why, and how it starts."""

    source: str
    line: int
    reason: str
    start: str = ""


class _Place:
    """Where a row stands, and what is known of its file.

    Attributes
    ----------
    columns : mapping of str to str
        By role, the columns that are read.
    keys : mapping of str to str or int
        The same as what cells are taken by: names, or places in the rows of a table.
    is_whole : bool
        Whether the whole text of a tweet may stand beside a cut one.
    is_clean : bool
        Whether there can be nothing to repair.
    """

    def __init__(self, source: str, *, is_whole: bool) -> None:
        self.source, self.line, self.is_whole, self.is_clean = source, 0, is_whole, False
        self.columns: Mapping[str, str] = {}
        self.keys: Mapping[str, Any] = {}

    def take(self, columns: Mapping[str, str], header: list[str] | None = None) -> None:
        """Read these columns from now on."""
        self.columns = columns
        self.keys = columns
        if header is not None:
            self.keys = {role: header.index(name) for role, name in columns.items()}

    def reject(self, reason: str, text: object) -> Reject:
        """Give the reject that the row becomes."""
        return Reject(self.source, self.line, reason, "" if text is None else shown(str(text)))


def _repaired(text: str) -> str:
    """Give a text without what can't be in a text file: the same object where it is fine."""
    if text.isascii() and "\0" not in text:
        return text
    return NOT_UNICODE.sub("\ufffd", text) if NOT_UNICODE.search(text) else text


def characters(row: Tweet | Reject) -> int:
    """How much there is to hold of a row."""
    return len(row.text) if isinstance(row, Tweet) else len(row.reason) + len(row.start)


class TweetReader:
    """Reads tweets input by input, in order; iterate over it once.

    Parameters
    ----------
    inputs : path, `Span`, frame, data set or `RowSource`, or a sequence of these
        A file is one of `FORMATS`, maybe compressed; "-" is JSON or a table on standard input. See
        `inputs_of`.
    columns : Columns
        Where text, label and id are.
    written : InputFormat
        How the inputs are written.
    max_line_bytes : int
        A longer line is a reject; memory is bounded by it. Of standard input, a sixteenth of it is
        looked at before it is read.
    piece : int, optional
        The number of the piece that the inputs are of a larger input, see `features/pieces`: a row
        without an id gets `PIECE:ROW`. What can be said of all of the input alone is left to
        whoever has all of it: whether the mapping maps anything.

    Attributes
    ----------
    findings : Findings
        What there is to say about the input, complete once all of it is read.

    Raises
    ------
    InputError
        At once for what can be seen without reading the rows, else while iterating.
    """

    def __init__(
        self,
        inputs: Any,
        columns: Columns = Columns(),  # noqa: B008 - it is frozen
        *,
        written: InputFormat = InputFormat(),  # noqa: B008 - it is frozen
        max_line_bytes: int = MAX_LINE_BYTES,
        piece: int | None = None,
    ) -> None:
        self.findings = Findings()
        self._inputs = inputs_of(inputs)
        if not self._inputs:
            raise InputError("no input was given: name a file, or - for standard input")
        if not self.files and (named := written.given):
            parameters = ", ".join(f"`{name}`" for name in named)
            raise InputError(f"{parameters}: for files alone, and no input is one; leave it out")
        paths = [path_of(one) for one in self._inputs]
        with storage.asked_together(self.files):
            self._formats = [
                "" if path is None else format_of(path, written.format) for path in paths
            ]
            self._total_bytes = _bytes_of(self._inputs)
        self._piece = piece
        self._asked = columns.asked
        self._fold = columns.label_case == "fold"
        if columns.label_case not in LABEL_CASES:
            raise InputError(
                f"unknown label case {columns.label_case!r}: choose {' or '.join(LABEL_CASES)}"
            )
        self._written, self._max_line_bytes = written, max_line_bytes
        self._labels = None if columns.labels is None else here(columns.labels)
        self._mapping = None if columns.mapping is None else _read_mapping(here(columns.mapping))
        self._need_labels = columns.need_labels
        # Of the files before, and of the one at work where its last row ended.
        self._done_bytes = self._position = 0
        self._raw: BinaryIO | None = None
        if self._labels is not None:
            self._check_labels_file()
        self._total_rows = _rows_of(self._inputs)
        self._rows_seen = 0
        self._known_labels: dict[str, str] = {}

    @property
    def files(self) -> list[str]:
        """The inputs that are files, or standard input."""
        return [path for one in self._inputs if (path := path_of(one)) is not None]

    def __str__(self) -> str:
        return ", ".join(path_of(one) or str(getattr(one, "name", one)) for one in self._inputs)

    @property
    def label_order(self) -> list[str] | None:
        """The classes in the order of the mapping; None without one."""
        return None if self._mapping is None else list(dict.fromkeys(self._mapping.values()))

    @property
    def rows_read(self) -> int:
        """Rows so far, usable or not."""
        return self._rows_seen

    def fraction_read(self) -> float | None:
        """How much of the input has been read, by bytes or by rows; None where that is unknown."""
        if self._total_rows:
            return min(1.0, self._rows_seen / self._total_rows)
        if not self._total_bytes:
            return None
        return min(1.0, (self._done_bytes + self._position) / self._total_bytes)

    def __iter__(self) -> Iterator[Tweet | Reject]:
        for one, suffix in zip(self._inputs, self._formats, strict=True):
            yield from self._read(one, suffix)
        if self._mapping is not None and self._rows_seen and self._piece is None:
            self.findings.check_mapping(self._mapping)

    def _read(self, one: Input, suffix: str) -> Iterator[Tweet | Reject]:
        with ExitStack() as stack:
            source = one if isinstance(one, RowSource) else self._open(one, stack)
            stack.enter_context(readable(source.name))
            step = 1
            if isinstance(source, RowSource):
                rows = source.rows(self._max_line_bytes)
            else:
                suffix = suffix or format_by_content(source, self._asked, self._written)
                rows = FORMATS[suffix].read(source, self._written, stack)
                if source.path is not None and _size_of(one) >= _LARGE:
                    step = _STEP
            if self._labels is not None:
                rows = self._with_labels(rows, stack)
            place = _Place(source.name, is_whole=self._asked["text"] is None and "js" in suffix)
            is_table = False
            part = one.part if isinstance(one, Span) else None
            if part is not None:
                place.take(dict(part.columns))
            rows_before = self._rows_seen
            shapes: dict[tuple[str, ...], None] = {}  # of objects: the keys that they have
            for line, cells in rows:
                if self._raw is not None and not self._rows_seen % step:
                    self._position = self._raw.tell()
                if isinstance(cells, Header):
                    place.take(self._columns_of(cells, source, suffix), cells.columns)
                    place.is_clean = (
                        isinstance(source, Source)
                        and suffix in (*TABLES, ".txt")
                        and source.is_clean
                    )
                    is_table = True
                    continue
                number, self._rows_seen = self._rows_seen, self._rows_seen + 1
                place.line = line
                if isinstance(cells, str):
                    yield Reject(source.name, line, cells)
                    continue
                if not is_table and (keys := tuple(cells)) not in shapes:
                    place.take(self._with_more(place.columns, keys, source, suffix))
                    if len(shapes) < _MOST_SHAPES:
                        shapes[keys] = None
                if "text" in place.keys:
                    yield self._to_tweet(cells, number, place)
                else:
                    yield Reject(source.name, line, f"no text among its keys: {listed(cells)}")
            if part is not None:
                _check_rows(source.name, part.rows, self._rows_seen - rows_before, suffix)
            most = max(shapes, key=len, default=())
            if "text" not in place.columns and most and part is None:
                check_columns(self._asked, place.columns, most, source.name)
            if self._raw is not None:
                self._done_bytes += _size_of(one)
            self._position, self._raw = 0, None

    def _open(self, one: str | Span, stack: ExitStack) -> Source:
        path = one if isinstance(one, str) else one.path
        if path == "-":
            self._raw = None
            raw = LookAhead(stack.enter_context(_standard_input()), self._max_line_bytes // 16)
            return self._source("standard input", None, raw)
        part = one.part if isinstance(one, Span) else None
        with readable(path):
            # Of a part, its bytes alone are fetched; what is read whole is brought here once.
            file = storage.local_name(path) if part is not None else here(path)
            self._raw = stack.enter_context(storage.reading(path if part is not None else file))
            if isinstance(one, Span) and (size := _size_of(one)) != one.size:
                raise InputError(
                    f"{path} has {size:,} bytes, and had {one.size:,} when the input was split: "
                    "begin again with a new output"
                )
        return self._source(path, file, self._raw, part)

    def _source(
        self, name: str, path: Path | None, raw: BinaryIO | LookAhead, part: Part | None = None
    ) -> Source:
        return Source(name, path, raw, self._written.encoding, self._max_line_bytes, part)

    def _columns_of(
        self, header: Header, source: Source | RowSource, suffix: str
    ) -> dict[str, str]:
        """Choose the columns of a table, and refuse it where they are not clear."""
        columns = choose_columns(self._asked, header.columns)
        # Lines of text have labels beside them, or none.
        required = {"text", "label"} if self._need_labels and suffix != ".txt" else {"text"}
        try:
            check_columns(self._asked, columns, header.columns, source.name, required)
        except InputError as error:
            hints = {
                "if the first line is a row, and no names, give `header=False`": (
                    suffix in TABLES and self._written.header
                ),
                "if it is a tweet a line, give `input_format=txt`": (
                    isinstance(source, Source) and source.path is None
                ),
            }
            said = [str(error), *header.notes, *(hint for hint, fits in hints.items() if fits)]
            raise InputError("; ".join(said)) from error
        check_single(columns, header.columns, source.name)
        how = in_words(source, suffix, header.format)
        self.findings.saw_columns(source.name, columns, header.columns, how)
        self.findings.notes.extend(header.notes)
        return columns

    def _with_more(
        self,
        columns: Mapping[str, str],
        keys: Sequence[str],
        source: Source | RowSource,
        suffix: str,
    ) -> dict[str, str]:
        """Choose columns among the keys of an object, for the roles that have none yet."""
        more = with_more_columns(self._asked, columns, keys, source.name)
        if "text" in more:
            self.findings.saw_columns(source.name, more, keys, in_words(source, suffix))
        return more

    def _with_labels(self, rows: Iterator[Row], stack: ExitStack) -> Iterator[Row]:
        """Put the lines of the labels file beside the tweets; they were counted before."""
        assert self._labels is not None
        raw = stack.enter_context(self._labels.open("rb"))
        labels = self._source(str(self._labels), self._labels, raw).lines(stack)
        line, header = next(rows)
        assert isinstance(header, Header), "lines of text have one column"
        yield line, replace(header, columns=[*header.columns, "label"])
        for row, label in zip_longest(rows, labels):
            if row is None or label is None:
                raise InputError(f"{self.files[0]} or {self._labels} changed while it was read")
            line, cells = row
            if label[1]:
                cells = f"its label is longer than {self._max_line_bytes} bytes"
            yield line, [*cells, label[0].strip()] if isinstance(cells, list) else cells

    def _to_tweet(
        self, cells: list[Any] | dict[str, Any], number: int, where: _Place
    ) -> Tweet | Reject:
        get: Callable[[Any], Any] = cells.get if isinstance(cells, dict) else cells.__getitem__
        keys = where.keys
        text = get(keys["text"])
        if not isinstance(text, str):
            column = repr(where.columns["text"])
            if text is None:
                return where.reject(f"no text: {column} is missing or null", None)
            return where.reject(f"{column} is {kind_of(text)}, not a text", text)
        try:
            identity = self._id(get(keys["id"])) if "id" in keys else None
            group = label_of(get(keys["group"])) if "group" in keys else None
            label = self._label(get(keys["label"])) if "label" in keys else None
        except ValueError as error:
            return where.reject(str(error), text)
        if identity is None:
            identity = str(number) if self._piece is None else f"{self._piece}:{number}"
            self.findings.saw_id(identity)  # another row may have that
            self.findings.without_id += "id" in keys
        if where.is_clean:
            return Tweet(identity, text, label, False, where.source, where.line, group)
        if where.is_whole and isinstance(cells, dict) and (whole := whole_text(cells)) is not None:
            self.findings.completed += 1
            text = whole
        # Characters that can't be in a text file, on purpose or by damage: said, never dropped.
        repaired = _repaired(text)
        return Tweet(
            _repaired(identity),
            repaired,
            label,
            repaired is not text,
            where.source,
            where.line,
            None if group is None else _repaired(group),
        )

    def _label(self, value: object) -> str | None:
        """Give a label as it is used; most are known already."""
        known = self._known_labels.get(value) if isinstance(value, str) else None
        if known is not None:
            self.findings.labels[known] += 1
            self.findings.mapped += 1
            return known
        label = label_of(value)
        if label is None and self._mapping is not None and isinstance(value, str):
            # A mapping may name what would be read as missing.
            label = value.strip(BLANKS) if value.strip(BLANKS) in self._mapping else None
        if label is None:
            self.findings.saw_missing_label(value)
            return None
        if self._mapping is not None:
            if label not in self._mapping:
                self.findings.unmapped += 1
                raise ValueError(
                    f"label {shown(label)} is not in the mapping ({listed(self._mapping)})"
                )
            self.findings.mapped += 1
            label = self._mapping[label]
        if self._fold:
            label = folded_label(label)
        label = _repaired(label)
        self.findings.saw_label(label)
        if isinstance(value, str) and value != value.strip(BLANKS):
            self.findings.stripped += 1
        elif isinstance(value, str) and label in self.findings.labels:
            self._known_labels[value] = label
        return label

    def _id(self, value: object) -> str | None:
        """Give an id; most are plain numbers."""
        if isinstance(value, str) and value.isdigit() and value.isascii():
            identity = value
        else:
            found = id_of(value)
            if found is None:
                return None
            identity = found
            self.findings.exponent_ids += bool(isinstance(value, str) and EXPONENT.fullmatch(found))
        if len(identity) > _SHORT_ID and len(_repaired(identity).encode()) > MAX_ID_BYTES:
            raise ValueError(f"id is longer than {MAX_ID_BYTES} bytes")
        self.findings.saw_id(identity)
        return identity

    def _check_labels_file(self) -> None:
        assert self._labels is not None
        check_input(self._labels)
        if len(self._inputs) != 1 or self._formats[0] != ".txt":
            raise InputError("`labels` goes with exactly one .txt input, one tweet a line")
        texts, labels = (
            _count_lines(path, self._written.encoding)
            for path in (here(self.files[0]), self._labels)
        )
        if texts != labels:
            raise InputError(
                f"{self.files[0]} has {texts} lines, {self._labels} has {labels}; they must pair up"
            )


def _size_of(one: Input) -> int:
    path = path_of(one)
    assert path is not None, "it is a file"
    return storage.size(path)


def _bytes_of(inputs: Sequence[Input]) -> int | None:
    """Give the size of all inputs, where all are files."""
    if any(path_of(one) in (None, "-") for one in inputs):
        return None
    return sum(map(_size_of, inputs))


def _rows_of(inputs: Sequence[Input]) -> int | None:
    """Give the number of rows of all inputs, where all know it."""
    counts = [_known_rows(one) for one in inputs]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _known_rows(one: Input) -> int | None:
    if isinstance(one, RowSource):
        return one.n_rows
    return one.part.rows if isinstance(one, Span) and one.part is not None else None


def _check_rows(name: str, expected: int, found: int, suffix: str) -> None:
    """Refuse a part that has not the rows that it had; of lines of JSON, it may have more."""
    if found < expected or (found > expected and "js" not in suffix):
        raise InputError(
            f"{name} has {found:,} rows where it had {expected:,} when the input was split: it "
            "has changed; begin again with a new output"
        )


def _read_mapping(path: Path) -> dict[str, str]:
    """Lines of `value<TAB>name`."""
    mapping: dict[str, str] = {}
    for number, line in enumerate(_text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        value, tab, label = line.partition("\t")
        if not tab or not label.strip():
            raise InputError(f"{path}, line {number}: must be value<TAB>name, is {shown(line)}")
        value = label_of(value) or value.strip()  # 0.0 in the file is 0 in the mapping
        if mapping.setdefault(value, label.strip()) != label.strip():
            raise InputError(
                f"{path}, line {number}: {shown(value)} has another name already, "
                f"{shown(mapping[value])}"
            )
    if not mapping:
        raise InputError(f"{path} maps nothing; its lines must be value<TAB>name")
    return mapping


@contextmanager
def _standard_input() -> Iterator[BinaryIO]:
    """Standard input, not through `sys.stdin`.

    Python closes that when it ends, and aborts if a thread still waits in it for more.
    """
    try:
        number = sys.stdin.fileno()
    except (OSError, ValueError):  # replaced by something that is not a file
        yield cast(BinaryIO, sys.stdin.buffer)
        return
    with open(number, "rb", closefd=False) as raw:
        yield raw


def _text_of(path: Path) -> str:
    check_input(path)
    try:
        if path.stat().st_size > MAX_LINE_BYTES:
            raise InputError(f"{path} has more than {MAX_LINE_BYTES} bytes; is it a mapping?")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _count_lines(path: Path, encoding: str | None) -> int:
    with (
        readable(str(path)),
        path.open("rb") as raw,
        Source(str(path), path, raw, encoding).lines_again() as lines,
    ):
        return sum(1 for _ in lines)
    raise AssertionError("readable lets no error pass")


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Say in one line why a file can't be read."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise FileRefused(
            f"{name}: its compressed data is damaged or cut short ({error})"
        ) from error
    except OSError as error:
        raise InputError(f"{name} cannot be read: {system_reason(error)}") from error
