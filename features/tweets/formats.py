"""Files in, rows of cells out: one reader a format, in the table `FORMATS`. No tweets yet.

A reader yields, for each row, the number of its line and the cells by column, or a text that says
why there are none. Formats whose columns are known before the first row yield a `Header` first, and
then rows in its order. Memory is bounded by `Source.max_line_bytes` a row. What a file can't be
used for is an `InputError`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from typing import BinaryIO, cast

from features.base.paths import check_input
from features.base.shown import shown
from features.errors import InputError
from features.tweets import parquet
from features.tweets.columns import choose_columns
from features.tweets.json_records import read_json, read_json_lines
from features.tweets.rows.arrow import not_read
from features.tweets.rows.row_source import Header, Row, RowSource
from features.tweets.source import (
    COMPRESSIONS,
    Source,
    check_text,
    inner_name,
    known_encoding,
    mark_of,
)
from features.tweets.table import DELIMITERS, InputFormat, find_dialect, read_table
from features.tweets.values import BLANKS

# Lines of a text from which it is told that it may be a table.
_SAMPLE_LINES = 100
# Characters of the first line of standard input that are looked at for columns.
_LONGEST_HEADER = 2**16


Reader = Callable[[Source, InputFormat, ExitStack], Iterator[Row]]


def format_of(path: str, asked: str | None = None) -> str:
    """Check that an input can be opened, and give its format as in `FORMATS`.

    That is the one that is asked for, else by the name; "" for standard input, where it is told by
    the content, see `format_by_content`.
    """
    if path != "-":
        check_input(path)
    if asked is not None:
        if f".{asked}" not in FORMATS or (path == "-" and f".{asked}" in BINARY):
            known = ", ".join(suffix[1:] for suffix in FORMATS if suffix.startswith("."))
            raise InputError(f"unknown input format {asked!r}: choose one of {known}")
        return f".{asked}"
    if path == "-":
        return ""
    name = inner_name(path)
    suffix = next((suffix for suffix in FORMATS if name.endswith(suffix)), "")
    if not suffix or (suffix in BINARY and name != path.rsplit("/", 1)[-1].lower()):
        if name.endswith(".zip") or path.lower().endswith(".zip"):
            raise InputError(
                f"{path}: what it holds is not known: unpack it, and name the file that is meant, "
                "or say what the only file in it is with `input_format`"
            )
        known, binary = ", ".join(FORMATS), " and ".join(BINARY)
        packed = ", ".join((*COMPRESSIONS, ".zip"))
        raise InputError(
            f"{path}: unknown format; the name must end in one of {known} (all but {binary} also "
            f"with {packed}), or be - for standard input; or say it with `input_format`"
        )
    return suffix


def format_by_content(source: Source, asked: Mapping[str, str | None], written: InputFormat) -> str:
    """Tell the format of standard input by its first line, which is waited for, and no more.

    An object or an array is JSON. A line that names a column of texts is the header of a table, and
    so is one of several cells, or any where it was said how tables are written. All else is JSON
    Lines, row by row.

    Parameters
    ----------
    source : Source
    asked : mapping
        What was said of the columns, by role.
    written : InputFormat
    """
    ahead = source.ahead
    assert ahead is not None, "files are told by their names"
    text = ""
    while not _tells(text) and not ahead.is_full and ahead.more():
        check_text(ahead.held, source.name)
        encoding = known_encoding(source.encoding or mark_of(ahead.held) or "utf-8-sig")
        text = ahead.held.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    line = (text.splitlines() or [""])[0]
    if line.startswith(("[", "window.YTD")) or line.strip() == "{":
        return ".json"
    if line.startswith("{"):
        return ".jsonl"
    is_table = written.delimiter is not None or not written.header
    for mark in DELIMITERS:
        cells = next(csv.reader([line[:_LONGEST_HEADER]], delimiter=mark), [])
        # An object that is cut at its front, as by `tail`, still ends as one.
        several = len(cells) > 1 and not line.rstrip().endswith("}")
        is_table |= several or "text" in choose_columns(asked, cells)
    if not is_table:
        return ".jsonl"
    return ".tsv" if "\t" in line else ".csv"


def _tells(text: str) -> bool:
    """Whether enough of a first line is there to know what it is."""
    return (text[:1] in ("{", "[") and len(text) > 1) or "\n" in text or "\r" in text


def _read_delimited(default: str) -> Reader:
    def read(source: Source, table: InputFormat, stack: ExitStack) -> Iterator[Row]:
        part, known = source.part, source.known
        dialect = known.dialect if known is not None else find_dialect(source, default, table)
        assert dialect is not None, "it is known of every table"
        rows = read_table(source, dialect, stack)
        if part is not None and known is not None and not part.is_first:
            first = list(known.first)
        else:
            line, first, reason = next(rows, (0, [], ""))
            if reason:
                raise InputError(f"{source.name}, line {line}: {reason}; it must name the columns")
            if not first:
                raise InputError(f"{source.name} is empty; its first line must name the columns")
            if not dialect.header:
                rows = chain([(line, first, reason)], rows)
        width, last = len(first), first[-1]
        columns = first if dialect.header else list(map(str, range(width)))
        yield 0, Header(columns, str(dialect))
        for line, cells, reason in rows:
            if reason:
                yield line, reason
            elif len(cells) != width:
                found = shown(dialect.delimiter.join(cells))
                yield line, f"{len(cells)} cells under {width} columns: {found}"
            elif cells[-1] == last and _is_header(cells, columns):
                yield line, "the names of the columns again, not a tweet"
            else:
                yield line, cells

    return read


def _is_header(cells: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether a row is the header of a file that was put behind another."""
    return len(columns) > 1 and [cell.strip(BLANKS) for cell in cells] == [
        name.strip(BLANKS) for name in columns
    ]


