"""Files in, rows of cells out: one reader a format, in the table `FORMATS`. No tweets yet.

A reader yields, for each row, the number of its line and the cells by column, or a text that says why
there are none. Formats whose columns are known before the first row yield a `Header` first. Memory is
bounded by `MAX_LINE_BYTES` a row. What a file can't be used for is an `InputError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from features.base.paths import check_input
from features.base.shown import shown
from features.errors import InputError
from features.tweets import parquet
from features.tweets import source as sources
from features.tweets.json_records import read_json, read_json_lines
from features.tweets.source import COMPRESSIONS, Source, inner_name
from features.tweets.table import InputFormat, find_dialect, read_table


@dataclass(frozen=True)
class Header:
    """The columns of a file, and what there is to say about how it is read.

    Attributes
    ----------
    columns : list of str
    format : str
        How the file is read, e.g. its dialect.
    notes : tuple of str
        What is in the file and is not read.
    """

    columns: list[str]
    format: str = ""
    notes: tuple[str, ...] = field(default=())


Row = tuple[int, dict[str, Any] | Header | str]
Reader = Callable[[Source, InputFormat, ExitStack], Iterator[Row]]


def format_of(path: str, asked: str | None = None) -> str:
    """Check that an input can be opened, and give its format as in `FORMATS`: by its name, or as asked."""
    if path != "-":
        check_input(path)
    if asked is not None:
        if f".{asked}" not in FORMATS or (path == "-" and f".{asked}" in BINARY):
            known = ", ".join(suffix[1:] for suffix in FORMATS if suffix.startswith("."))
            raise InputError(f"unknown input format {asked!r}: choose one of {known}")
        return f".{asked}"
    if path == "-":
        return ".jsonl"
    name = inner_name(path)
    suffix = next((suffix for suffix in FORMATS if name.endswith(suffix)), "")
    if not suffix or (suffix in BINARY and name != path.rsplit("/", 1)[-1].lower()):
        known, binary = ", ".join(FORMATS), " and ".join(BINARY)
        packed = ", ".join((*COMPRESSIONS, ".zip"))
        raise InputError(
            f"{path}: unknown format; the name must end in one of {known} (all but {binary} also "
            f"with {packed}), or be - for JSON Lines on standard input; or say it with `input_format`"
        )
    return suffix


def _read_delimited(default: str) -> Reader:
    def read(source: Source, table: InputFormat, stack: ExitStack) -> Iterator[Row]:
        dialect = find_dialect(source, default, table)
        width = 0
        for row in read_table(source, dialect, stack):
            if not width:
                if row.reason:
                    raise InputError(
                        f"{source.name}, line {row.line}: {row.reason}; it must name the columns"
                    )
                width = len(row.cells)
                columns = row.cells if dialect.header else list(map(str, range(width)))
                yield row.line, Header(columns, str(dialect))
                if dialect.header:
                    continue
            if row.reason:
                yield row.line, row.reason
            elif len(row.cells) != width:
                found = shown(dialect.delimiter.join(row.cells))
                yield row.line, f"{len(row.cells)} cells under {width} columns: {found}"
            else:
                yield row.line, dict(zip(columns, row.cells, strict=True))
        if not width:
            raise InputError(f"{source.name} is empty; its first line must name the columns")

    return read


def _read_jsonl(source: Source, table: InputFormat, stack: ExitStack) -> Iterator[Row]:
    yield from read_json_lines(source, stack)


def _read_json(source: Source, table: InputFormat, stack: ExitStack) -> Iterator[Row]:
    yield from read_json(source, stack)


def _read_lines_of_text(source: Source, table: InputFormat, stack: ExitStack) -> Iterator[Row]:
    for number, (line, too_long) in enumerate(source.lines(stack), 1):
        if too_long:
            yield number, f"line is longer than {sources.MAX_LINE_BYTES} bytes"
        else:
            yield number, {"text": line.rstrip("\r\n")}


def _read_parquet(source: Source, table: InputFormat, stack: ExitStack) -> Iterator[Row]:
    rows = parquet.rows_of(source.raw, source.name, sources.MAX_LINE_BYTES)
    names, nested = next(rows, ([], []))
    notes = tuple(
        f"{source.name}: column {shown(name)} holds lists or objects and is not read"
        for name in nested
    )
    yield 0, Header(names, notes=notes)
    for number, values in enumerate(rows, 1):
        yield number, dict(zip(names, values, strict=True))


FORMATS: dict[str, Reader] = {
    ".csv": _read_delimited(","),
    ".tsv": _read_delimited("\t"),
    ".tab": _read_delimited("\t"),
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    "tweets.js": _read_json,
    ".txt": _read_lines_of_text,
    ".parquet": _read_parquet,
    ".arrow": _read_parquet,
    ".feather": _read_parquet,
}
# What has a compression of its own.
BINARY = (".parquet", ".arrow", ".feather")
