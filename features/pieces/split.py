"""Split inputs into pieces: names of files in, a list of pieces out, the same for every job.

Small files are grouped whole, in their order, by their sizes and without being read, until they
have about `shard_rows` rows. A larger file is a piece of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.pieces.piece import Piece
from features.pieces.row_size import RowSize
from features.tweets.columns import Columns
from features.tweets.formats import format_of
from features.tweets.rows.inputs import inputs_of
from features.tweets.span import Span
from features.tweets.table import InputFormat


def split(
    inputs: Any,
    *,
    shard_rows: int,
    columns: Columns = Columns(),  # noqa: B008 - it is frozen
    written: InputFormat = InputFormat(),  # noqa: B008 - it is frozen
) -> list[Piece]:
    """Split inputs into pieces, which depend on them and on `shard_rows` alone.

    Parameters
    ----------
    inputs : path, or a sequence of these
        Files.
    shard_rows : int
        Rows that a piece has, about.
    columns : Columns
    written : InputFormat

    Raises
    ------
    InputError
        One of the inputs is no file that every job can open by its name.
    """
    paths = [_path(one) for one in inputs_of(inputs)]
    if not paths:
        raise InputError("no input was given: name a file")
    if shard_rows < 1:
        raise InputError(f"`shard_rows` must be 1 or more, is {shard_rows}")
    sizes = RowSize(columns.text)
    counted = []
    for path in paths:
        suffix = format_of(path, written.format)
        size = Path(path).stat().st_size
        counted.append((Span(path, size), sizes.rows(path, size, suffix)))
    return [Piece(number, spans) for number, spans in enumerate(_grouped(counted, shard_rows))]


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


def _grouped(files: list[tuple[Span, int]], shard_rows: int) -> Iterator[tuple[Span, ...]]:
    """Group whole files, in their order, until they have about so many rows."""
    group: list[Span] = []
    rows = 0
    for span, more in files:
        if group and rows + more > shard_rows:
            yield tuple(group)
            group, rows = [], 0
        group.append(span)
        rows += more
    yield tuple(group)
