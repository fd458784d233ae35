"""Make all pieces of a store by the workers of an engine, and join it.

In come the work of making pieces, the pieces and an engine (`features/engines`); out come the
store and a summary of all workers together. A worker makes a piece as a job of `part` does, and
commits it by its receipt, so a piece that two of them make is there once, and the bytes of the
store do not depend on who made it. Where a text is to be encoded once in all pieces, the steps for
that come first (`features/pieces/duplicates/steps.py`).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from features.base.storage import Target, exists
from features.engines.choice import check_device
from features.engines.engine import Engine
from features.engines.verbs import Standing, map_shards
from features.errors import InputError
from features.extraction.run import Told
from features.extraction.summary import Progress
from features.pieces.duplicates.folder import Folder
from features.pieces.duplicates.steps import (
    COMPARING,
    ENCODING,
    READING,
    encode_shared,
    find_owners,
    write_piece_digests,
)
from features.pieces.effort import Effort
from features.pieces.make_piece import MakePieces, PieceMaker
from features.pieces.part import Part, PartSummary, join_all, summary_of
from features.pieces.piece import Piece
from features.pieces.receipts import check_files
from features.pieces.scratch import sweep, work_folder
from features.store.joined.join import finished_pieces, read_receipts
from features.store.joined.layout import order_path
from features.store.joined.receipt import Receipt


@dataclass(frozen=True)
class Made:
    """What a worker says of a piece that it has made.

    Attributes
    ----------
    receipt : Receipt or None
        None of a step before the pieces are made.
    effort : Effort
        What this task has taken.
    lines, inputs : list of str
        What the user should know, and how each input is read.
    """

    receipt: Receipt | None
    effort: Effort
    lines: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FleetWork:
    """The work of making pieces in a process anywhere, which tells what each piece has taken.

    Attributes
    ----------
    work : MakePieces
    folder : Path
        The folder that paths start from where they do not start from the root.
    step : callable
        What is done with each task: a piece is made, or a step before that.
    """

    work: MakePieces
    folder: Path
    step: Callable[[PieceMaker, Any], Receipt | None]

    @contextmanager
    def open(self) -> Iterator[Callable[[Any], Made]]:
        """Give what does the step with a task; it holds the model meanwhile.

        Raises
        ------
        InputError
            The worker is on a machine that does not have the store.
        """
        store = self.work.store
        if self.folder.is_dir():
            os.chdir(self.folder)
        if not exists(order_path(store)):
            raise InputError(
                f"a worker on {platform.node()} does not see {store} in {self.folder}: the store "
                "and the inputs must lie on storage that all workers share"
            )
        lines: list[str] = []
        inputs: list[str] = []
        with self.work.open(Told(None, lines.append, inputs.append)) as maker:

            def make(task: Any) -> Made:
                maker.begin()
                lines.clear()
                inputs.clear()
                receipt = self.step(maker, task)
                return Made(receipt, maker.effort, list(lines), list(inputs))

            yield make


def check_engine(
    engine: Engine | None,
    shard_rows: int | None,
    device: str,
    *,
    part: object,
    overwrite: bool,
) -> None:
    """Check what was asked for together with an engine.

    Raises
    ------
    InputError
    """
    if engine is None:
        return
    if part is not None:
        raise InputError("`part` does not go with `engine`: an engine makes all parts; give one")
    if shard_rows is None:
        raise InputError("`engine` needs `shard_rows`, about the rows of a piece, such as 100000")
    if overwrite:
        raise InputError(
            "`overwrite` does not go with `engine`, which goes on with the pieces that are there; "
            "remove the folder to begin again"
        )
    check_device(device)


def make_all(
    engine: Engine,
    work: MakePieces,
    pieces: Sequence[Piece],
    told: Told,
    *,
    allow_rejects: bool,
) -> PartSummary:
    """Make the pieces that are not made yet by the workers of an engine, and join the store.

    Parameters
    ----------
    engine : Engine
    work : MakePieces
    pieces : sequence of Piece
        All pieces of the input.
    told : Told
    allow_rejects : bool
        Whether more than a fifth of the rows of the whole input may be rejects.

    Raises
    ------
    InputError, FileRefused, CannotContinue
        Pieces that are finished stay.
    """
    started = perf_counter()
    store, order = work.store, work.order.of_store
    before = finished_pieces(store)
    todo = [piece for piece in pieces if piece.number not in before]
    effort = Effort()
    meter = _Meter(told, len(todo))
    with _going_on(store, len(pieces)):
        if todo and work.order.options["duplicates"] == "all":
            for made in _shared_first(engine, work, pieces, meter):
                effort.add(made.effort)
                meter.say(made)
            meter.doing = ""
        for made in _mapped(engine, work, PieceMaker.__call__, todo, meter):
            effort.add(made.effort)
            meter.add(made)
    for line in effort.findings.remarks():
        told.say(line)
    receipts = list(read_receipts(store, order, range(len(pieces))))
    check_files(store, (one for one in receipts if one.piece in before))
    join_all(store, Folder(store, len(pieces)), told.say, allow_rejects=allow_rejects)
    sweep(work_folder(store), finished_pieces(store))
    # Workers load and read at the same time; the seconds of each count, as if one had done all.
    effort.seconds["total"] = perf_counter() - started
    summary = summary_of(work, effort, receipts, Part(0, 1), ())
    return replace(summary, workers=meter.workers)


def _mapped(
    engine: Engine,
    work: MakePieces,
    step: Callable[[PieceMaker, Any], Receipt | None],
    tasks: Sequence[Any],
    meter: _Meter,
) -> Iterator[Made]:
    """Do a step with each task by the workers of an engine."""
    fleet = FleetWork(work, Path.cwd(), step)
    with closing(map_shards(engine, fleet, tasks, told=meter.standing)) as results:
        for _, made in results:
            yield made


def _shared_first(
    engine: Engine, work: MakePieces, pieces: Sequence[Piece], meter: _Meter
) -> Iterator[Made]:
    """Find the texts that pieces share, and encode them, step after step."""
    folder = Folder(work.store, len(pieces))
    folder.make()
    todo = [pieces[number] for number in folder.without("digests", range(len(pieces)))]
    meter.doing = READING
    yield from _mapped(engine, work, write_piece_digests, todo, meter)
    meter.doing = COMPARING
    folder.cut(work.memory)
    ranges = folder.without("takes", range(len(folder.ranges())))
    yield from _mapped(engine, work, find_owners, ranges, meter)
    meter.doing = ENCODING
    todo = [pieces[number] for number in folder.without("vectors", range(len(pieces)))]
    yield from _mapped(engine, work, encode_shared, todo, meter)


class _Meter:
    """Tells how far all workers are, and each line that they say once."""

    def __init__(self, told: Told, pieces: int) -> None:
        self._told, self._pieces = told, pieces
        self._said: set[str] = set()
        self.rows = self.done = self.workers = 0
        # A step before the pieces are made, in words.
        self.doing = ""

    def standing(self, standing: Standing) -> None:
        """Take how far the engine is; say once where a worker has died."""
        self.workers = standing.workers
        if self.doing and self._told.progress is not None:
            share = standing.done / standing.tasks
            self._told.progress(Progress(0, share, self.doing))
        if standing.died:
            self._say(self._told.say, "a worker has died, and another goes on with what it was at")

    def add(self, made: Made) -> None:
        """Count a piece that is made."""
        assert made.receipt is not None, "a piece was made"
        self.done += 1
        self.rows += made.receipt.rows
        self.say(made)
        if self._told.progress is not None:
            self._told.progress(Progress(self.rows, self.done / self._pieces))

    def say(self, made: Made) -> None:
        """Say what a worker had to say."""
        for line in made.inputs:
            self._say(self._told.on_input, line)
        for line in made.lines:
            self._say(self._told.say, line)

    def _say(self, say: Callable[[str], None], line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            say(line)


@contextmanager
def _going_on(store: Target, pieces: int) -> Iterator[None]:
    """Say to who presses Ctrl-C what is finished, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"interrupted; {len(finished_pieces(store))} of {pieces} pieces are finished, and what "
            "is encoded of others is kept; run the same command to go on"
        ) from error
