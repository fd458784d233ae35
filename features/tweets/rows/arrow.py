"""Arrow's columns in, cells out: texts, numbers, truth values, None; all else is `Odd`.

Parquet files, frames and data sets are read by the same rules, so that the same values become the
same tweets. pyarrow comes with the columns, and is not imported before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from features.base.shown import shown
from features.tweets.rows.row_source import Header, Row
from features.tweets.values import Odd

# Rows that are unpacked together: of a megabyte each they still fit.
BATCH_ROWS = 128
_SHOWN_BYTES = 100


def rows_of(
    schema: Any,
    batches: Iterable[Any],
    name: str,
    max_text_bytes: int,
    classes: Mapping[str, list[str]] | None = None,
) -> Iterator[Row]:
    """Give the header of a table, then its rows, numbered from 1.

    Parameters
    ----------
    schema : pyarrow.Schema
    batches : iterable of pyarrow.RecordBatch or pyarrow.Table
        Of that schema.
    name : str
        For messages.
    max_text_bytes : int
        A longer text is `Odd`.
    classes : mapping of str to list of str, optional
        By column, the names that its numbers stand for; default: what the schema says.

    Raises
    ------
    ValueError
        A column is there twice.
    """
    wanted, nested = columns_of(schema)
    yield 0, Header(wanted, notes=not_read(nested, name))
    names = class_names(schema) if classes is None else classes
    number = 0
    for batch in batches:
        for cells in cells_of(batch, wanted, names, max_text_bytes):
            number += 1
            yield number, cells


def columns_of(schema: Any) -> tuple[list[str], list[str]]:
    """Give the columns that can be read, and those that can't, as they hold lists or objects.

    Raises
    ------
    ValueError
        One is there twice.
    """
    import pyarrow as pa

    if doubled := [name for name in set(schema.names) if schema.names.count(name) > 1]:
        raise ValueError(f"column {doubled[0]!r} is there more than once; rename it")
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    return [field.name for field in schema if field.name not in nested], nested


def not_read(nested: Iterable[str], name: str) -> tuple[str, ...]:
    """Say which columns hold lists or objects, a line each."""
    return tuple(
        f"{name}: column {shown(column)} holds lists or objects and is not read"
        for column in nested
    )


def class_names(schema: Any) -> dict[str, list[str]]:
    """Give the names behind the numbers of Hugging Face's ClassLabel columns."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about["info"]["features"]
        return {
            name: [str(one) for one in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def cells_of(
    batch: Any, wanted: Iterable[str], names: Mapping[str, list[str]], max_text_bytes: int
) -> Iterator[list[Any]]:
    """Give the cells of a batch or table, row by row."""
    columns = [values_of(batch.column(name), names.get(name), max_text_bytes) for name in wanted]
    return (list(cells) for cells in zip(*columns, strict=True))


def values_of(column: Any, names: list[str] | None, max_text_bytes: int) -> list[Any]:
    """Give the cells of a column; of classes the names that their numbers stand for."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if is_text or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        # As bytes, because Parquet does not promise that a string is UTF-8.
        return [
            _text(value, max_text_bytes) for value in column.cast(pa.large_binary()).to_pylist()
        ]
    exact = EXACT.get(str(column.type), math.inf)
    values = [plain(value, max_text_bytes, exact) for value in column.to_pylist()]
    return values if names is None else [named(value, names) for value in values]


# Floats from these on no longer tell whole numbers apart, by the type of their column.
EXACT = {"halffloat": 2**11, "float": 2**24}


def named(value: Any, names: list[str]) -> Any:
    """Give the name of a class by its number."""
    if type(value) is not int or value >= len(names):
        return value
    # -1 is how data sets there say that a label is missing.
    return names[value] if value >= 0 else None


def _text(value: bytes | None, max_bytes: int) -> str | Odd | None:
    if value is None:
        return None
    if len(value) > max_bytes:
        return _too_long(value[:_SHOWN_BYTES].decode("utf-8", "surrogateescape"), max_bytes)
    return value.decode("utf-8", "surrogateescape")


def _too_long(start: str, max_bytes: int) -> Odd:
    return Odd(f"longer than {max_bytes} bytes", start)


def plain(value: object, max_text_bytes: int, exact: float = math.inf) -> object:
    """Give a value as JSON has it; floats that no longer tell whole numbers apart are odd."""
    if isinstance(value, str):
        if len(value) <= max_text_bytes // 4:  # never more bytes
            return value
        size = len(value.encode("utf-8", "surrogatepass"))
        return value if size <= max_text_bytes else _too_long(value[:_SHOWN_BYTES], max_text_bytes)
    if isinstance(value, bytes):
        return _text(value, max_text_bytes)
    if isinstance(value, float) and exact <= abs(value) < math.inf:
        return Odd("a floating-point number that is not exact", repr(value))
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else str(value)
    if value is None or isinstance(value, int | float):
        return value
    return Odd("not a text", str(value)[:_SHOWN_BYTES])
