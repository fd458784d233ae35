"""Files in, rows of cells out: one reader a format, in the table `FORMATS`. No tweets yet.

A reader yields, for each row, the number of its line and the cells by column, or a text that says why
there are none. Formats whose columns are known before the first row yield their names first, as a
list. Memory is bounded by `MAX_LINE_BYTES` a row. What a file can't be used for is an `InputError`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

from features.base.paths import check_input
from features.base.shown import shown
from features.errors import InputError
from features.tweets import parquet

# A tweet has 280 characters; the bound keeps memory bounded whatever the file.
MAX_LINE_BYTES = 16 * 2**20

Row = tuple[int, dict[str, Any] | list[str] | str]
Reader = Callable[[BinaryIO, str], Iterator[Row]]


def format_of(path: str) -> Reader:
    """Check that an input can be opened, and give the reader of its format."""
    if path == "-":
        return FORMATS[".jsonl"]
    check_input(path)
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix not in FORMATS or (suffix == ".parquet" and path.endswith(".gz")):
        known = ", ".join(FORMATS)
        raise InputError(
            f"{path}: unknown format; the name must end in one of {known} (all but .parquet also with "
            ".gz), or be - for JSON Lines on standard input"
        )
    return FORMATS[suffix]


def uncompressed(raw: BinaryIO, path: str, stack: ExitStack) -> BinaryIO:
    """Give the stream to read an input from; `stack` closes what is opened for it."""
    stream = raw
    if path.endswith(".gz"):
        stream = cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=raw)))
    if not path.endswith(".parquet") and path != "-":
        _check_encoding(cast(io.BufferedReader, stream).peek(4096)[:4096], path)
    return stream


def _check_encoding(start: bytes, path: str) -> None:
    """Refuse UTF-16 and UTF-32, by their mark or by their NUL bytes: every row would be damaged."""
    wide = start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff"))
    if wide or start.startswith((b"\xff\xfe", b"\xfe\xff")):
        found = "UTF-32" if wide else "UTF-16"
        raise InputError(f"{path} is {found}, not UTF-8; convert it: iconv -f {found} -t UTF-8")
    if len(start) > 3 and 3 * start.count(0) >= len(start):
        raise InputError(
            f"{path} is no UTF-8: much of it is NUL bytes; if it is UTF-16 without a mark, convert it: "
            "iconv -f UTF-16LE -t UTF-8"
        )


def lines_of(stream: BinaryIO) -> Iterator[tuple[str, bool]]:
    """Lines with their end, decoded; bytes that are not UTF-8 become lone surrogates (repaired later).

    The flag says that a line was too long. Then what comes out is an empty line, or a quote where the
    line had an odd number of them, so that in a table a quoted cell still ends where it ended.
    """
    first = True
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if first:
            line, first = line.removeprefix(b"\xef\xbb\xbf"), False
            if not line:
                continue
        if len(line) <= MAX_LINE_BYTES:
            yield line.decode("utf-8", "surrogateescape"), False
            continue
        quotes = line.count(b'"')
        while line and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE_BYTES)
            quotes += line.count(b'"')
        yield '"\n' if quotes % 2 else "\n", True


def _read_csv(stream: BinaryIO, name: str) -> Iterator[Row]:
    return _read_delimited(stream, name, ",")


def _read_tsv(stream: BinaryIO, name: str) -> Iterator[Row]:
    return _read_delimited(stream, name, "\t")


class _Record:
    """The raw lines of the row that is being read from a table: one, or more where a cell has some."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.begin(1)

    def begin(self, line: int) -> None:
        self.first = line
        self.lines: list[str] = []
        self.cut = False  # whether one of them was too long
        self._size = 0

    def feed(self, stream: BinaryIO) -> Iterator[str]:
        for line, too_long in lines_of(stream):
            self.cut |= too_long
            self._size += len(line) + 64  # what a text takes in memory besides its characters
            if self._size > MAX_LINE_BYTES + 64:
                raise InputError(
                    f"{self.name}, line {self.first}: its row goes on for more than {MAX_LINE_BYTES} "
                    "bytes; is a quote opened and never closed?"
                )
            self.lines.append(line)
            yield line

    def check_closed(self, delimiter: str) -> None:
        """Refuse a row whose quote is never closed: it would swallow every row behind it."""
        if sum(line.count('"') for line in self.lines) % 2 == 0:
            return
        try:
            list(csv.reader(self.lines, delimiter=delimiter, strict=True))
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise InputError(
                    f"{self.name}, line {self.first}: a quote is opened and never closed, so the rows "
                    "behind it cannot be told apart; close it, or double a quote that is part of the "
                    'text ("")'
                ) from error


def _read_delimited(stream: BinaryIO, name: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2 * MAX_LINE_BYTES)
    record = _Record(name)
    rows = csv.reader(record.feed(stream), delimiter=delimiter)
    too_long = f"line is longer than {MAX_LINE_BYTES} bytes"
    header: list[str] | None = None
    try:
        while (cells := next(rows, None)) is not None:
            record.check_closed(delimiter)
            line = record.first
            if header is None:
                if record.cut:
                    raise InputError(f"{name}, line 1: {too_long}; it must name the columns")
                header = cells
                yield line, header
            elif record.cut:
                yield line, too_long
            elif cells and len(cells) != len(header):
                found = shown(delimiter.join(cells))
                yield line, f"{len(cells)} cells under {len(header)} columns: {found}"
            elif cells:  # else it is a blank line
                yield line, dict(zip(header, cells, strict=True))
            record.begin(rows.line_num + 1)
    except csv.Error as error:
        raise InputError(f"{name}, line {rows.line_num}: not a table ({error})") from error
    if header is None:
        raise InputError(f"{name} is empty; its first line must name the columns")


def _read_jsonl(stream: BinaryIO, name: str) -> Iterator[Row]:
    for number, (line, too_long) in enumerate(lines_of(stream), 1):
        if too_long:
            yield number, f"line is longer than {MAX_LINE_BYTES} bytes"
            continue
        if not line.strip():
            continue
        try:
            content = json.loads(line, object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON ({str(error)[:80]}): {shown(line)}"
            continue
        if isinstance(content, dict):
            yield number, content
        else:
            yield number, f"{kind_of(content)}, not a JSON object: {shown(line)}"


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; of two values under one key none is the right one."""
    content = dict(pairs)
    if len(content) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {shown(key)} is there more than once")
    return content


def _read_lines_of_text(stream: BinaryIO, name: str) -> Iterator[Row]:
    for number, (line, too_long) in enumerate(lines_of(stream), 1):
        if too_long:
            yield number, f"line is longer than {MAX_LINE_BYTES} bytes"
        else:
            yield number, {"text": line.rstrip("\r\n")}


def _read_parquet(stream: BinaryIO, name: str) -> Iterator[Row]:
    rows = parquet.rows_of(stream, name, MAX_LINE_BYTES)
    names = next(rows, [])
    yield 0, names
    for number, values in enumerate(rows, 1):
        yield number, dict(zip(names, values, strict=True))


FORMATS: dict[str, Reader] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".txt": _read_lines_of_text,
    ".parquet": _read_parquet,
}


def kind_of(value: object) -> str:
    """Name a JSON value's type as its user would."""
    if isinstance(value, parquet.Odd):
        return value.kind
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value)) or (
        "a number" if isinstance(value, int | float) else "not a text"
    )
