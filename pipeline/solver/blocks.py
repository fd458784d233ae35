"""Go through vectors block by block, from memory or streamed from a file in bounded memory.

In come raw vectors (N, D) as an array, an HDF5 dataset, or anything that can be read piece by
piece. Out go blocks of raw rows, to be gone through as often as wanted, and threads to work on
them. A block always holds the same rows, `BLOCK_ROWS` of them, however the vectors were read: a sum
over blocks, taken in the order of `pipeline/solver/sums.py`, does not depend on where the vectors
lie, on the size of what is read at once or on the number of threads.

Several threads work on several blocks, and BLAS on one thread in each: its own threads gain no more
on wide products, wait for each other on thin ones, and leave softmax and conversions to one core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from features.base.arrays import Array
from features.base.read_ahead import read_ahead
from pipeline.solver import blas

T = TypeVar("T")

# Rows that are read, converted and multiplied together. Each of the steps on a block hands Python's
# lock on: with fewer rows, threads wait for each other more than they compute.
BLOCK_ROWS = 2048
# Rows are read in pieces of about this size, and one piece is read while the one before is worked
# on.
_PIECE_BYTES = 8 * 2**20
_PIECES_AHEAD = 2


@dataclass(frozen=True)
class Rows:
    """Raw vectors (N, D) that can be gone through several times.

    Attributes
    ----------
    shape : (int, int)
    dtype : numpy dtype
        float16, float32 or float64, as stored.
    pieces : callable
        Gives an iterator over consecutive rows from a given one on, (n, D) each, up to N.
    in_memory : bool
        Whether reading is free.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    pieces: Callable[[int], Iterator[Array]]
    in_memory: bool = False

    @classmethod
    def of(cls, vectors: Any) -> Rows:
        """Wrap an array, or an HDF5 dataset, (N, D)."""
        shape = (int(vectors.shape[0]), int(vectors.shape[1]))
        if isinstance(vectors, np.ndarray):
            return cls(shape, vectors.dtype, lambda start: iter([vectors[start:]]), in_memory=True)
        step = max(1, _PIECE_BYTES // (shape[1] * vectors.dtype.itemsize))
        if chunks := vectors.chunks:  # whole ones: a part of one is read and checked like all of it
            step = max(1, step // chunks[0]) * chunks[0]

        def pieces(start: int) -> Iterator[Array]:
            while start < shape[0]:
                stop = start - start % step + step
                yield vectors[start:stop]
                start = stop

        return cls(shape, vectors.dtype, pieces)

    @property
    def computed_in(self) -> np.dtype[Any]:
        """The precision of the blocks: float64 for float64, else float32."""
        return np.result_type(self.dtype, np.float32)

    def blocks(self, start: int = 0) -> Generator[Array]:
        """Iterate over blocks of `BLOCK_ROWS` raw rows; what lies in a file is read ahead."""
        if self.in_memory:
            yield from cut(self.pieces(start), BLOCK_ROWS)
        elif start < self.shape[0]:
            with closing(read_ahead(self.pieces(start), _PIECES_AHEAD, finite=True)) as pieces:
                yield from cut(pieces, BLOCK_ROWS)


def cut(pieces: Iterable[Array], rows: int) -> Iterator[Array]:
    """Cut pieces of any number of rows into blocks of the same number; the last one may be shorter.

    Examples
    --------
    >>> [len(block) for block in cut([np.zeros((3, 1)), np.zeros((4, 1))], 2)]
    [2, 2, 2, 1]
    """
    rest: list[Array] = []
    missing = rows
    for piece in pieces:
        start = 0
        while len(piece) - start >= missing:
            rest.append(piece[start : start + missing])
            start += missing
            yield rest[0] if len(rest) == 1 else np.concatenate(rest)
            rest, missing = [], rows
        if start < len(piece):
            rest.append(piece[start:])
            missing -= len(rest[-1])
    if rest:
        yield rest[0] if len(rest) == 1 else np.concatenate(rest)


class Workers:
    """Threads, as many as are asked for; without, as many as BLAS would take."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or blas.threads()
        # One for all passes: on a few thousand rows, starting threads would take as long as the
        # pass.
        self._pool = ThreadPoolExecutor(self.count)

    def map(self, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Give the results in the order of the calls, few of which are under way at a time."""
        with blas.one_thread():
            if self.count == 1:
                for call in calls:
                    yield function(*call)
            else:
                yield from self._side_by_side(blas.one_thread()(function), calls)

    def _side_by_side(
        self, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]
    ) -> Iterator[T]:
        under_way: deque[Future[T]] = deque()
        try:
            for call in calls:
                under_way.append(self._pool.submit(function, *call))
                if len(under_way) > self.count:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
            wait(under_way)


def widen(half: Array, out: Array) -> None:
    """Copy to another precision; from float16 to float32 as exactly as numpy does, but faster.

    The bits of a float16 are moved to where a float32 has them; its exponent then is 112 too small.
    """
    if half.dtype != np.float16 or out.dtype != np.float32:
        out[:] = half
        return
    bits = out.view(np.int32)
    bits[:] = half.view(np.int16)  # keeps the sign
    bits <<= 13
    bits &= np.int32(-0x70002000)
    out *= np.float32(2.0**112)
