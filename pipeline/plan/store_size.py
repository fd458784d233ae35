"""Count the bytes of a feature file before it is written: by dataset, and with what HDF5 adds.

In come the rows, the widths of the views, their precision and the bytes of an id; out come bytes.
What is counted is the layout of `features/store/format.py` as `features/store/writer.py` writes it:
whole chunks, each with a checksum of 4 bytes, an entry in an index, and a seal at the end. No file
is opened.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features.store.checksum import SEAL_BYTES
from features.store.format import DIGEST_BYTES, chunk_rows

_FLETCHER_BYTES = 4
# Of a chunk in a fixed array of HDF5 1.10: its address, its size and its filters' mask.
_INDEX_BYTES = 18
# The headers of a file, of its datasets, and the attributes beside the list of views.
_DATASET_BYTES, _FILE_BYTES = 400, 1_500
# What a row has besides its id and its vectors: label, digest, number of tokens, flags.
_FIXED = {"label": 4, "digest": DIGEST_BYTES, "n_tokens": 4, "flags": 1}


def dataset_bytes(n_rows: int, row_bytes: int) -> int:
    """Count the bytes of a dataset's chunks: the last one is written whole too.

    Examples
    --------
    >>> dataset_bytes(1000, 768), 1000 * 768  # 682 rows in a chunk of 512 KiB
    (1047560, 768000)
    """
    if n_rows == 0:
        return 0
    chunk = max(1, min(n_rows, chunk_rows(row_bytes)))
    return -(-n_rows // chunk) * (chunk * row_bytes + _FLETCHER_BYTES)


def view_bytes(n_rows: int, views: Mapping[str, int], store_dtype: str) -> dict[str, int]:
    """Count the bytes of each view in a file.

    Parameters
    ----------
    n_rows : int
        N, of the file.
    views : mapping of str to int
        By name, the width D.
    store_dtype : str
        `float16` or `float32`.
    """
    itemsize = np.dtype(store_dtype).itemsize
    return {view: dataset_bytes(n_rows, width * itemsize) for view, width in views.items()}


def column_bytes(n_rows: int, id_bytes: int) -> int:
    """Count the bytes of ids, labels, digests, tokens and flags in a file."""
    widths = [max(1, id_bytes), *_FIXED.values()]
    return sum(dataset_bytes(n_rows, width) for width in widths)


def file_bytes(n_rows: int, views: Mapping[str, int], store_dtype: str, id_bytes: int) -> int:
    """Count the bytes of a feature file; right to some KB, which attributes of any length make."""
    chunks = sum(view_bytes(n_rows, views, store_dtype).values()) + column_bytes(n_rows, id_bytes)
    itemsize = np.dtype(store_dtype).itemsize
    rows = [max(1, id_bytes), *_FIXED.values(), *(width * itemsize for width in views.values())]
    entries = sum(-(-n_rows // max(1, min(n_rows, chunk_rows(one)))) for one in rows)
    headers = _FILE_BYTES + _DATASET_BYTES * len(rows) + SEAL_BYTES
    return chunks + _INDEX_BYTES * entries + headers


def store_bytes(
    n_rows: int, shard_rows: int, views: Mapping[str, int], store_dtype: str, id_bytes: int
) -> int:
    """Count the bytes of a folder of shards of `shard_rows` rows, the last one of what is left."""
    whole, rest = divmod(n_rows, shard_rows)
    total = whole * file_bytes(shard_rows, views, store_dtype, id_bytes)
    return total + (file_bytes(rest, views, store_dtype, id_bytes) if rest else 0)