def _read_jsonl(source: Source, table: InputFormat, stack: ExitStack) -> Iterator[Row]:
    yield from read_json_lines(source, stack)


def _read_json(source: Source, table: InputFormat, stack: ExitStack) -> Iterator[Row]:
    yield from read_json(source, stack)


def _read_lines_of_text(source: Source, table: InputFormat, stack: ExitStack) -> Iterator[Row]:
    notes = notes_of_text(source) if source.known is None else source.known.notes
    yield 0, Header(["text"], notes=notes)
    for number, (line, too_long) in enumerate(source.lines(stack), source.lines_before + 1):
        if too_long:
            yield number, f"line is longer than {source.max_line_bytes} bytes"
        else:
            yield number, [line.rstrip("\r\n")]


def notes_of_text(source: Source) -> tuple[str, ...]:
    """Say that lines of text look like rows of a table, whose labels would be lost."""
    with source.lines_again() as lines:
        tabs = {line.count("\t") for line, _ in islice(lines, _SAMPLE_LINES)}
    if len(tabs) != 1 or tabs == {0}:
        return ()
    return (
        f"{source.name}: its lines have {tabs.pop()} tabs each, and are read as texts with them; "
        "if it is a table, give `input_format=tsv`, and `header=False` if its first line is a row",
    )


def _read_parquet(source: Source, table: InputFormat, stack: ExitStack) -> Iterator[Row]:
    part = source.part
    between = None if part is None else (part.start, part.stop)
    raw = cast(BinaryIO, source.raw)
    rows = parquet.rows_of(raw, source.name, source.max_line_bytes, between=between)
    names, nested, _ = next(rows, ([], [], []))
    yield 0, Header(names, notes=not_read(nested, source.name))
    yield from enumerate(rows, source.lines_before + 1)


@dataclass(frozen=True)
class Format:
    """A format: what it is called, and what reads it."""

    name: str
    read: Reader


# Tables, and the delimiters that their names stand for.
TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
FORMATS = {
    ".csv": Format("CSV", _read_delimited(TABLES[".csv"])),
    ".tsv": Format("TSV", _read_delimited(TABLES[".tsv"])),
    ".tab": Format("TSV", _read_delimited(TABLES[".tab"])),
    ".jsonl": Format("JSON Lines", _read_jsonl),
    ".ndjson": Format("JSON Lines", _read_jsonl),
    ".json": Format("JSON", _read_json),
    "tweets.js": Format("Twitter archive", _read_json),
    ".txt": Format("lines of text", _read_lines_of_text),
    ".parquet": Format("Parquet", _read_parquet),
    ".arrow": Format("Arrow", _read_parquet),
    ".feather": Format("Arrow", _read_parquet),
}
# An object a line, or else one array where it begins so; the others may have values over lines.
JSON_LINES = (".jsonl", ".ndjson")
JSON = (*JSON_LINES, ".json", "tweets.js")
# What has a compression of its own.
BINARY = (".parquet", ".arrow", ".feather")


def in_words(source: Source | RowSource, suffix: str, dialect: str = "") -> str:
    """Say how an input is read: format, encoding, dialect."""
    if isinstance(source, RowSource):
        return source.format
    encoding = "" if suffix in BINARY else source.found_encoding
    encoding = "UTF-8" if encoding == "utf-8-sig" else encoding
    return ", ".join(filter(None, (FORMATS[suffix].name, encoding, dialect)))
