"""Check the values of the rows of a feature file, by reading every one of them. No torch.

HDF5's checksums prove that a chunk is as it was written, `features/store/structure.py` that it is
in the file, and the seal that no bit has changed. None of them proves that the values make sense,
since a stranger can write all of them around any values. In comes an open store, out comes a
sentence for each fault. Rows are read in blocks, so that memory does not grow with the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import FileRefused
from features.store.format import CHUNK_BYTES, EMPTY, REPAIRED, TRUNCATED
from features.store.reader import FeatureStore

# As an unsigned integer, a value that is finite is below its type's infinity, but for the sign.
_BITS = {"float16": (np.uint16, 0x7FFF, 0x7C00), "float32": (np.uint32, 0x7FFFFFFF, 0x7F800000)}
# Small enough that memory is used again, large enough that opening datasets costs nothing.
BLOCK_BYTES = 2**23
COLUMN_ROWS = 65_536


def faults(
    store: FeatureStore,
    progress: Callable[[int], None] = lambda n: None,
    *,
    block_bytes: int = BLOCK_BYTES,
    chunk_bytes: int = CHUNK_BYTES,
    column_rows: int = COLUMN_ROWS,
) -> Iterator[str]:
    """Read all rows of one shard, and say what is wrong with them, a sentence each.

    Parameters
    ----------
    store : FeatureStore
        Of one file.
    progress : callable, optional
        Called with the bytes of vectors that were read since the last call.
    block_bytes, chunk_bytes, column_rows : int
        Bytes of vectors, in complete chunks, and rows of other columns that are read at a time.
    """
    parts = list(_slices(store.n_rows, column_rows))
    for found in (
        _labels(store),
        _ids(store, parts),
        _flags(store, parts),
        _n_tokens(store, parts),
    ):
        try:
            yield from found
        except FileRefused as error:
            yield str(error)
    try:
        repeated, first = repetitions(store.digests())
    except FileRefused as error:
        yield str(error)
        repeated = first = np.empty(0, np.int64)
    for view in store.views:
        try:
            blocks = store.blocks(view, store.store_dtype, block_bytes, chunk_bytes=chunk_bytes)
            yield from _vectors(store, view, blocks, repeated, first, progress)
        except FileRefused as error:
            yield str(error)


def repetitions(
    digests: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give the rows whose digest another row has, and for each the first row that has it.

    Both are in order of the rows, and the first ones are among them.

    >>> rows = np.array([7, 3, 7, 1, 7], np.uint8)[:, None].repeat(16, axis=1)
    >>> repetitions(rows)
    (array([0, 2, 4]), array([0, 0, 0]))
    """
    halves = np.ascontiguousarray(digests).view(np.uint64)
    # Half a digest tells nearly all of them apart, and sorts in a fraction of the time.
    ordered = np.sort(halves[:, 0])
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    rows = np.flatnonzero(np.isin(halves[:, 0], twice))
    rows = rows[np.lexsort((halves[rows, 1], halves[rows, 0]))]  # stable: in order within a text
    is_first = np.ones(len(rows), np.bool_)
    is_first[1:] = (halves[rows[1:]] != halves[rows[:-1]]).any(axis=1)
    starts = np.flatnonzero(is_first)
    sizes = np.diff([*starts, len(rows)])
    first = np.repeat(rows[starts], sizes)
    several = np.repeat(sizes > 1, sizes)
    in_order = np.argsort(rows[several])
    return rows[several][in_order], first[several][in_order]


def _labels(store: FeatureStore) -> Iterator[str]:
    names = store.label_names
    if len(set(names)) < len(names):
        yield f"{store}: it names a label twice"
    store.labels()  # refuses what is not among the names


def _ids(store: FeatureStore, parts: Sequence[slice]) -> Iterator[str]:
    for rows in parts:
        store.column("id", rows)  # any bytes will do, if their chunks are right
    yield from ()


def _flags(store: FeatureStore, parts: Sequence[slice]) -> Iterator[str]:
    for rows in parts:
        yield from _first_odd(
            store, rows, store.flags(rows), lambda v: v > (TRUNCATED | EMPTY | REPAIRED), "flags"
        )


def _n_tokens(store: FeatureStore, parts: Sequence[slice]) -> Iterator[str]:
    longest = store.spec.max_length
    for rows in parts:
        yield from _first_odd(
            store, rows, store.n_tokens(rows), lambda v: (v < 1) | (v > longest), "n_tokens"
        )


def _first_odd(
    store: FeatureStore,
    rows: slice,
    values: npt.NDArray[Any],
    is_odd: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]],
    name: str,
) -> Iterator[str]:
    odd = np.flatnonzero(is_odd(values))
    if len(odd):
        yield (
            f"{store}: {name!r} of row {rows.start + odd[0] + 1:,} is {values[odd[0]]}, which no "
            "row can have"
        )


def _vectors(
    store: FeatureStore,
    view: str,
    blocks: Iterator[tuple[int, npt.NDArray[Any]]],
    repeated: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    progress: Callable[[int], None],
) -> Iterator[str]:
    """Say which vectors are not finite, and which differ although their texts are the same."""
    unsigned, magnitude, infinity = _BITS[store.store_dtype]
    n_bad, first_bad, seen = 0, 0, 0
    sums, weights = np.zeros(len(repeated), np.uint64), _weights(store.views[view])
    for start, block in blocks:
        bits = block.view(unsigned) & magnitude
        if bits.max() >= infinity:
            bad = np.flatnonzero((bits >= infinity).any(axis=1))
            first_bad = first_bad if n_bad else start + int(bad[0])
            n_bad += len(bad)
        end = seen + int(np.searchsorted(repeated[seen:], start + len(block)))
        if end > seen:
            sums[seen:end] = _sums(block[repeated[seen:end] - start], weights)
            seen = end
        progress(block.nbytes)
    if n_bad:
        yield (
            f"{store}: {n_bad:,} vectors of {view!r} are not finite, the first is that of row "
            f"{first_bad + 1:,}"
        )
    odd = np.flatnonzero(sums != sums[np.searchsorted(repeated, first)])
    if len(odd):
        yield (
            f"{store}: rows {first[odd[0]] + 1:,} and {repeated[odd[0]] + 1:,} have the same text "
            f"and different vectors of {view!r}"
        )


def _weights(width: int) -> npt.NDArray[np.uint64]:
    """Make odd numbers, so that no bit of a vector is lost in its sum."""
    return np.random.default_rng(0).integers(0, 2**63, width, np.uint64) * np.uint64(2) + np.uint64(
        1
    )


def _sums(vectors: npt.NDArray[Any], weights: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Sum up vectors by their bits, one number each; equal ones alike."""
    row_bytes = vectors.itemsize * vectors.shape[1]
    size = next(size for size in (8, 4, 2) if row_bytes % size == 0)
    words = vectors.view(f"<u{size}").astype(np.uint64, copy=False)
    return np.asarray(words @ weights[: words.shape[1]])


def _slices(n_rows: int, step: int) -> Iterator[slice]:
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
