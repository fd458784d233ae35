"""Add up what blocks of rows give, in an order that depends on the number of rows alone.

In come the results of blocks, in their order; out go sums in float64. Within a group of consecutive
blocks results are added one after another, in their own type, and then the sums of the groups, in
float64. So a group can be added up by whoever has its rows, in this process or on another machine,
and the sum has the same bits. Up to `GROUP_BLOCKS` blocks are one group. No vectors are read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from features.base.arrays import Array, Floats
from pipeline.solver.blocks import BLOCK_ROWS, Workers

# Blocks of a group at least, and groups at most: their sums travel where several processes work.
GROUP_BLOCKS = 64
_MOST_GROUPS = 256

# Takes what is given for the rows, piece after piece in their order.
Take = Callable[[tuple[Array, ...]], None]


@dataclass(frozen=True)
class BlockResult:
    """What a function gives for a block.

    Attributes
    ----------
    sums : tuple of arrays or floats
        To be added to those of the other blocks.
    rows : tuple of arrays
        To follow those of the blocks before; no views of the block.
    """

    sums: tuple[Array | float, ...] = ()
    rows: tuple[Array, ...] = ()


class BlockFunction(Protocol):
    """What is computed of a block: z (n, D) and its rows of some columns, (n,) or (n, ·) each."""

    def __call__(self, z: Array, /, *columns: Array) -> BlockResult:
        """Give what is to be added up. z is there only until it returns."""


class Vectors(Protocol):
    """Centred vectors (N, D), wherever they are; see `pipeline/solver/centred.py`."""

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""

    @property
    def center(self) -> Array:
        """Mean of the rows by their weights, (D,), in the precision of the blocks."""

    @property
    def inverse_scale(self) -> Floats:
        """1 / standard deviation, or 0 for a constant column, (D,)."""

    @property
    def in_memory(self) -> bool:
        """Whether all are held."""

    @property
    def workers(self) -> Workers:
        """Threads of this process."""

    def sum(
        self,
        function: BlockFunction,
        columns: Sequence[Array] = (),
        *,
        every: int = 1,
        take: Take | None = None,
    ) -> tuple[Array, ...]:
        """Add up what a function gives for the blocks.

        Parameters
        ----------
        function : BlockFunction
        columns : sequence of arrays (N,) or (N, ·)
            What it is given beside z; they do not change.
        every : int
            Only each so-manieth block is taken.
        take : callable, optional
            Called with the `rows` of the results, in order of the rows.

        Returns
        -------
        tuple of float64 arrays
        """


def group_blocks(n_rows: int) -> int:
    """Give the number of blocks of a group.

    Examples
    --------
    >>> group_blocks(1_000_000), group_blocks(1_000_000_000)
    (64, 1908)
    """
    return max(GROUP_BLOCKS, -(-_blocks(n_rows) // _MOST_GROUPS))


def groups(n_rows: int) -> list[slice]:
    """Give the rows of each group.

    Examples
    --------
    >>> groups(200_000)
    [slice(0, 131072, None), slice(131072, 200000, None)]
    """
    step = group_blocks(n_rows) * BLOCK_ROWS
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def _blocks(n_rows: int) -> int:
    return -(-n_rows // BLOCK_ROWS)


def sum_in_groups(
    results: Iterable[tuple[int, BlockResult]], n_rows: int, take: Take | None = None
) -> tuple[Array, ...]:
    """Add up the results of numbered blocks of `n_rows` rows, in order; see `Vectors.sum`."""
    of_group = group_blocks(n_rows)
    each = groupby(results, lambda numbered: numbered[0] // of_group)
    return total(sum_of_group((result for _, result in one), take) for _, one in each)


def sum_of_group(results: Iterable[BlockResult], take: Take | None = None) -> tuple[Array, ...]:
    """Add up the results of the blocks of a group, in their own types."""

    def sums() -> Iterable[tuple[Array | float, ...]]:
        for result in results:
            if take is not None:
                take(result.rows)
            yield result.sums

    return _added(sums(), None)


def total(of_groups: Iterable[tuple[Array, ...]]) -> tuple[Array, ...]:
    """Add up the sums of groups, in float64."""
    return _added(of_groups, np.float64)


def _added(
    parts: Iterable[tuple[Array | float, ...]], dtype: npt.DTypeLike | None
) -> tuple[Array, ...]:
    found: list[npt.NDArray[Any]] = []
    for part in parts:
        if not found:
            found = [np.zeros(np.shape(one), dtype or np.asarray(one).dtype) for one in part]
        for so_far, one in zip(found, part, strict=True):
            so_far += one
    return tuple(found)
