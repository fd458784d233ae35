"""Work on groups of blocks in a worker process, for `pipeline/solver/distributed.py`.

In come a group, with what belongs to its rows, and a pass; out come its sums, and in pieces what is
given for its rows. The vectors of a group are read where its source says, and held as far as memory
goes. So a pass depends on no other: a worker that takes the place of one that died reads and holds
them anew.
"""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from features.base.arrays import Array, Floats
from features.base.machine import default_memory
from pipeline.solver import blas
from pipeline.solver.blocks import BLOCK_ROWS, Rows, Workers
from pipeline.solver.centred import (
    Centred,
    centre_in_place,
    hold,
    merged,
    moments_of_blocks,
    room_for,
)
from pipeline.solver.sums import BlockFunction, sum_of_group

# What is given for rows goes back in pieces of so many bytes.
_PIECE_BYTES = 2**20


class Source(Protocol):
    """Where a worker finds vectors; it can be pickled."""

    def open(self) -> AbstractContextManager[Callable[[Any, Any], Rows]]:
        """Give a function of a view and a place, which gives the rows of a group."""


@dataclass(frozen=True)
class PackedColumn:
    """What a column has for the rows of a group.

    Attributes
    ----------
    key : int
        Of the column; no two have the same.
    """

    key: int
    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, key: int, values: Array) -> PackedColumn:
        """Pack some values; most columns are few numbers again and again."""
        data = zlib.compress(np.ascontiguousarray(values).tobytes(), 1)
        return cls(key, values.dtype.str, values.shape, data)

    def values(self) -> Array:
        """Unpack them."""
        return np.frombuffer(zlib.decompress(self.data), self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Group:
    """A group of blocks.

    Attributes
    ----------
    number : int
    rows : slice
        Of all N.
    place : object
        Says to the source where they are.
    columns : tuple of PackedColumn
    """

    number: int
    rows: slice
    place: Any = field(repr=False)
    columns: tuple[PackedColumn, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"of rows {self.rows.start + 1:,} to {self.rows.stop:,}"


@dataclass(frozen=True)
class Standard:
    """What is subtracted from the columns, and 1 / standard deviation, (D,) each."""

    center: Array
    inverse_scale: Floats


@dataclass(frozen=True)
class Pass:
    """What is asked of all groups.

    Attributes
    ----------
    number : int
        Of the pass.
    view : object
        Says to the source which vectors.
    standard : Standard, optional
        None where it is not known yet: then the moments are asked for, by the one column, which has
        the weights of the rows.
    function : BlockFunction, optional
        Computes a block.
    every : int
        Only each so-manieth block is taken.
    piece : int
        Which piece of what is given for the rows; sums come with the first one.
    """

    number: int
    view: Any
    standard: Standard | None = None
    function: BlockFunction | None = None
    every: int = 1
    piece: int = 0


@dataclass(frozen=True)
class GroupResult:
    """What a group gives.

    Attributes
    ----------
    sums : tuple of float64 arrays
    held : int
        Rows that the worker holds.
    n_bytes : int
        Of what is given for the rows.
    piece : bytes
        The piece of it that was asked for.
    """

    sums: tuple[Array, ...]
    held: int
    n_bytes: int
    piece: bytes


@dataclass(frozen=True)
class GroupWork:
    """The work of a worker, which can be pickled.

    Attributes
    ----------
    source : Source
    memory : int, optional
        Bytes of vectors that a worker may hold; default its share of a quarter of what is free.
    workers : int
        Workers that there are.
    library : str
        Which BLAS computes, see `pipeline/solver/blas.py`.
    """

    source: Source
    memory: int | None
    workers: int
    library: str

    @contextmanager
    def open(self) -> Iterator[Callable[[Group, Pass], GroupResult]]:
        """Open the source."""
        blas.take(self.library)
        threads = Workers()
        memory = self.memory
        if memory is None:
            # A worker may be pinned to its own cores, so those of the machine are counted.
            beside_it = min(self.workers, max(1, (os.cpu_count() or 1) // threads.count))
            memory = default_memory() // beside_it
        with self.source.open() as rows_of:
            yield _Groups(rows_of, memory, threads)


class _Groups:
    """The groups that this worker was asked for, with what it keeps of them."""

    def __init__(self, rows_of: Callable[[Any, Any], Rows], memory: int, threads: Workers) -> None:
        self._rows_of, self._memory, self._threads = rows_of, memory, threads
        self._view: Any = None
        self._raw: dict[int, Array] = {}  # held since their moments were taken
        self._centred: dict[int, Centred] = {}
        self._columns: dict[tuple[int, int], Array] = {}
        self._pass = -1
        self._given: dict[int, bytes] = {}  # for the rows, in the pass

    def __call__(self, group: Group, asked: Pass) -> GroupResult:
        if asked.view != self._view:
            self._view = asked.view
            for kept in (self._raw, self._centred, self._columns):
                kept.clear()
        if asked.number != self._pass:
            self._pass = asked.number
            self._given.clear()
        sums: tuple[Array, ...] = ()
        if asked.piece == 0 or group.number not in self._given:
            sums = self._moments(group) if asked.standard is None else self._sums(group, asked)
        given = self._given[group.number]
        start = asked.piece * _PIECE_BYTES
        return GroupResult(
            sums,
            self._held(group.number),
            len(given),
            given[start : start + _PIECE_BYTES],
        )

    def _moments(self, group: Group) -> tuple[Array, ...]:
        """Take weight, mean and squared deviations, and hold the vectors as they are."""
        (weight,) = self._values(group)
        rows = self._rows_of(self._view, group.place)
        for kept in (self._raw, self._centred):
            kept.pop(group.number, None)
        held = room_for(rows, self._left())
        self._raw[group.number] = held
        found = merged(moments_of_blocks(rows, weight, held, self._threads))
        self._given[group.number] = b""
        return np.asarray(found.weight), found.mean, found.squares

    def _sums(self, group: Group, asked: Pass) -> tuple[Array, ...]:
        assert asked.function is not None
        first = -(group.rows.start // BLOCK_ROWS) % asked.every
        rows: list[tuple[Array, ...]] = []
        results = self._vectors(group, asked).results(
            asked.function, self._values(group), every=asked.every, first=first
        )
        sums = sum_of_group((result for _, result in results), rows.append)
        joined = tuple(np.concatenate(parts) for parts in zip(*rows, strict=True))
        self._given[group.number] = pickle.dumps(joined, 5) if joined else b""
        return tuple(one.astype(np.float64, copy=False) for one in sums)

    def _vectors(self, group: Group, asked: Pass) -> Centred:
        """Give centred vectors: those that are held, or else as many are held as may be."""
        if group.number not in self._centred:
            assert asked.standard is not None
            standard, rows = asked.standard, self._rows_of(self._view, group.place)
            held = self._raw.pop(group.number, None)
            if held is None:
                held = hold(rows, self._left())
            centre_in_place(held, standard.center, self._threads)
            self._centred[group.number] = Centred(
                rows, standard.center, standard.inverse_scale, held, self._threads
            )
        return self._centred[group.number]

    def _values(self, group: Group) -> list[Array]:
        """Unpack columns that are not known yet."""
        for column in group.columns:
            if (group.number, column.key) not in self._columns:
                self._columns[group.number, column.key] = column.values()
        return [self._columns[group.number, column.key] for column in group.columns]

    def _held(self, number: int) -> int:
        if number in self._centred:
            return len(self._centred[number].held)
        return len(self._raw.get(number, ()))

    def _left(self) -> int:
        """Count the bytes that may still be held."""
        held = [*self._raw.values(), *(one.held for one in self._centred.values())]
        return max(0, self._memory - sum(one.nbytes for one in held))
