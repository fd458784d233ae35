"""Files of tweets in, `Tweet` and `Reject` records out, one at a time and in input order.

The formats are in `features/tweets/formats.py`. A row that can't be used becomes a `Reject` with its line and
the reason, and reading goes on; a file that can't be used is an `InputError`. Text comes out as it
stands in the file, repaired only where it is not Unicode; the normaliser is in
`features/spec/normalize.py`. Nothing here knows about models.
"""

from __future__ import annotations

import gzip
import math
import sys
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO, cast

from features.base.paths import check_input
from features.base.shown import NOT_UNICODE, listed, shown
from features.errors import FileRefused, InputError
from features.tweets.columns import Columns
from features.tweets.formats import (
    FORMATS,
    MAX_LINE_BYTES,
    Reader,
    Row,
    format_of,
    kind_of,
    lines_of,
    uncompressed,
)

TEXT_COLUMNS = ("text", "tweet", "content", "full_text")
LABEL_COLUMNS = ("label", "sentiment")
ID_COLUMNS = ("id", "tweet_id", "textID")

_DEFAULT_COLUMNS = {"text": TEXT_COLUMNS, "label": LABEL_COLUMNS, "id": ID_COLUMNS}
MAX_ID_BYTES = 256


@dataclass(frozen=True, slots=True)
class Tweet:
    """One usable row, and where it stands; `repaired` says that what is no text became U+FFFD."""

    id: str
    text: str
    label: str | None = None
    repaired: bool = False
    source: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

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


def characters(row: Tweet | Reject) -> int:
    """How much there is to hold of a row."""
    return len(row.text) if isinstance(row, Tweet) else len(row.reason) + len(row.start)


