"""Give the rows of a store as Arrow: ids, labels and vectors, block by block.

In comes an open store, out comes a stream of record batches, of which one is in memory at a time.
Vectors are lists of one length without a copy, so that polars, pandas and NumPy need none either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import InputError
from features.store.format import BLOCK_BYTES

if TYPE_CHECKING:
    from features.store.reader import FeatureStore


def record_batches(
    store: FeatureStore, views: Sequence[str], block_bytes: int = BLOCK_BYTES
) -> Any:
    """Give all rows as a `pyarrow.RecordBatchReader`, see `FeatureStore.to_arrow`.

    Parameters
    ----------
    store : FeatureStore
        It must stay open while they are read.
    views : sequence of str
        Canonical names.
    block_bytes : int
        Of the vectors of a batch, about.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise InputError("rows as Arrow need pyarrow: pip install 'frostline[parquet]'") from error
    fields = [
        ("id", pa.string()),
        ("label", pa.dictionary(pa.int32(), pa.string())),
        ("n_tokens", pa.int32()),
        ("flags", pa.uint8()),
        *((view, pa.list_(pa.float32(), store.views[view])) for view in views),
    ]
    schema = pa.schema(fields)
    return pa.RecordBatchReader.from_batches(schema, _batches(store, schema, views, block_bytes))


def _batches(
    store: FeatureStore, schema: Any, views: Sequence[str], block_bytes: int
) -> Iterator[Any]:
    import pyarrow as pa

    if store.is_closed:
        raise InputError(f"{store} is closed: read its rows as Arrow while it is open")
    names, labels = pa.array(store.label_names, pa.string()), store.labels()
    ends = list(accumulate(store.views[view] for view in views))
    for start, block in store.blocks(views, np.float32, block_bytes):
        rows = slice(start, start + len(block))
        codes = labels[rows]
        vectors = np.split(block, ends[:-1], axis=1)
        columns = [
            pa.array(store.ids(rows), pa.string()),
            pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=codes < 0), names),
            pa.array(store.n_tokens(rows)),
            pa.array(store.flags(rows)),
            *map(_as_lists, vectors),
        ]
        yield pa.record_batch(columns, schema=schema)


def _as_lists(vectors: Any) -> Any:
    """Give a matrix (N, D) as N lists of D numbers, over the same memory where it is whole."""
    import pyarrow as pa

    numbers = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(numbers, vectors.shape[1])
