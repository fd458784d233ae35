"""Centre vectors by their own mean, hold as many as fit, and add up what is computed of them.

In come raw vectors (N, D) and the weights of their rows; out come `Centred` vectors. What is added
up has the same bits wherever the vectors lie and however many threads work, since blocks are always
the same and their order is that of `pipeline/solver/sums.py`. No model is known here.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import Any

import numpy as np

from features.base.arrays import Array, Floats
from features.base.machine import whole_memory
from features.errors import InputError
from pipeline.solver.blocks import BLOCK_ROWS, Rows, Workers, cut, widen
from pipeline.solver.sums import BlockFunction, BlockResult, Take, group_blocks, sum_in_groups

# Values that are converted together: each step on them hands Python's lock on, and so many just
# stay in the cache.
_VALUES_IN_CACHE = 2**19


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
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return self.rows.shape

    @property
    def in_memory(self) -> bool:
        """Whether all are held."""
        return len(self.held) == self.shape[0]

    def sum(
        self,
        function: BlockFunction,
        columns: Sequence[Array] = (),
        *,
        every: int = 1,
        take: Take | None = None,
    ) -> tuple[Array, ...]:
        """Add up what a function gives for the blocks, see `Vectors.sum`."""
        results = self.results(function, columns, every=every)
        return sum_in_groups(results, self.shape[0], take)

    def results(
        self,
        function: BlockFunction,
        columns: Sequence[Array] = (),
        *,
        every: int = 1,
        first: int = 0,
    ) -> Iterator[tuple[int, BlockResult]]:
        """Apply a function to blocks, in threads; give their numbers and its results, in order.

        Block `first` is the first one that is taken, and each `every`-th one from there.
        """
        scratch = threading.local()  # fresh memory for each block would cost as much as filling it

        def of_block(at: slice, block: Array) -> tuple[int, BlockResult]:
            z = block
            if at.start >= len(self.held):
                if not hasattr(scratch, "z"):
                    scratch.z = np.empty((BLOCK_ROWS, block.shape[1]), self.center.dtype)
                z = self._centre(block, scratch.z[: len(block)])
            return at.start // BLOCK_ROWS, function(z, *(column[at] for column in columns))

        blocks = chain(cut([self.held], BLOCK_ROWS), self.rows.blocks(len(self.held)))
        yield from self.workers.map(of_block, islice(_numbered(blocks), first, None, every))

    def _centre(self, block: Array, z: Array) -> Array:
        """Centre raw rows (n, D), whose values are known to be finite, into z."""
        rows = max(1, _VALUES_IN_CACHE // block.shape[1])
        for start in range(0, len(block), rows):
            part = z[start : start + rows]
            widen(block[start : start + rows], part)
            part -= self.center
        return z


@dataclass(frozen=True)
class Moments:
    """Of some rows: their weight, their mean (D,), and the squared deviations from it, (D,)."""

    weight: float
    mean: Floats
    squares: Floats


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
    held = room_for(rows, memory)
    of_group = group_blocks(rows.shape[0])
    of_blocks = moments_of_blocks(rows, weight, held, workers)
    each = groupby(enumerate(of_blocks), lambda numbered: numbered[0] // of_group)
    found = merged(merged(moments for _, moments in group) for _, group in each)
    center, inverse = standardisation(found, rows.computed_in)
    centre_in_place(held, center, workers)
    return Centred(rows, center, inverse, held, workers)


def room_for(rows: Rows, memory: int) -> Array:
    """Make room for as many rows, (H, D), as fit into some bytes: for all, or for whole blocks.

    Raises
    ------
    InputError
        They take more than this machine has.
    """
    n_rows, n_columns = rows.shape
    row_bytes = n_columns * rows.computed_in.itemsize
    fit = memory // max(1, row_bytes)
    n_held = n_rows if fit >= n_rows else fit - fit % BLOCK_ROWS
    if n_held * row_bytes > (there := whole_memory()):
        raise InputError(
            f"`memory` allows to hold {n_held * row_bytes / 2**30:,.1f} GiB of vectors, and "
            f"{platform.node()} has {there / 2**30:,.1f} GiB of memory; give less, or leave it out"
        )
    return np.empty((n_held, n_columns), rows.computed_in)


def hold(rows: Rows, memory: int) -> Array:
    """Read as many raw vectors, (H, D), as fit into some bytes."""
    held = room_for(rows, memory)
    filled = 0
    with closing(rows.blocks()) as blocks:
        while filled < len(held):
            block = next(blocks)
            widen(block, held[filled : filled + len(block)])
            filled += len(block)
    return held


def moments_of_blocks(
    rows: Rows, weight: Floats, held: Array, workers: Workers
) -> Iterator[Moments]:
    """Go once over raw vectors, and keep the first ones as they are in `held`, (H, D)."""

    def of_block(at: slice, block: Array) -> Moments:
        wide = np.empty(block.shape, held.dtype)
        widen(block, wide)
        if at.start < len(held):
            held[at] = wide
        return _moments(wide, weight[at])

    with np.errstate(invalid="ignore"):
        yield from workers.map(of_block, _numbered(rows.blocks()))


def merged(parts: Iterable[Moments]) -> Moments:
    """Give the moments of the rows of all parts, which are merged in their order.

    By Chan, Golub, LeVeque, "Algorithms for computing the sample variance", 1983, (2.1).
    """
    total, mean, squares = 0.0, np.zeros(1), np.zeros(1)
    with np.errstate(invalid="ignore"):
        for part in parts:
            if part.weight > 0:
                total, before = total + part.weight, total
                shift = part.mean - mean
                mean = mean + shift * (part.weight / total)
                squares = squares + (part.squares + shift**2 * (before * part.weight / total))
    return Moments(total, mean, squares)


def standardisation(moments: Moments, dtype: np.dtype[Any]) -> tuple[Array, Floats]:
    """Give the center, in a type, and 1 / standard deviation, (D,) each; see `Centred`.

    Raises
    ------
    InputError
        A value is not finite.
    """
    mean, squares = moments.mean, moments.squares
    if not (np.isfinite(mean) & np.isfinite(squares)).all():
        raise InputError("the vectors hold values that are not finite; make them again")
    std = np.sqrt(squares / moments.weight)
    # A column is constant if what varies in it is rounding of its own size.
    constant = std <= 10 * np.finfo(np.float32).eps * np.abs(mean)
    inverse = np.where(constant, 0.0, 1 / np.where(constant, 1.0, std))
    return mean.astype(dtype), inverse


def centre_in_place(held: Array, center: Array, workers: Workers) -> None:
    """Subtract the center (D,) from rows (H, D)."""

    def of_block(_: slice, block: Array) -> None:
        block -= center

    for _ in workers.map(of_block, _numbered(cut([held], BLOCK_ROWS))):
        pass


def _moments(block: Array, weight: Floats) -> Moments:
    """Weight, mean and squared deviations from it, of a block; it is overwritten."""
    total = float(weight.sum())
    if total == 0:
        return Moments(0.0, np.zeros(block.shape[1]), np.zeros(block.shape[1]))
    share = (weight / total).astype(block.dtype)
    near = share @ block
    block -= near
    # What rounding left in the mean comes out of the deviations, where it is not small against
    # them.
    off = (share @ block).astype(np.float64)
    np.square(block, out=block)
    squares = total * ((share @ block).astype(np.float64) - off**2)
    return Moments(total, near.astype(np.float64) + off, np.maximum(squares, 0.0))


def _numbered(blocks: Iterable[Array]) -> Iterator[tuple[slice, Array]]:
    start = 0
    for block in blocks:
        yield slice(start, start + len(block)), block
        start += len(block)
