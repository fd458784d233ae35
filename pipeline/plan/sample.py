"""Read the first rows of an input as stage one does; say what they are like, and how fast it went.

In go files, frames or data sets; out comes a `Sample`: distinct normalised texts, sizes, times, and
whether several workers can share the files. No model is needed here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

from features.base import storage
from features.errors import FrostlineError, InputError
from features.pieces.file_index import IndexRequest, make_index
from features.store.format import text_digest
from features.tweets.columns import Columns
from features.tweets.formats import format_of
from features.tweets.reader import Reject, Tweet, TweetReader, readable
from features.tweets.table import InputFormat

# Bytes of the beginning of a file that are searched for the ends of rows, and how often a line is
# taken off its end, until it ends where a row does.
_SEARCHED_BYTES, _TRIES = 4 * 2**20, 20
# Line ends behind the marks of UTF-16; those of other encodings are one byte.
_LINE_ENDS = {b"\xff\xfe": b"\n\0", b"\xfe\xff": b"\0\n"}
# The piece that the sample is read as: rows without an id get `0:ROW`.
_PIECE = 0


@dataclass(frozen=True)
class Sample:
    """The first rows of an input.

    Attributes
    ----------
    rows, labelled, classes : int
        Usable rows, those with a label, different labels.
    texts : list of str
        Distinct normalised texts.
    id_bytes : int
        Of the longest id; 0 where rows have none, so that `PIECE:ROW` is made for them.
    input_bytes : float
        Of a row on its disk, on average.
    input_rows : int or None
        Rows of the whole input, about; None where that is unknown.
    seconds : float
        That reading, normalising and hashing took.
    rows_searched : float or None
        Rows a second in which one process finds where rows end, to cut a large file; None where
        that is not needed, or not possible.
    why_whole : str
        Why a large file would not be cut, and what can be done; "" where it would be.
    """

    rows: int
    labelled: int
    classes: int
    texts: list[str]
    id_bytes: int
    input_bytes: float
    input_rows: int | None
    seconds: float
    rows_searched: float | None
    why_whole: str


def read_sample(
    inputs: Any, columns: Columns, written: InputFormat, normalise: Callable[[str], str], n: int
) -> Sample:
    """Read, normalise and hash the first n rows.

    Parameters
    ----------
    inputs : path, frame or data set, or a sequence of these
    columns : Columns
    written : InputFormat
    normalise : callable
        Brings a text into the form that the encoder reads.
    n : int

    Raises
    ------
    InputError, FileRefused
        As `extract` would; or none of the rows can be used.
    """
    reader = TweetReader(inputs, columns, written=written, piece=_PIECE)
    files = [one for one in reader.files if one != "-"]
    if files:
        # What is loaded when the first file of a kind is opened is not a matter of rows.
        with closing(_rows(TweetReader(files[:1], columns, written=written))) as first:
            next(first, None)
    texts: dict[bytes, str] = {}
    labels: set[str] = set()
    rows = labelled = id_bytes = text_bytes = 0
    reject: Reject | None = None
    started = time.perf_counter()
    with closing(_rows(reader)) as tweets:
        for number, row in enumerate(islice(tweets, n)):
            if not isinstance(row, Tweet):
                reject = reject or row
                continue
            text = normalise(row.text)
            texts.setdefault(text_digest(text), text)
            rows += 1
            if row.label is not None:
                labelled += 1
                labels.add(row.label)
            if row.id != f"{_PIECE}:{number}":
                id_bytes = max(id_bytes, len(row.id.encode()))
            text_bytes += len(row.text.encode(errors="replace"))
        fraction = reader.fraction_read()
    seconds = max(time.perf_counter() - started, 1e-9)
    if not rows:
        raise InputError(_none_usable(reader, reject))
    n_bytes = fraction * sum(map(storage.size, files)) if fraction and files else 0.0
    whole = reader.rows_read < n  # the input has ended
    total = reader.rows_read if whole else fraction and round(reader.rows_read / fraction)
    searched, why_whole = _cut(files[0], columns, written) if files else (None, "")
    return Sample(
        rows,
        labelled,
        len(labels),
        list(texts.values()),
        id_bytes,
        (n_bytes or text_bytes) / reader.rows_read,
        total or None,
        seconds,
        searched,
        why_whole,
    )


def _rows(reader: TweetReader) -> Generator[Tweet | Reject]:
    """Iterate over a reader by a generator, which can be closed."""
    return cast(Generator[Tweet | Reject], iter(reader))


def _none_usable(reader: TweetReader, reject: Reject | None) -> str:
    if reject is None:
        return f"{reader} has no rows, so nothing can be measured on them; name a file with tweets"
    return (
        f"no usable tweet in the first {reader.rows_read:,} rows of {reader}; the first one, line "
        f"{reject.line:,}: {reject.reason}"
    )


def _cut(path: str, columns: Columns, written: InputFormat) -> tuple[float | None, str]:
    """Say how fast the ends of rows are found in a file, and why it would not be cut.

    The file is cut by the code of `extract`; it is its beginning that is searched, as a file of its
    own.
    """
    suffix = format_of(path, written.format)
    request = IndexRequest(path, suffix, columns, written, 2**40)
    if request.why_whole or suffix == ".parquet":
        return None, request.why_whole
    with readable(path), storage.reading(path) as raw:
        head = raw.read(_SEARCHED_BYTES)
    is_whole, line_end = len(head) < _SEARCHED_BYTES, _LINE_ENDS.get(head[:2], b"\n")
    with tempfile.TemporaryDirectory(prefix="frostline-plan-") as folder:
        beginning = Path(folder) / f"beginning{suffix}"
        for _ in range(_TRIES):
            if not is_whole:
                head = head[: head.rfind(line_end, 0, -1) + len(line_end)]
            beginning.write_bytes(head)
            started = time.perf_counter()
            try:
                found = make_index(IndexRequest(str(beginning), suffix, columns, written, 2**40))
            except FrostlineError:  # its last line may end within a cell
                continue
            seconds = max(time.perf_counter() - started, 1e-9)
            rows = sum(part.rows for part in found.parts)
            return (rows / seconds if rows else None), found.why_whole
    return None, ""
