"""Estimate what a run will write, and say before the work if the disk may be too small for it.

In come the rows that were read so far and the bytes of a row's vectors; out comes a warning, or
none. It reads the free space of the disk alone, and reserves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.base import disk
from features.base.shown import size
from features.spec.checkpoint import Checkpoint
from features.spec.pooling import parse_poolings

# Id, label, digest, number of tokens, flags and what the formats add to them.
_COLUMN_BYTES = 64


def vector_bytes(checkpoint: Checkpoint, views: Sequence[str], store_dtype: str) -> int | None:
    """Count the bytes of a row's vectors; None where the config does not say the model's sizes."""
    config = checkpoint.config
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    width = config.get("hidden_size", config.get("dim"))
    if not isinstance(layers, int) or not isinstance(width, int):
        return None
    widths = (pooling.width(layers, width) for pooling in parse_poolings(views))
    return sum(widths) * np.dtype(store_dtype).itemsize


def shortage(
    folder: Path,
    *,
    rows_read: int,
    fraction_read: float | None,
    vector_bytes: int | None,
    shard_rows: int | None,
    existing_bytes: int,
) -> str | None:
    """Say in a line that the disk will probably be full before the end; None where it won't.

    Parameters
    ----------
    folder : Path
        On the disk of the output.
    rows_read, fraction_read : int, float or None
        What the number of rows is expected from; nothing is expected without the fraction.
    vector_bytes : int or None
        Of a row, see `vector_bytes`.
    shard_rows : int or None
        Rows of a shard: the journal is never longer than one.
    existing_bytes : int
        Bytes that earlier runs have written of it.
    """
    if not fraction_read or vector_bytes is None:
        return None
    rows = round(rows_read / fraction_read)
    in_journal = rows if shard_rows is None else min(rows, shard_rows)
    needed = rows * (vector_bytes + _COLUMN_BYTES) + in_journal * vector_bytes - existing_bytes
    free = disk.free(folder)
    if needed <= free:
        return None
    return (
        f"the disk of {folder} may be too small: about {size(needed)} will be written for "
        f"{rows:,} rows, {size(free)} are free; if it gets full, make room and run the same "
        "command to continue"
    )
