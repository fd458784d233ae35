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
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

from features.errors import FileRefused, InputError

# A tweet has 280 characters; the bound keeps memory bounded whatever the file.
MAX_LINE_BYTES = 16 * 2**20
NOT_UNICODE = re.compile("[\ud800-\udfff\x00]")

Row = tuple[int, dict[str, Any] | list[str] | str]
Reader = Callable[[BinaryIO, str], Iterator[Row]]


def format_of(path: str) -> Reader:
    """Check that an input can be opened, and give the reader of its format."""
    if path == "-":
        return FORMATS[".jsonl"]
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder: give the files in it")
    if not Path(path).exists():
        raise InputError(f"{path}: no such file")
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
        start = cast(io.BufferedReader, stream).peek(2)[:2]
        if start in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(
                f"{path} is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {path} > utf8{Path(path).suffix}"
            )
    return stream


def lines_of(stream: BinaryIO) -> Iterator[tuple[str, bool]]:
    """Lines with their end, decoded; bytes that are not UTF-8 become lone surrogates (repaired later).

    The flag says that a line was too long: then its start comes out and its rest is skipped.
    """
    first = True
    while line := stream.readline(MAX_LINE_BYTES + 1):
        too_long = len(line) > MAX_LINE_BYTES
        rest = line
        while too_long and rest and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE_BYTES)
        if first:
            line, first = line.removeprefix(b"\xef\xbb\xbf"), False
        yield line[: 100 if too_long else None].decode("utf-8", "surrogateescape"), too_long


def _read_csv(stream: BinaryIO, name: str) -> Iterator[Row]:
    return _read_delimited(stream, name, ",")


def _read_tsv(stream: BinaryIO, name: str) -> Iterator[Row]:
    return _read_delimited(stream, name, "\t")


def _read_delimited(stream: BinaryIO, name: str, delimiter: str) -> Iterator[Row]:
    record: list[str] = []  # the raw lines of the row being read

    def lines() -> Iterator[str]:
        for number, (line, too_long) in enumerate(lines_of(stream), 1):
            if too_long:
                raise InputError(f"{name}, line {number}: longer than {MAX_LINE_BYTES} bytes")
            record.append(line)
            yield line

    csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.reader(lines(), delimiter=delimiter)
    try:
        header = next(rows, None)
        if header is None:
            raise InputError(f"{name} is empty; its first line must name the columns")
        # A column that is there twice can't be chosen; under such a name it shows up in the error.
        times = Counter(header)
        header = [c if times[c] == 1 else f"{c} (there {times[c]} times)" for c in header]
        _check_closed(record, name, 1, delimiter)
        yield 1, header
        record.clear()
        while True:
            first_line = rows.line_num + 1
            cells = next(rows, None)
            if cells is None:
                return
            _check_closed(record, name, first_line, delimiter)
            record.clear()
            if not cells:
                continue  # a blank line
            if len(cells) != len(header):
                found = shown(delimiter.join(cells))
                yield first_line, f"{len(cells)} cells under {len(header)} columns: {found}"
                continue
            yield first_line, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{name}, line {rows.line_num}: not a table ({error})") from error


def _check_closed(record: list[str], name: str, line: int, delimiter: str) -> None:
    """Refuse a row whose quote is never closed: it would swallow every row behind it."""
    if sum(line.count('"') for line in record) % 2 == 0:
        return
    try:
        list(csv.reader(record, delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise InputError(
                f"{name}, line {line}: a quote is opened and never closed, so the rows behind it cannot "
                'be told apart; close it, or double a quote that is part of the text ("")'
            ) from error


def _read_jsonl(stream: BinaryIO, name: str) -> Iterator[Row]:
    for number, (line, too_long) in enumerate(lines_of(stream), 1):
        if too_long:
            yield number, f"line is longer than {MAX_LINE_BYTES} bytes"
            continue
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON ({str(error)[:80]}): {shown(line)}"
            continue
        if isinstance(content, dict):
            yield number, content
        else:
            yield number, f"{kind_of(content)}, not a JSON object: {shown(line)}"


def _read_lines_of_text(stream: BinaryIO, name: str) -> Iterator[Row]:
    for number, (line, too_long) in enumerate(lines_of(stream), 1):
        if too_long:
            yield number, f"line is longer than {MAX_LINE_BYTES} bytes"
        else:
            yield number, {"text": line.rstrip("\r\n")}


def _read_parquet(stream: BinaryIO, name: str) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            f"{name}: reading Parquet needs pyarrow: pip install 'frostline[parquet]'"
        ) from error
    try:
        file = pq.ParquetFile(stream)
        wanted = [field.name for field in file.schema_arrow if not pa.types.is_nested(field.type)]
        yield 0, wanted
        number = 0
        for batch in file.iter_batches(batch_size=4096, columns=wanted):
            columns = [_parquet_column(column, pa) for column in batch.columns]
            for values in zip(*columns, strict=True):
                number += 1
                yield number, dict(zip(batch.schema.names, values, strict=True))
    except pa.ArrowException as error:
        raise FileRefused(f"{name} is not a readable Parquet file: {str(error)[:200]}") from error


def _parquet_column(column: Any, pa: Any) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        # As bytes, because Parquet does not promise that a string is UTF-8.
        values = column.cast(pa.large_binary()).to_pylist()
        return [v if v is None else v.decode("utf-8", "surrogateescape") for v in values]
    return cast(list[Any], column.to_pylist())


FORMATS: dict[str, Reader] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".txt": _read_lines_of_text,
    ".parquet": _read_parquet,
}


def kind_of(value: object) -> str:
    """Name a JSON value's type as its user would."""
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value)) or (
        "a number" if isinstance(value, int | float) else "not a text"
    )


def shown(text: str) -> str:
    """Give the start of something from a file, safe to print on a terminal."""
    start = json.dumps(NOT_UNICODE.sub("\ufffd", text[:60]), ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in start)
