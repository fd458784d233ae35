"""Make one part of a store's pieces, alone: job i of n, in any order and beside any others.

In come the pieces of the input and which part of them this job makes; out come the store's pieces,
each committed by its receipt, and a summary. A job that is run again makes what is missing. The
last one to finish joins the store. Jobs know of each other by the files of the store alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from features.base.storage import Target
from features.errors import InputError
from features.extraction.run import Told
from features.extraction.summary import ExtractSummary
from features.pieces.duplicates.folder import Folder
from features.pieces.duplicates.steps import prepare
from features.pieces.effort import Effort, Meter
from features.pieces.make_piece import MakePieces, writing
from features.pieces.piece import Piece
from features.pieces.receipts import check_files
from features.pieces.scratch import is_being_made, put_over, sweep, work_folder
from features.store.format import sort_labels
from features.store.joined.join import finished_pieces, join, read_receipts
from features.store.joined.receipt import Receipt

_PART = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True)
class Part:
    """One part of n: the pieces p with p % n == i % n, so that 0/n and n/n are the same.

    Attributes
    ----------
    number : int
        From 0 to n.
    of : int
        n, at least 1.
    """

    number: int
    of: int

    @classmethod
    def of_given(cls, given: Any) -> Part:
        """Read what a user gave: `"i/n"`, or the two numbers.

        Raises
        ------
        InputError

        Examples
        --------
        >>> Part.of_given("3/10") == Part.of_given((3, 10))
        True
        """
        found = _PART.fullmatch(given) if isinstance(given, str) else None
        numbers = found.groups() if found else given
        try:
            if isinstance(given, str) and found is None:
                raise ValueError
            number, of = (int(one) for one in numbers)
            if not found and any(type(one) is not int for one in given):
                raise ValueError
        except (TypeError, ValueError) as error:
            raise InputError(
                f"`part` is {given!r}: it must be i/n, such as 3/10 for the third of ten jobs"
            ) from error
        if of < 1 or not 0 <= number <= of:
            raise InputError(
                f"`part` is {number}/{of}: of n jobs, at least 1, i counts from 0 to n - 1 or from "
                "1 to n"
            )
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, piece: int) -> bool:
        """Tell whether a piece is in this part."""
        return piece % self.of == self.number % self.of


@dataclass(frozen=True)
class PartSummary(ExtractSummary):
    """The summary of one job; its counts are those of the part's pieces, whoever made them.

    Attributes
    ----------
    part : Part
    pieces : int
        Finished pieces of the part.
    made : int
        Of them, in this run. `unique`, `encoded`, `resumed`, `read`, `seconds` and `gflops` are of
        these alone; `unique` counts a text once in each piece that has it.
    missing : tuple of int
        Pieces of the whole store that have no receipt yet.
    of_pieces : int
        Pieces of the whole store.
    workers : int, optional
        Those of the engine that made the whole store; None where this process made a part of it.
    """

    part: Part
    pieces: int
    made: int
    missing: tuple[int, ...]
    of_pieces: int
    workers: int | None = None


def asked_part(given: Any, shard_rows: int | None, *, overwrite: bool) -> Part | None:
    """Check what was asked for together with a part; None where there is none.

    Raises
    ------
    InputError
    """
    if given is None:
        return None
    part = Part.of_given(given)
    if shard_rows is None:
        raise InputError("`part` needs `shard_rows`, about the rows of a piece, such as 100000")
    if overwrite:
        raise InputError(
            "`overwrite` does not go with `part`: jobs would remove each other's pieces; remove "
            "the folder before the first job begins"
        )
    return part


def make_part(
    work: MakePieces, pieces: Sequence[Piece], part: Part, told: Told, *, allow_rejects: bool
) -> PartSummary:
    """Make the pieces of a part that are not made yet, and join the store if they were the last.

    Parameters
    ----------
    work : MakePieces
    pieces : sequence of Piece
        All pieces of the input.
    part : Part
    told : Told
    allow_rejects : bool
        Whether more than a fifth of the rows of the whole input may be rejects, where it is joined.

    Raises
    ------
    InputError, FileRefused, CannotContinue
        Pieces that are finished stay.
    """
    started = perf_counter()
    store, order = work.store, work.order
    mine = [piece for piece in pieces if part.has(piece.number)]
    before = finished_pieces(store)
    todo = [piece for piece in mine if piece.number not in before]
    meter = Meter(told.progress)
    with work.open(replace(told, progress=meter.show, on_input=_once(told.on_input))) as maker:
        if maker.shares and todo:
            with _going_on(part, len(mine) - len(todo), len(mine)), writing(store):
                prepare(maker, pieces, [piece.number for piece in todo], meter, told.say)
        meter.begin("encoding", len(todo))
        for done, piece in enumerate(_free_first(work_folder(store), todo)):
            maker.expected = len(todo) - done
            with _going_on(part, len(mine) - len(todo) + done, len(mine)):
                meter.reach(done + 1, maker(piece).rows)
        for line in maker.findings.remarks():
            told.say(line if part.of == 1 else f"in part {part}: {line}")
    finished = finished_pieces(store)
    missing = tuple(n for n in range(order.pieces) if n not in finished)
    numbers = [piece.number for piece in mine if piece.number in finished]
    receipts = list(read_receipts(store, order.of_store, numbers))
    check_files(store, (one for one in receipts if one.piece in before))
    if not missing:
        join_all(store, maker.duplicates, told.say, allow_rejects=allow_rejects)
    sweep(work_folder(store), finished)
    maker.seconds["total"] = perf_counter() - started
    return summary_of(work, maker.effort, receipts, part, missing)


def join_all(
    store: Target, duplicates: Folder, say: Callable[[str], None], *, allow_rejects: bool
) -> None:
    """Join a store all of whose pieces are finished, and remove what only these needed.

    Raises
    ------
    InputError, FileRefused, CannotContinue
        See `join`.
    """
    with writing(store):
        join(store, allow_rejects=allow_rejects, say=say, write=partial(put_over, store))
    duplicates.remove(say)


def summary_of(
    work: MakePieces,
    effort: Effort,
    receipts: Sequence[Receipt],
    part: Part,
    missing: tuple[int, ...],
) -> PartSummary:
    """Count what the receipts of a part say, and what this run has done for them."""
    vectors = next((one.vectors for one in receipts if one.vectors is not None), None)
    labels: Counter[str] = Counter()
    for receipt in receipts:
        for shard in receipt.shards:
            labels.update(dict(zip(shard.label_names, shard.label_rows, strict=True)))
    encoder, seconds = effort.encoder, effort.seconds
    flops = encoder.flops_per_token * effort.tokens if encoder else 0.0
    return PartSummary(
        output=work.store,
        outcome="written" if effort.made else "unchanged",
        rows=sum(one.rows for one in receipts),
        unique=effort.unique,
        encoded=effort.encoded,
        resumed=effort.resumed,
        tokens=sum(one.tokens for one in receipts),
        truncated=sum(one.truncated for one in receipts),
        empty=sum(one.empty for one in receipts),
        repaired=sum(one.repaired for one in receipts),
        rejected=sum(one.rejects for one in receipts),
        read={name: str(file) for name, file in effort.findings.files.items()},
        rejects_file=None,
        labels={name: labels[name] for name in sort_labels(set(labels))},
        views={} if vectors is None else dict(vectors.views),
        model=work.order.spec.model,
        precision="" if vectors is None else vectors.precision,
        compute=encoder.compute if encoder else "",
        chosen=encoder.choice.summary() if encoder else "",
        choice=encoder.choice if encoder else None,
        seconds=seconds,
        gflops=flops / 1e9 / seconds["forward"] if flops else 0.0,
        file_bytes=sum(shard.bytes for one in receipts for shard in one.shards),
        part=part,
        pieces=len(receipts),
        made=effort.made,
        missing=missing,
        of_pieces=work.order.pieces,
    )


def _free_first(folder: Path, pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Give pieces that nobody is at, and then the others: a second process with this part."""
    busy = []
    for piece in pieces:
        if is_being_made(folder, piece.number):
            busy.append(piece)
        else:
            yield piece
    yield from busy


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    """Say a line once: several pieces are of one file."""
    said: set[str] = set()

    def say_once(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return say_once


@contextmanager
def _going_on(part: Part, done: int, pieces: int) -> Iterator[None]:
    """Say to who presses Ctrl-C what is finished, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"interrupted; {done} of the {pieces} pieces of part {part} are finished, and what is "
            "encoded of the next one is kept; run the same command to go on"
        ) from error
