"""Go through vectors in several processes: those of the groups in, sums in the order of groups out.

Each group has its home in a worker (`pipeline/solver/group_worker.py`), which holds its vectors or
streams them. A pass sends a function, with the weights of all models in it, and gets the sums of
each group back, which are added here in the order of the groups. As that is the order in which one
process adds them (`pipeline/solver/sums.py`), the sums have the same bits, whoever works and dies.

What belongs to rows, such as classes and folds, goes with the groups, packed: for five folds about
a byte a row. What is given for rows, such as scores, comes back in pieces of 1 MiB. No file is read
here.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from mmap import mmap
from typing import Any

from features.base.arrays import Array, Floats
from features.engines.engine import Engine
from features.engines.verbs import call_shards
from pipeline.solver import blas
from pipeline.solver.blocks import BLOCK_ROWS, Rows, Workers
from pipeline.solver.centred import Moments, merged, standardisation
from pipeline.solver.group_worker import (
    Group,
    GroupResult,
    GroupWork,
    PackedColumn,
    Pass,
    Source,
    Standard,
)
from pipeline.solver.sums import BlockFunction, Take, group_blocks, groups, total

_Call = Callable[[Pass], Generator[tuple[int, GroupResult]]]


class Crew:
    """Workers that have the groups of N rows among them; made by `crew_of`."""

    def __init__(self, call: _Call, tasks: list[Group]) -> None:
        self._call, self._tasks = call, tasks
        self._passes = count()
        self._keys = count()
        # By the identity of a column, which is kept, so that no other can have it.
        self._packed: dict[int, tuple[Array, list[PackedColumn]]] = {}

    def standardised(self, view: Any, rows: Rows, weight: Floats) -> Distributed:
        """Let the workers read the vectors of a view, and center them by their mean.

        Parameters
        ----------
        view : object
            Says to the source which vectors.
        rows : Rows
            N x D, of which only shape and precision are asked.
        weight : float array (N,)
        """
        self._packed.clear()
        of_groups = list(self._ordered(Pass(next(self._passes), view), [weight]))
        found = merged(Moments(float(one.sums[0]), *one.sums[1:]) for one in of_groups)
        center, inverse = standardisation(found, rows.computed_in)
        in_memory = sum(one.held for one in of_groups) == rows.shape[0]
        standard = Standard(center, inverse)
        return Distributed(self, view, rows.shape, standard, in_memory, Workers())

    def sum(self, asked: Pass, columns: Sequence[Array], take: Take | None) -> tuple[Array, ...]:
        """Add up what the groups give, and let what is given for the rows be taken in order."""
        asked = replace(asked, number=next(self._passes))
        given: dict[int, mmap] = {}

        def sums() -> Iterator[tuple[Array, ...]]:
            for number, one in enumerate(self._ordered(asked, columns)):
                if take is not None and one.n_bytes:
                    # Memory of its own goes back to the machine as soon as its rows are taken.
                    given[number] = mmap(-1, one.n_bytes)
                    given[number].write(one.piece)
                if one.sums:  # none of its blocks may be taken
                    yield one.sums

        found = total(sums())
        while any(rows.tell() < len(rows) for rows in given.values()):
            asked = replace(asked, piece=asked.piece + 1)
            for number, one in enumerate(self._ordered(asked, columns)):
                if number in given:
                    given[number].write(one.piece)
        for number in sorted(given):
            with given.pop(number) as rows:
                if take is not None:
                    take(pickle.loads(rows))
        return found

    def _ordered(self, asked: Pass, columns: Sequence[Array]) -> Iterator[GroupResult]:
        """Ask all groups; give their results in order."""
        packed = [self._of_groups(column) for column in columns]
        for number, group in enumerate(self._tasks):
            self._tasks[number] = replace(group, columns=tuple(one[number] for one in packed))
        early: dict[int, GroupResult] = {}
        due = 0
        with closing(self._call(asked)) as results:
            for number, result in results:
                early[number] = result
                while due in early:
                    yield early.pop(due)
                    due += 1

    def _of_groups(self, column: Array) -> list[PackedColumn]:
        """Pack a column for each group, unless it is known."""
        if id(column) not in self._packed:
            key = next(self._keys)
            packed = [PackedColumn.of(key, column[group.rows]) for group in self._tasks]
            self._packed[id(column)] = column, packed
        return self._packed[id(column)][1]


@dataclass(frozen=True)
class Distributed:
    """Centred vectors that are in the workers of a crew; see `Vectors`."""

    crew: Crew
    view: Any
    shape: tuple[int, int]
    standard: Standard
    in_memory: bool
    workers: Workers

    @property
    def center(self) -> Array:
        """Mean of the rows by their weights, (D,)."""
        return self.standard.center

    @property
    def inverse_scale(self) -> Floats:
        """1 / standard deviation, or 0 for a constant column, (D,)."""
        return self.standard.inverse_scale

    def sum(
        self,
        function: BlockFunction,
        columns: Sequence[Array] = (),
        *,
        every: int = 1,
        take: Take | None = None,
    ) -> tuple[Array, ...]:
        """Add up what a function gives for the blocks, see `Vectors.sum`; it can be pickled."""
        return self.crew.sum(Pass(0, self.view, self.standard, function, every), columns, take)


@dataclass(frozen=True, kw_only=True)
class DistributedRows(Rows):
    """Rows that the workers of a crew can go through, as this process can."""

    crew: Crew
    view: Any


@contextmanager
def crew_of(
    engine: Engine,
    source: Source,
    n_rows: int,
    place: Callable[[slice], Any],
    *,
    memory: int | None,
) -> Iterator[Crew]:
    """Start workers that share out the groups of N rows.

    Parameters
    ----------
    engine : Engine
    source : Source
        Where the workers find the vectors.
    n_rows : int
        N.
    place : callable
        Says of some rows where they are, in a way that the source understands.
    memory : int, optional
        Bytes of vectors that all workers together may hold; default: each its share of a quarter of
        what is free on its machine.
    """
    tasks = [Group(number, rows, place(rows)) for number, rows in enumerate(groups(n_rows))]
    with engine.session():
        n_workers = min(engine.workers, len(tasks))
        if n_workers < engine.workers:
            rows_of_group = group_blocks(n_rows) * BLOCK_ROWS
            warnings.warn(
                f"of {engine.workers} workers {n_workers} will do: rows are shared out in groups "
                f"of {rows_of_group:,}, and {n_rows:,} rows are {len(tasks)}",
                stacklevel=2,
            )
        each = None if memory is None else memory // n_workers
        work = GroupWork(source, each, n_workers, blas.library())
        with call_shards(engine, work, tasks) as call:
            yield Crew(call, tasks)
