"""Rows of a data set of Hugging Face: one in memory or on disk, or one that streams.

In comes a `Dataset` or an `IterableDataset`, out goes a `RowSource`, a batch of rows at a time. The
numbers of a ClassLabel come as the names of the classes, and -1 as a missing label. Nothing is
loaded or fetched by name here: see `features/tweets/rows/hub.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from features.base.shown import listed
from features.errors import InputError, foreign
from features.tweets.rows.arrow import BATCH_ROWS, EXACT, named, plain, rows_of
from features.tweets.rows.row_source import Row, RowSource

_FORMAT = "Hugging Face data set"
# Arrow's names of floats that may not be exact.
_FLOATS = {"float16": "halffloat", "float32": "float"}
_END = object()


def row_source(given: object, name: str | None = None) -> RowSource | None:
    """Give the rows of a data set; None where it is something else.

    Parameters
    ----------
    given : object
    name : str, optional
        Default: what the data set knows of itself.

    Raises
    ------
    InputError
        It is a dict of several splits, or a transform would change what is read.
    """
    library = sys.modules.get("datasets")
    if library is None:
        return None
    if isinstance(given, library.DatasetDict | library.IterableDatasetDict):
        return row_source(only_split(given, "data set", "give one of them, as in data['train']"))
    if isinstance(given, library.Dataset):
        return _of_table(given, name or _own_name(given))
    if isinstance(given, library.IterableDataset):
        return _of_stream(given, name or _own_name(given))
    return None


def only_split(splits: Any, name: str, cure: str) -> Any:
    """Give the only split of a dict of them.

    Raises
    ------
    InputError
        There are several, or none; they are named.
    """
    if len(splits) == 1:
        return next(iter(splits.values()))
    raise InputError(f"{name} has the splits {listed(splits)}: {cure}")


def _own_name(given: Any) -> str:
    """Name a data set by what it knows: data set, configuration, split, fingerprint."""
    info = given.info
    name = "/".join(filter(None, [info.dataset_name or "data set", _config_of(info)]))
    split = f":{given.split}" if given.split is not None else ""
    fingerprint = getattr(given, "_fingerprint", None)
    return f"{name}{split}" + (f" (fingerprint {fingerprint})" if fingerprint else "")


def _config_of(info: Any) -> str:
    """Give the configuration, where it is not the one that a data set has by default."""
    config = info.config_name or ""
    return "" if config == "default" or config.startswith("default-") else config


def _of_table(given: Any, name: str) -> RowSource:
    if given.format["type"] == "custom":
        raise InputError(
            f"{name} has a transform (set_transform), which is not run here: apply it with "
            "map(), or take it off with reset_format()"
        )
    # Of the types that it gives rows in, only the choice of columns stays.
    columns = given.format["columns"] or given.column_names
    table = given.with_format("arrow", columns=columns)

    def rows(max_text_bytes: int) -> Iterator[Row]:
        import pyarrow as pa

        whole = given.features.arrow_schema
        schema = pa.schema([whole.field(column) for column in columns])
        batches = _reading(table.iter(batch_size=BATCH_ROWS), name)
        yield from rows_of(schema, batches, name, max_text_bytes, _classes(given.features))

    return RowSource(name, _FORMAT, rows, n_rows=len(given))


def _of_stream(given: Any, name: str) -> RowSource:
    """Give rows by key: the columns of a stream may be unknown until a row has them."""

    def rows(max_text_bytes: int) -> Iterator[Row]:
        features = given.features or {}
        classes = _classes(features)
        exact = {
            key: EXACT.get(_FLOATS.get(_dtype(one), ""), math.inf) for key, one in features.items()
        }
        for number, example in enumerate(_reading(given.with_format(None), name), 1):
            cells = {
                key: _cell(value, classes.get(key), max_text_bytes, exact.get(key, math.inf))
                for key, value in example.items()
            }
            yield number, cells

    return RowSource(name, f"{_FORMAT}, streamed", rows)


def _dtype(feature: Any) -> str:
    return str(getattr(feature, "dtype", ""))


def _classes(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Give the names behind the numbers of ClassLabel columns."""
    return {
        key: [str(name) for name in feature.names]
        for key, feature in features.items()
        if type(feature).__name__ == "ClassLabel" and feature.names is not None
    }


def _cell(value: Any, names: list[str] | None, max_text_bytes: int, exact: float) -> Any:
    """Give a value of a stream as a file of JSON would have it."""
    if hasattr(value, "tolist"):  # of numpy or torch
        value = value.tolist()
    if isinstance(value, list | dict):
        return value
    found = plain(value, max_text_bytes, exact)
    return found if names is None else named(found, names)


def _reading(rows: Iterable[Any], name: str) -> Iterator[Any]:
    """Hand rows on; what goes wrong in the library, or in a generator behind it, is one line."""
    iterator = iter(rows)
    while True:
        with foreign(f"{name} cannot be read"):
            row = next(iterator, _END)
        if row is _END:
            return
        yield row
