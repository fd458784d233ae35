"""Go through vectors block by block, from memory or streamed from a file in bounded memory.

In come raw vectors (N, D) as an array, an HDF5 dataset, or anything that can be read piece by
piece. Out go centred blocks, to be gone through as often as wanted. A block always holds the same
rows, `BLOCK_ROWS` of them, however the vectors were read: a sum over blocks, taken in their order,
does not depend on where the vectors lie, on the size of what is read at once or on the number of
threads.

Several threads work on several blocks, and BLAS on one thread in each: its own threads gain no more
on wide products, wait for each other on thin ones, and leave softmax and conversions to one core.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from features.base.arrays import Array, Floats
from features.base.read_ahead import read_ahead
from features.errors import InputError

T = TypeVar("T")

# Rows that are read, converted and multiplied together. Each of the steps on a block hands Python's
# lock on: with fewer rows, threads wait for each other more than they compute.
BLOCK_ROWS = 2048
# Values that are converted together, for the same reason so many: they just stay in the cache.
_VALUES_IN_CACHE = 2**19
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

    def blocks(self, start: int = 0) -> Iterator[Array]:
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
    """As many threads as BLAS would take."""

    def __init__(self) -> None:
        from threadpoolctl import ThreadpoolController  # not needed to read a head

        self._controller = ThreadpoolController()
        self.count = max(
            (lib["num_threads"] for lib in self._controller.info() if lib["user_api"] == "blas"),
            default=1,
        )
        # One for all passes: on a few thousand rows, starting threads would take as long as the
        # pass.
        self._pool = ThreadPoolExecutor(self.count)

    def one_blas_thread(self) -> AbstractContextManager[Any]:
        """Keep BLAS to one thread, for as long as the blocks have several."""
        limited: AbstractContextManager[Any] = self._controller.limit(limits=1, user_api="blas")
        return limited

    def map(self, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Give the results in the order of the calls, few of which are under way at a time."""
        if self.count == 1:
            for call in calls:
                yield function(*call)
            return
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


@dataclass(frozen=True)
class Centred:
    """Vectors z = x - center; the first are held, the others computed in each pass.

    What is left to standardise them, a scale for each column, goes into the weights that z is
    multiplied with: that is a step less on every value.

    Attributes
    ----------
    center : float array (D,)
        Mean of the rows by their weights, in the precision of the blocks.
    inverse_scale : float64 array (D,)
        1 / standard deviation, or 0 for a constant column.
    held : float array (H, D)
        z of the first rows: of all, or of whole blocks.
    """

    rows: Rows
    center: Array
    inverse_scale: Floats
    held: Array
    workers: Workers

    @property
    def in_memory(self) -> bool:
        """Whether all are held."""
        return len(self.held) == self.rows.shape[0]

    def sweep(self, function: Callable[[slice, Array], T], every: int = 1) -> Iterator[T]:
        """Apply ``function(rows, z)`` to blocks of rows, in threads; give the results in order.

        z is the function's only until it returns: the next block may come into the same memory.
        With `every`, only each so-manieth block is taken.
        """
        scratch = threading.local()  # fresh memory for each block would cost as much as filling it

        def of_block(at: slice, block: Array) -> T:
            if at.start < len(self.held):
                return function(at, block)
            if not hasattr(scratch, "z"):
                scratch.z = np.empty((BLOCK_ROWS, block.shape[1]), self.center.dtype)
            return function(at, self._centre(block, scratch.z[: len(block)]))

        blocks = chain(cut([self.held], BLOCK_ROWS), self.rows.blocks(len(self.held)))
        with self.workers.one_blas_thread():
            yield from self.workers.map(of_block, islice(_numbered(blocks), 0, None, every))

    def _centre(self, block: Array, z: Array) -> Array:
        """Centre raw rows (n, D), whose values are known to be finite, into z."""
        rows = max(1, _VALUES_IN_CACHE // block.shape[1])
        for start in range(0, len(block), rows):
            part = z[start : start + rows]
            _widen(block[start : start + rows], part)
            part -= self.center
        return z


def _widen(half: Array, out: Array) -> None:
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


def centred(rows: Rows, weight: Floats, *, memory: int, workers: Workers) -> Centred:
    """Centre vectors by their own mean, find their scale, and hold as many as fit.

    Parameters
    ----------
    rows : Rows
        N x D.
    weight : float array (N,)
        A row of weight 2 counts as two rows.
    memory : int
        Bytes that may be held.
    workers : Workers
    """
    dtype = rows.computed_in
    fit = memory // max(1, rows.shape[1] * dtype.itemsize)
    n_held = rows.shape[0] if fit >= rows.shape[0] else fit - fit % BLOCK_ROWS
    held = np.empty((n_held, rows.shape[1]), dtype)

    def moments(at: slice, block: Array) -> tuple[float, Floats, Floats]:
        wide = np.empty(block.shape, dtype)
        _widen(block, wide)
        if at.start < n_held:
            held[at] = wide
        return _moments(wide, weight[at])

    total, mean, squares = 0.0, np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    with workers.one_blas_thread(), np.errstate(invalid="ignore"):
        for n, block_mean, block_squares in workers.map(moments, _numbered(rows.blocks())):
            if n > 0:
                # Chan, Golub, LeVeque, "Algorithms for computing the sample variance", 1983, (2.1).
                total, before = total + n, total
                shift = block_mean - mean
                mean += shift * (n / total)
                squares += block_squares + shift**2 * (before * n / total)
    if not (np.isfinite(mean) & np.isfinite(squares)).all():
        raise InputError("the vectors hold values that are not finite; make them again")
    std = np.sqrt(squares / total)
    # A column is constant if what varies in it is rounding of its own size.
    constant = std <= 10 * np.finfo(np.float32).eps * np.abs(mean)
    inverse = np.where(constant, 0.0, 1 / np.where(constant, 1.0, std))
    center = mean.astype(dtype)

    def in_place(at: slice, block: Array) -> None:
        block -= center

    for _ in workers.map(in_place, _numbered(cut([held], BLOCK_ROWS))):
        pass
    return Centred(rows, center, inverse, held, workers)


def _moments(block: Array, weight: Floats) -> tuple[float, Floats, Floats]:
    """Weight, mean and squared deviations from it, of a block; it is overwritten."""
    total = float(weight.sum())
    if total == 0:
        return 0.0, np.zeros(0), np.zeros(0)
    share = (weight / total).astype(block.dtype)
    near = share @ block
    block -= near
    # What rounding left in the mean comes out of the deviations, where it is not small against
    # them.
    off = (share @ block).astype(np.float64)
    np.square(block, out=block)
    squares = total * ((share @ block).astype(np.float64) - off**2)
    return total, near.astype(np.float64) + off, np.maximum(squares, 0.0)


def _numbered(blocks: Iterable[Array]) -> Iterator[tuple[slice, Array]]:
    start = 0
    for block in blocks:
        yield slice(start, start + len(block)), block
        start += len(block)


def parse_memory(text: str | int) -> int:
    """Read a number of bytes, e.g. ``512MiB``, ``2G`` or ``1000000``; units are powers of 1,024.

    Raises
    ------
    ValueError
        It is not one.

    Examples
    --------
    >>> parse_memory("512MiB"), parse_memory("2g"), parse_memory(1000)
    (536870912, 2147483648, 1000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", str(text).upper())
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2] or " "))


def default_memory() -> int:
    """Give a quarter of the memory that is free, in bytes."""
    return _free_memory() // 4


def _free_memory() -> int:
    import os

    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
