"""Split inputs into pieces: names of files in, a list of pieces out, the same for every job.

Small files are grouped whole, in their order, by their sizes and without being read, until they
have about `shard_rows` rows. A large file is cut between rows (`file_index.py`), into pieces of its
own. What can't be cut is whole, however large: packed files, arrays of JSON, Arrow files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from features.base import storage
from features.errors import InputError
from features.pieces.file_index import FileIndex, IndexRequest, make_index
from features.pieces.piece import Piece
from features.pieces.row_size import RowSize
from features.tweets.columns import Columns
from features.tweets.formats import format_of
from features.tweets.reader import readable
from features.tweets.rows.inputs import inputs_of
from features.tweets.span import Span
from features.tweets.table import InputFormat

# A file is large from so many pieces on. Files that were written with as many rows each as a piece
# should have stay whole, though they seem a bit larger, and need not be looked at.
_LARGE = 1.5


@dataclass(frozen=True)
class _File:
    """A file: the whole of it, its format, and about how many rows it has."""

    span: Span
    suffix: str
    rows: int


def split(
    inputs: Any,
    *,
    shard_rows: int,
    columns: Columns = Columns(),  # noqa: B008 - it is frozen
    written: InputFormat = InputFormat(),  # noqa: B008 - it is frozen
    index_of: Callable[[IndexRequest], FileIndex] = make_index,
    say: Callable[[str], None] = lambda line: None,
) -> list[Piece]:
    """Split inputs into pieces, which depend on them and on `shard_rows` alone.

    Parameters
    ----------
    inputs : path, or a sequence of these
        Files.
    shard_rows : int
        Rows that a piece has: at most, in what large files are cut into; about, in files that are
        whole.
    columns : Columns
    written : InputFormat
    index_of : callable
        Gives the index of a large file: by looking at all of it, or one that was kept.
    say : callable
        Called with a line for each large file that can't be cut.

    Raises
    ------
    InputError, FileRefused
        One of the inputs is no file that every job can open by its name, or can't be read.
    """
    paths = [_path(one) for one in inputs_of(inputs)]
    if not paths:
        raise InputError("no input was given: name a file")
    if shard_rows < 1:
        raise InputError(f"`shard_rows` must be 1 or more, is {shard_rows}")
    sizes = RowSize(columns.text)
    files = []
    with storage.asked_together(paths):
        for path in paths:
            suffix = format_of(path, written.format)
            with readable(path):
                span = Span(path, storage.size(path))
            files.append(_File(span, suffix, sizes.rows(path, span.size, suffix)))

    uncut: dict[str, list[_File]] = {}

    def spans_of(file: _File) -> list[Span]:
        if file.rows <= _LARGE * shard_rows:
            return [file.span]
        path = file.span.path
        request = IndexRequest(path, file.suffix, columns, written, shard_rows)
        index = None if request.why_whole else index_of(request)
        if index is not None and not index.why_whole:
            return index.spans(path)
        why_whole = request.why_whole if index is None else index.why_whole
        uncut.setdefault(why_whole, []).append(file)
        return [file.span]

    groups = _grouped(files, shard_rows, spans_of)
    pieces = [Piece(number, spans) for number, spans in enumerate(groups)]
    for why_whole, whole in uncut.items():
        say(_uncut(why_whole, whole))
    return pieces


def _uncut(why_whole: str, files: list[_File]) -> str:
    first = files[0]
    others = len(files) - 1
    more = f", and so {'does' if others == 1 else 'do'} {others:,} more" if others else ""
    return f"{first.span.path} stays one piece, of about {first.rows:,} rows, as {why_whole}{more}"


def _path(one: object) -> str:
    if one == "-":
        raise InputError(
            "standard input can be read once and by one job alone, so it cannot be split: write "
            "it to a file, and name that"
        )
    if not isinstance(one, str):
        name = getattr(one, "name", one)
        raise InputError(
            f"{name} is no file that every job can open, so it cannot be split: write it to a "
            "Parquet file, and name that"
        )
    return one


def _grouped(
    files: list[_File], shard_rows: int, spans_of: Callable[[_File], list[Span]]
) -> Iterator[tuple[Span, ...]]:
    """Group whole files, in their order, until they have about so many rows."""
    group: list[Span] = []
    rows = 0
    for file in files:
        spans = spans_of(file)
        is_whole = spans == [file.span]
        if group and (not is_whole or rows + file.rows > shard_rows):
            yield tuple(group)
            group, rows = [], 0
        if not is_whole:
            yield from ((span,) for span in spans)
            continue
        group.append(file.span)
        rows += file.rows
    if group:
        yield tuple(group)
