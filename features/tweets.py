"""Files of tweets in, `Tweet` and `Reject` records out, one at a time and in input order.

Formats are rows of the table `FORMATS`: CSV, TSV, JSON Lines, Parquet and plain text (one tweet a
line, TweetEval's own layout). A row that can't be used becomes a `Reject` with its line and the
reason, and reading goes on; a file that can't be used is an `InputError`. Text comes out as it
stands in the file, repaired only where it is not Unicode; the normaliser is in
`features/normalize.py`. Nothing here knows about models.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from features.errors import FileRefused, InputError

TEXT_COLUMNS = ("text", "tweet", "content", "full_text")
LABEL_COLUMNS = ("label", "sentiment")
ID_COLUMNS = ("id", "tweet_id", "textID")

# Bounds on one row, so that memory stays bounded whatever the file: a tweet has 280 characters.
MAX_LINE_BYTES = 16 * 2**20
MAX_ID_BYTES = 256
_NOT_UNICODE = re.compile("[\ud800-\udfff\x00]")


@dataclass(frozen=True, slots=True)
class Tweet:
    """One usable row; `repaired` says that bytes or characters that are no text became U+FFFD."""

    id: str
    text: str
    label: str | None = None
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that could not be used: where, why, and how it starts."""

    source: str
    line: int
    reason: str
    start: str = ""


# A format's reader yields, for each row, its line number and either the cells by column or a reason
# why there are none.
_Row = tuple[int, dict[str, Any] | str]


