"""Rows of frames in memory: pandas, polars, Arrow and whatever else narwhals knows.

In comes a frame, a series of texts, a stream of Arrow or an iterator of frames, out go frames that
are read alike, and a `RowSource`, a batch of rows at a time. Cells mean what they mean in files: a
named index of pandas is a column, as it is in the Parquet file that pandas writes.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from features.errors import InputError, foreign
from features.tweets.rows.arrow import (
    BATCH_ROWS,
    EXACT,
    columns_of,
    not_read,
    plain,
    rows_of,
    values_of,
)
from features.tweets.rows.row_source import Header, Row, RowSource
from features.tweets.values import Odd

if TYPE_CHECKING:
    import narwhals.stable.v2 as nw

    Frame = nw.DataFrame[Any]

# Arrow's names of floats that may not be exact, by what others call them.
_FLOATS = {"float16": "halffloat", "float32": "float"}
# What pandas has for a value that is missing, by type.
_MISSING = ("NAType", "NaTType")
_END = object()


@dataclass(frozen=True)
class Frames:
    """A frame, or a stream of frames.

    Attributes
    ----------
    name : str
        For messages, such as `pandas.DataFrame`.
    each : callable
        Gives the frames, of narwhals; called once.
    n_rows : int, optional
        Where it is known.
    """

    name: str
    each: Callable[[], Iterator[Frame]]
    n_rows: int | None = None

    def source(self) -> RowSource:
        """Give their rows, numbered through from 1."""
        return RowSource(self.name, "frame", self._rows, self.n_rows)

    def _rows(self, max_text_bytes: int) -> Iterator[Row]:
        last, number = None, 0
        for frame in self.each():
            for _, cells in _rows_of(frame, self.name, max_text_bytes):
                if not isinstance(cells, Header):
                    number += 1
                    yield number, cells
                elif cells != last:
                    last = cells
                    yield number, cells


def row_source(given: object) -> RowSource | None:
    """Give the rows of a frame or a stream of frames; None where it is neither.

    Raises
    ------
    InputError
        Two of its columns have one name.
    """
    found = frames_of(given)
    return None if found is None else found.source()


def frames_of(given: Any) -> Frames | None:
    """Give a frame, or a stream of frames, to be read; None where it is neither.

    Parameters
    ----------
    given : frame, series, or stream of Arrow
        A series holds texts. A frame that is lazy, and a stream, are read once, in pieces.
    """
    import narwhals.stable.v2 as nw

    if type(given).__module__ == "builtins":
        return None
    name = f"{type(given).__module__.partition('.')[0]}.{type(given).__name__}"
    try:
        found = nw.from_native(given, allow_series=True, pass_through=True)
    except nw.exceptions.DuplicateError as error:
        raise InputError(f"{name}: two columns have one name; rename one: {_said(error)}") from None
    if isinstance(found, nw.Series):
        frame = found.alias("text").to_frame()
        return Frames(name, lambda: iter([frame]), len(frame))
    if isinstance(found, nw.DataFrame):
        return Frames(name, lambda: iter([found]), len(found))
    if hasattr(given, "__arrow_c_array__"):
        return _of_batch(given, name)
    if hasattr(given, "__arrow_c_stream__"):
        if importlib.util.find_spec("pyarrow") is None:
            raise InputError(
                f"{name}: reading streams of Arrow needs pyarrow: pip install 'frostline[parquet]'"
            )
        return Frames(name, lambda: _reading(_of_stream(given), name))
    if isinstance(found, nw.LazyFrame):
        return Frames(name, lambda: _reading(_of_lazy(found), name))
    return None


def frames_in(given: Iterator[Any]) -> tuple[Frames | None, Iterator[Any]]:
    """Give an iterator of frames as one stream, with the iterator as it was; None if it is not."""
    first = next(given, _END)
    if first is _END:
        return None, iter(())
    again, found = chain([first], given), frames_of(first)
    if found is None:
        return None, again
    name = f"iterator of {found.name}"
    return Frames(name, lambda: _reading(_of_all(again, name), name)), again


def _of_batch(given: Any, name: str) -> Frames | None:
    """Give a batch of Arrow; None for an array of it."""
    import narwhals.stable.v2 as nw

    pa = sys.modules.get("pyarrow")
    if pa is None or not isinstance(given, pa.RecordBatch):
        return None
    frame = nw.from_native(pa.Table.from_batches([given]), eager_only=True)
    return Frames(name, lambda: iter([frame]), len(frame))


def _said(error: Exception) -> str:
    return " ".join(str(error).split())


def _of_stream(given: Any) -> Iterator[Frame]:
    import narwhals.stable.v2 as nw
    import pyarrow as pa

    with pa.RecordBatchReader.from_stream(given) as reader:
        for batch in chain([reader.schema.empty_table()], reader):
            yield nw.from_native(pa.table(batch), eager_only=True)


def _of_lazy(frame: nw.LazyFrame[Any]) -> Iterator[Frame]:
    import narwhals.stable.v2 as nw

    in_pieces = getattr(frame.to_native(), "collect_batches", None)
    if in_pieces is None:
        yield frame.collect()
        return
    yield frame.head(0).collect()  # there may be no piece
    for piece in in_pieces(maintain_order=True):
        yield nw.from_native(piece, eager_only=True)


def _of_all(given: Iterable[Any], name: str) -> Iterator[Frame]:
    for one in given:
        found = frames_of(one)
        if found is None:
            raise InputError(f"{name}: a {type(one).__name__} is among them, which is no frame")
        yield from found.each()


def _reading(frames: Iterator[Frame], name: str) -> Iterator[Frame]:
    """Hand frames on; what goes wrong where they come from is one line."""
    while True:
        with foreign(f"{name} cannot be read"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _rows_of(frame: Frame, name: str, max_text_bytes: int) -> Iterator[Row]:
    """Give the header and the rows of one frame."""
    native = frame.to_native()
    if frame.implementation.is_pyarrow():
        try:
            columns_of(native.schema)
        except ValueError as error:
            raise InputError(f"{name}: {error}") from error
        yield from rows_of(native.schema, native.to_batches(BATCH_ROWS), name, max_text_bytes)
        return
    columns = list(_columns(frame))
    nested = [one.name for one in columns if one.is_nested]
    columns = [one for one in columns if not one.is_nested]
    yield 0, Header([one.name for one in columns], notes=not_read(nested, name))
    for start in range(0, len(frame), BATCH_ROWS):
        parts = [one.cells(start, start + BATCH_ROWS, max_text_bytes) for one in columns]
        for number, cells in enumerate(zip(*parts, strict=True), start + 1):
            yield number, list(cells)


@dataclass(frozen=True)
class _Column:
    """A column of a frame, or a named level of the index of pandas."""

    name: str
    series: nw.Series[Any]
    exact: float
    is_nested: bool

    def cells(self, start: int, stop: int, max_text_bytes: int) -> list[Any]:
        """Give some cells as a file has them."""
        short, missing = max_text_bytes // 4, self.series.implementation.is_pandas_like()
        part = self.series[start:stop]
        try:
            values = part.to_list()
        except UnicodeDecodeError:  # text of Arrow need not be UTF-8
            values = values_of(part.to_arrow(), None, max_text_bytes)
        return [
            value
            if type(value) is str and len(value) <= short
            else _cell(value, max_text_bytes, self.exact, missing)
            for value in values
        ]


def _columns(frame: Frame) -> Iterator[_Column]:
    import narwhals.stable.v2 as nw

    index: Any = nw.maybe_get_index(frame)
    names = [] if index is None else list(index.names)
    for level, name in enumerate(names):
        if name is not None and name not in frame.columns:
            level_values = index.get_level_values(level).to_series()
            yield _column(name, nw.from_native(level_values, series_only=True))
    for number, name in enumerate(frame.columns):
        yield _column(name, frame[:, number])


def _column(name: object, series: nw.Series[Any]) -> _Column:
    native = str(series.to_native().dtype).lower().removesuffix("[pyarrow]")
    exact = EXACT.get(_FLOATS.get(native, native), math.inf)
    return _Column(str(name), series, exact, series.dtype.is_nested())


def _cell(value: Any, max_text_bytes: int, exact: float, missing: bool) -> Any:
    """Give a value as a file of JSON would have it."""
    kind = type(value).__name__
    if kind in _MISSING or (missing and isinstance(value, float) and math.isnan(value)):
        return None
    if hasattr(value, "tolist"):  # of numpy
        exact = min(exact, EXACT.get(_FLOATS.get(kind, ""), math.inf))
        return _cell(value.tolist(), max_text_bytes, exact, missing)
    if isinstance(value, list | dict | Odd):
        return value
    return plain(value, max_text_bytes, exact)