class TweetReader:
    """Reads files of tweets in order; iterate over it once.

    Parameters
    ----------
    inputs : paths, or "-" for JSON Lines on standard input
        `.csv`, `.tsv`, `.jsonl`, `.txt` (each also `.gz`) and `.parquet`.
    columns : Columns
        Where text, label and id are.
    require_labels : bool
        Whether a table without a label column is refused.

    Raises
    ------
    InputError
        At once for what can be seen without reading the rows, else while iterating.
    """

    def __init__(
        self,
        inputs: Sequence[str | Path],
        columns: Columns = Columns(),  # noqa: B008 - it is frozen
        *,
        require_labels: bool = False,
    ) -> None:
        if not inputs:
            raise InputError(
                "no input was given: name a file, or - for JSON Lines on standard input"
            )
        self._inputs = [str(path) for path in inputs]
        self._formats = [format_of(path) for path in self._inputs]
        self._asked = {"text": columns.text, "label": columns.label, "id": columns.id}
        self._labels = None if columns.labels is None else Path(columns.labels)
        self._mapping = None if columns.mapping is None else _read_mapping(Path(columns.mapping))
        self._require_labels = require_labels
        self._done_bytes = 0
        self._raw: BinaryIO | None = None
        if self._labels is not None:
            self._check_labels_file()
        self._total_bytes = (
            None if "-" in self._inputs else sum(Path(path).stat().st_size for path in self._inputs)
        )
        self._rows_seen = 0

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
        try:
            current = 0 if self._raw is None else self._raw.tell()
        except ValueError:  # closed meanwhile, by the thread that reads
            current = 0
        return min(1.0, (self._done_bytes + current) / self._total_bytes)

    def __iter__(self) -> Iterator[Tweet | Reject]:
        for path, reader in zip(self._inputs, self._formats, strict=True):
            yield from self._read_file(path, reader)

    def _read_file(self, path: str, reader: Reader) -> Iterator[Tweet | Reject]:
        name = "standard input" if path == "-" else path
        with ExitStack() as stack, _readable(name):
            if path == "-":
                raw = stack.enter_context(_standard_input())
            else:
                raw = self._raw = stack.enter_context(Path(path).open("rb"))
            rows = reader(uncompressed(raw, path, stack), name)
            if self._labels is not None:
                rows = self._with_labels(rows, stack)
            columns: dict[str, str] = {}
            without_text: list[str] = []
            for line, cells in rows:
                if isinstance(cells, list):
                    columns = self._find_columns(cells)
                    required = {"text", "label"} if self._require_labels else {"text"}
                    self._check_columns(columns, cells, name, required)
                    _check_single(columns, cells, name)
                    continue
                number, self._rows_seen = self._rows_seen, self._rows_seen + 1
                if isinstance(cells, str):
                    yield Reject(name, line, cells)
                    continue
                if len(columns) < len(self._asked):
                    # JSON objects need not all have all keys: the first may just lack a label.
                    before, columns = columns, self._find_columns(cells) | columns
                    if "text" not in columns:
                        without_text = without_text or list(cells)
                        yield Reject(name, line, f"no text among its keys: {listed(cells)}")
                        continue
                    if "text" not in before:
                        self._check_columns(columns, cells, name)
                yield self._to_tweet(cells, columns, number, Reject(name, line, ""))
            if without_text and "text" not in columns:
                self._check_columns(columns, without_text, name)
            if path != "-":
                self._done_bytes += Path(path).stat().st_size

    def _with_labels(self, rows: Iterator[Row], stack: ExitStack) -> Iterator[Row]:
        """Put the lines of the labels file beside the tweets; they were counted before."""
        assert self._labels is not None
        file = stack.enter_context(self._labels.open("rb"))
        labels = lines_of(uncompressed(file, str(self._labels), stack))
        for row, label in zip_longest(rows, labels):
            if row is None or label is None:
                raise InputError(f"{self._inputs[0]} or {self._labels} changed while it was read")
            line, cells = row
            yield line, cells | {"label": label[0].strip()} if isinstance(cells, dict) else cells

    def _find_columns(self, there: Collection[str]) -> dict[str, str]:
        """Give, for text, label and id, the column that is there: the one asked for, or a default."""
        columns = {}
        for role, asked in self._asked.items():
            candidates = _DEFAULT_COLUMNS[role] if asked is None else (asked,)
            found = [column for column in candidates if column in there]
            if found:
                columns[role] = found[0]
        return columns

    def _check_columns(
        self,
        columns: Mapping[str, str],
        there: Collection[str],
        name: str,
        required: Collection[str] = ("text",),
    ) -> None:
        """Refuse a file without a required column, or without one that was asked for."""
        for role, asked in self._asked.items():
            if role in columns or (asked is None and role not in required):
                continue
            wanted = (
                f"no column {asked!r}"
                if asked
                else f"none of the columns {', '.join(_DEFAULT_COLUMNS[role])}"
            )
            raise InputError(
                f"{name}: {wanted} is there; its columns are: {listed(there)}; choose one with "
                f"--{role}-column"
            )

    def _to_tweet(
        self, cells: Mapping[str, Any], columns: Mapping[str, str], number: int, where: Reject
    ) -> Tweet | Reject:
        def reject(reason: str) -> Reject:
            start = cells.get(columns["text"])
            return Reject(
                where.source, where.line, reason, "" if start is None else shown(str(start))
            )

        text = cells.get(columns["text"])
        if text is None:
            return reject(f"no text: {columns['text']!r} is missing or null")
        if not isinstance(text, str):
            return reject(f"{columns['text']!r} is {kind_of(text)}, not a text")
        try:
            label = _name(cells.get(columns["label"])) if "label" in columns else None
            identity = _name(cells.get(columns["id"])) if "id" in columns else None
        except TypeError as error:
            return reject(f"its label or id is {error}; they must be texts or whole numbers")
        if label is not None and self._mapping is not None:
            if label not in self._mapping:
                return reject(
                    f"label {shown(label)} is not in the mapping ({listed(self._mapping)})"
                )
            label = self._mapping[label]
        # Characters that can't be in a text file, on purpose or by damage: said, never dropped.
        repaired_text = NOT_UNICODE.sub("\ufffd", text)
        identity = NOT_UNICODE.sub("\ufffd", str(number) if identity is None else identity)
        if len(identity.encode()) > MAX_ID_BYTES:
            return reject(f"id is longer than {MAX_ID_BYTES} bytes")
        if label is not None:
            label = NOT_UNICODE.sub("\ufffd", label)
        return Tweet(
            identity, repaired_text, label, repaired_text != text, where.source, where.line
        )

    def _check_labels_file(self) -> None:
        assert self._labels is not None
        check_input(self._labels)
        if len(self._inputs) != 1 or self._formats[0] is not FORMATS[".txt"]:
            raise InputError("--labels goes with exactly one .txt input, one tweet a line")
        texts, labels = (_count_lines(path) for path in (Path(self._inputs[0]), self._labels))
        if texts != labels:
            raise InputError(
                f"{self._inputs[0]} has {texts} lines, {self._labels} has {labels}; they must pair up"
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
        if mapping.setdefault(value.strip(), label.strip()) != label.strip():
            raise InputError(
                f"{path}, line {number}: {shown(value.strip())} has another name already, "
                f"{shown(mapping[value.strip()])}"
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


def _check_single(columns: Mapping[str, str], there: Sequence[str], name: str) -> None:
    """Refuse a table that has a column twice under a name that is read."""
    for role, column in columns.items():
        times = there.count(column)
        if times > 1:
            raise InputError(
                f"{name}: column {shown(column)} is there {times} times; rename one, or choose another "
                f"with --{role}-column"
            )


def _text_of(path: Path) -> str:
    check_input(path)
    try:
        if path.stat().st_size > MAX_LINE_BYTES:
            raise InputError(f"{path} has more than {MAX_LINE_BYTES} bytes; is it a mapping?")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _count_lines(path: Path) -> int:
    with ExitStack() as stack, _readable(str(path)):
        file = stack.enter_context(path.open("rb"))
        return sum(1 for _ in lines_of(uncompressed(file, str(path), stack)))
    raise AssertionError("_readable lets no error pass")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Say in one line why a file can't be read."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileRefused(f"{name}: its gzip data is damaged or cut short ({error})") from error
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from error


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
    raise TypeError(kind_of(value))