class TweetReader:
    """Reads files of tweets in order; iterate over it once.

    Parameters
    ----------
    inputs : paths, or "-" for JSON Lines on standard input
        `.csv`, `.tsv`, `.jsonl`, `.txt` (each also `.gz`) and `.parquet`.
    text_column, label_column, id_column : str, optional
        Default: the first of `TEXT_COLUMNS`, `LABEL_COLUMNS`, `ID_COLUMNS` that is there. A text
        column must be there; rows without an id get their number in the input, from 0.
    labels : path, optional
        For one `.txt` input: a file with one label a line.
    mapping : path, optional
        Lines of `value<TAB>name` that turn labels as they are in the file into names.

    Raises
    ------
    InputError
        At once for what can be seen without reading the rows, else while iterating.
    """

    def __init__(
        self,
        inputs: Sequence[str | Path],
        *,
        text_column: str | None = None,
        label_column: str | None = None,
        id_column: str | None = None,
        labels: str | Path | None = None,
        mapping: str | Path | None = None,
    ) -> None:
        if not inputs:
            raise InputError(
                "no input was given: name a file, or - for JSON Lines on standard input"
            )
        self._inputs = [str(path) for path in inputs]
        self._formats = [_format_of(path) for path in self._inputs]
        self._asked = {"text": text_column, "label": label_column, "id": id_column}
        self._labels = None if labels is None else Path(labels)
        self._mapping = None if mapping is None else _read_mapping(Path(mapping))
        self._done_bytes = 0
        self._raw: BinaryIO | None = None
        if self._labels is not None:
            self._check_labels_file()
        self._total_bytes = (
            None if "-" in self._inputs else sum(Path(path).stat().st_size for path in self._inputs)
        )
        self._rows_seen = 0
        self._labels_seen = False

    @property
    def has_labels(self) -> bool:
        """Whether a label was seen so far."""
        return self._labels_seen

    @property
    def label_order(self) -> list[str] | None:
        """The classes in the order of the mapping; None without one."""
        return None if self._mapping is None else list(dict.fromkeys(self._mapping.values()))

    @property
    def rows_read(self) -> int:
        """Rows so far, usable or not."""
        return self._rows_seen

    def fraction_read(self) -> float | None:
        """How much of the input has been read, by bytes; None where its size is unknown."""
        if not self._total_bytes:
            return None
        current = 0 if self._raw is None or self._raw.closed else self._raw.tell()
        return min(1.0, (self._done_bytes + current) / self._total_bytes)

    def __iter__(self) -> Iterator[Tweet | Reject]:
        for path, reader in zip(self._inputs, self._formats, strict=True):
            yield from self._read_file(path, reader)

    def _read_file(
        self, path: str, reader: Callable[..., Iterator[_Row]]
    ) -> Iterator[Tweet | Reject]:
        columns: dict[str, str] | None = None
        name = "standard input" if path == "-" else path
        with ExitStack() as stack:
            try:
                if path == "-":
                    raw = cast(BinaryIO, sys.stdin.buffer)
                else:
                    raw = self._raw = stack.enter_context(Path(path).open("rb"))
                rows = reader(_uncompressed(raw, path, stack), name, self._labels)
                for line, cells in rows:
                    number, self._rows_seen = self._rows_seen, self._rows_seen + 1
                    if isinstance(cells, str):
                        yield Reject(name, line, cells)
                        continue
                    if columns is None:
                        columns = self._find_columns(cells)
                        self._check_columns(columns, cells, name)
                    elif len(columns) < len(self._asked):
                        # JSON objects need not have all keys: the first may just lack a label.
                        columns = self._find_columns(cells) | columns
                    yield self._to_tweet(cells, columns, number, Reject(name, line, ""))
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise FileRefused(
                    f"{name}: its gzip data is damaged or cut short ({error})"
                ) from error
            except OSError as error:
                raise InputError(f"{name} cannot be read: {error.strerror or error}") from error
            if path != "-":
                self._done_bytes += Path(path).stat().st_size

    def _find_columns(self, there: Collection[str]) -> dict[str, str]:
        """Give, for text, label and id, the column that is there: the one asked for, or a default."""
        defaults = {"text": TEXT_COLUMNS, "label": LABEL_COLUMNS, "id": ID_COLUMNS}
        columns = {}
        for role, asked in self._asked.items():
            candidates = defaults[role] if asked is None else (asked,)
            found = [column for column in candidates if column in there]
            if found:
                columns[role] = found[0]
        return columns

    def _check_columns(self, columns: Mapping[str, str], there: Iterable[str], name: str) -> None:
        """Refuse a file without a text column, or without one that was asked for."""
        for role, asked in self._asked.items():
            if role in columns or (asked is None and role != "text"):
                continue
            wanted = (
                f"no column {asked!r}"
                if asked
                else f"none of the columns {', '.join(TEXT_COLUMNS)}"
            )
            shown = ", ".join(map(_shown, there)) or "none"
            raise InputError(
                f"{name}: {wanted} is there; its columns are: {shown}; choose one with --{role}-column"
            )

    def _to_tweet(
        self, cells: Mapping[str, Any], columns: Mapping[str, str], number: int, where: Reject
    ) -> Tweet | Reject:
        def reject(reason: str) -> Reject:
            start = cells.get(columns["text"])
            return Reject(
                where.source, where.line, reason, "" if start is None else _shown(str(start))
            )

        text = cells.get(columns["text"])
        if text is None:
            return reject(f"no text: {columns['text']!r} is missing or null")
        if not isinstance(text, str):
            return reject(f"{columns['text']!r} is {_kind(text)}, not a text")
        try:
            label = _name(cells.get(columns["label"])) if "label" in columns else None
            identity = _name(cells.get(columns["id"])) if "id" in columns else None
        except TypeError as error:
            return reject(f"its label or id is {error}; they must be texts or whole numbers")
        if label is not None and self._mapping is not None:
            if label not in self._mapping:
                return reject(f"label {label!r} is not in the mapping ({', '.join(self._mapping)})")
            label = self._mapping[label]
        # Characters that can't be in a text file, on purpose or by damage: said, never dropped.
        repaired_text = _NOT_UNICODE.sub("\ufffd", text)
        identity = _NOT_UNICODE.sub("\ufffd", str(number) if identity is None else identity)
        if len(identity.encode()) > MAX_ID_BYTES:
            return reject(f"id is longer than {MAX_ID_BYTES} bytes")
        if label is not None:
            label = _NOT_UNICODE.sub("\ufffd", label)
            self._labels_seen = True
        return Tweet(identity, repaired_text, label, repaired_text != text)

    def _check_labels_file(self) -> None:
        assert self._labels is not None
        if len(self._inputs) != 1 or self._formats[0] is not _read_lines_of_text:
            raise InputError("--labels goes with exactly one .txt input, one tweet a line")
        texts, labels = (_count_lines(path) for path in (Path(self._inputs[0]), self._labels))
        if texts != labels:
            raise InputError(
                f"{self._inputs[0]} has {texts} lines, {self._labels} has {labels}; they must pair up"
            )


def _format_of(path: str) -> Callable[..., Iterator[_Row]]:
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


def _uncompressed(raw: BinaryIO, path: str, stack: ExitStack) -> BinaryIO:
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


def _lines(stream: BinaryIO) -> Iterator[tuple[str, bool]]:
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


def _read_csv(stream: BinaryIO, name: str, labels: Path | None) -> Iterator[_Row]:
    return _read_delimited(stream, name, ",")


def _read_tsv(stream: BinaryIO, name: str, labels: Path | None) -> Iterator[_Row]:
    return _read_delimited(stream, name, "\t")


def _read_delimited(stream: BinaryIO, name: str, delimiter: str) -> Iterator[_Row]:
    record: list[str] = []  # the raw lines of the row being read

    def lines() -> Iterator[str]:
        for number, (line, too_long) in enumerate(_lines(stream), 1):
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
        record.clear()
        while True:
            first_line = rows.line_num + 1
            cells = next(rows, None)
            if cells is None:
                return
            if len(record) > 1:
                _check_closed(record, name, first_line, delimiter)
            record.clear()
            if not cells:
                continue  # a blank line
            if len(cells) != len(header):
                shown = _shown(delimiter.join(cells))
                yield first_line, f"{len(cells)} cells under {len(header)} columns: {shown}"
                continue
            yield first_line, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{name}, line {rows.line_num}: not a table ({error})") from error


def _check_closed(record: list[str], name: str, line: int, delimiter: str) -> None:
    """Refuse a row whose quote is never closed: it would swallow every row behind it."""
    try:
        list(csv.reader(record, delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise InputError(
                f"{name}, line {line}: a quote is opened and never closed, so the rows behind it cannot "
                'be told apart; close it, or double a quote that is part of the text ("")'
            ) from error


def _read_jsonl(stream: BinaryIO, name: str, labels: Path | None) -> Iterator[_Row]:
    for number, (line, too_long) in enumerate(_lines(stream), 1):
        if too_long:
            yield number, f"line is longer than {MAX_LINE_BYTES} bytes"
            continue
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON ({str(error)[:80]}): {_shown(line)}"
            continue
        if isinstance(content, dict):
            yield number, content
        else:
            yield number, f"{_kind(content)}, not a JSON object: {_shown(line)}"


def _read_lines_of_text(stream: BinaryIO, name: str, labels: Path | None) -> Iterator[_Row]:
    with ExitStack() as stack:
        label_lines: Iterable[tuple[str, bool]] | None = None
        if labels is not None:
            file = stack.enter_context(labels.open("rb"))
            label_lines = _lines(_uncompressed(file, str(labels), stack))
        pairs = (
            zip(_lines(stream), label_lines, strict=True)
            if label_lines
            else ((line, None) for line in _lines(stream))
        )
        for number, ((line, too_long), label) in enumerate(pairs, 1):
            if too_long:
                yield number, f"line is longer than {MAX_LINE_BYTES} bytes"
                continue
            cells: dict[str, Any] = {"text": line.rstrip("\r\n")}
            if label is not None:
                cells["label"] = label[0].strip()
            yield number, cells


def _read_parquet(stream: BinaryIO, name: str, labels: Path | None) -> Iterator[_Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            f"{name}: reading Parquet needs pyarrow: pip install 'frostline[parquet]'"
        ) from error
    try:
        file = pq.ParquetFile(stream)
        wanted = [
            field.name
            for field in file.schema_arrow
            if not pa.types.is_nested(field.type) or field.name in TEXT_COLUMNS
        ]
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


FORMATS: dict[str, Callable[[BinaryIO, str, Path | None], Iterator[_Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".txt": _read_lines_of_text,
    ".parquet": _read_parquet,
}


def _read_mapping(path: Path) -> dict[str, str]:
    """Lines of `value<TAB>name`."""
    mapping: dict[str, str] = {}
    for number, line in enumerate(_text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        value, tab, label = line.partition("\t")
        if not tab or not label.strip():
            raise InputError(f"{path}, line {number}: must be value<TAB>name, is {_shown(line)}")
        mapping[value.strip()] = label.strip()
    if not mapping:
        raise InputError(f"{path} maps nothing; its lines must be value<TAB>name")
    return mapping


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _count_lines(path: Path) -> int:
    try:
        with ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            return sum(1 for _ in _lines(_uncompressed(file, str(path), stack)))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _name(value: object) -> str | None:
    """Read a label or an id; None where it is missing. A TypeError says what else it is.

    Whole numbers may come as 1.0 and missing ones as NaN: pandas writes a column with gaps so.
    """
    if isinstance(value, float) and (value.is_integer() or math.isnan(value)):
        value = None if math.isnan(value) else int(value)
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(_kind(value))


def _kind(value: object) -> str:
    """Name a JSON value's type as its user would."""
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value)) or (
        "a number" if isinstance(value, int | float) else "not a text"
    )


def _shown(text: str) -> str:
    """Give the start of something from a file, safe to print on a terminal."""
    start = json.dumps(_NOT_UNICODE.sub("\ufffd", text[:60]), ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in start)
