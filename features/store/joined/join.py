"""Join the pieces of a store: all receipts in, `store.json` out.

Whoever finds all receipts there may do it, and any number of times: the same receipts make the same
bytes, and they appear by rename. No shard but the first is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features.base import storage
from features.base.storage import Target
from features.errors import FileRefused, InputError, judged_rejects
from features.spec.encoder_spec import Difference, listed_differences
from features.store import admission
from features.store.format import Shard, labels_of_all, read_shard
from features.store.joined import place
from features.store.joined.fields import without_seal
from features.store.joined.index import TOTALS, Index
from features.store.joined.layout import (
    REJECTS,
    piece_of,
    ranges,
    receipt_name,
    receipt_path,
    receipts_folder,
    store_path,
)
from features.store.joined.order import Order, read_order
from features.store.joined.receipt import MAX_BYTES, Receipt, VectorFacts
from features.store.joined.shard_files import check_as_promised, remade

MAKE_AGAIN = (
    "run the same `frostline extract` again, with `part=1/1` for all that is missing; with "
    "`part=i/n` a job makes the pieces whose number modulo n is i"
)


@dataclass(frozen=True)
class Survey:
    """Which pieces of a store are finished.

    Attributes
    ----------
    order : Order
    finished, missing : list of int
        Their numbers, in order; together all pieces.
    """

    order: Order
    finished: list[int]
    missing: list[int]

    def lacking(self, store: Target) -> str:
        """Say what is missing, and the cure."""
        pieces = "piece" if len(self.missing) == 1 else "pieces"
        return (
            f"{store} lacks {pieces} {ranges(self.missing)} of {self.order.pieces:,}: {MAKE_AGAIN}"
        )


def finished_pieces(store: Target) -> set[int]:
    """Give the numbers of all pieces that have a receipt; no receipt is read."""
    found = map(piece_of, place.names(receipts_folder(store)))
    return {piece for piece in found if piece is not None}


def survey(store: Target) -> Survey:
    """Look which pieces have a receipt; no receipt is read.

    Raises
    ------
    InputError
        The folder has no order.
    FileRefused
        The order is damaged, or there are receipts of other pieces.
    """
    order, found = read_order(store), finished_pieces(store)
    if strange := sorted(piece for piece in found if piece >= order.pieces):
        raise FileRefused(
            f"{receipt_path(store, strange[0])} is of no piece of this store, which has "
            f"{order.pieces:,}: move it elsewhere"
        )
    missing = [piece for piece in range(order.pieces) if piece not in found]
    return Survey(order, sorted(found), missing)


def read_receipts(store: Target, order: Order, pieces: Sequence[int]) -> Iterator[Receipt]:
    """Read the receipts of some pieces, in order, and check that they are of this store.

    Raises
    ------
    InputError, FileRefused
        One of them is not there, damaged or of something else.
    """
    folder = receipts_folder(store)
    paths = [f"{folder}/{receipt_name(piece)}" for piece in pieces]  # to make `Path`s takes longer
    for piece, path, data in zip(pieces, paths, place.read_each(paths, MAX_BYTES), strict=True):
        receipt = Receipt.from_json(data, path)
        if receipt.piece != piece or receipt.order != order.digest:
            what = "of another piece" if receipt.piece != piece else "of another order"
            raise FileRefused(f"{path} is {what} than its place says: remove it, and {MAKE_AGAIN}")
        yield receipt


def join(
    store: Target,
    *,
    allow_rejects: bool = False,
    say: Callable[[str], None] = lambda line: None,
    write: Callable[[Target, bytes], None] = storage.put,
) -> Index:
    """Join the pieces of a store, and write that into the store.

    Parameters
    ----------
    store : path or URL
        Its folder.
    allow_rejects : bool
        Whether more than a fifth of all rows may be rejects.
    say : callable, optional
        Called with a line where many rows are.
    write : callable
        Writes a file, in place of what is there.

    Returns
    -------
    Index
        What is in `store.json` now.

    Raises
    ------
    InputError
        It is not a store that is made in pieces, no row of it can be used, or more than a fifth of
        its rows are rejects, and that was not allowed.
    FileRefused
        Pieces are missing, all of them named; or receipts are damaged or don't fit together.
    """
    found = survey(store)
    if found.missing:
        raise FileRefused(found.lacking(store))
    columns = _Columns()
    for receipt in read_receipts(store, found.order, found.finished):
        columns.add(store, receipt)
    _judge(store, columns, say, allow_rejects=allow_rejects)
    index = _index(store, found.order, columns)
    data, path = index.to_json(), store_path(store)
    if not _holds(path, data):
        write(path, data)
    return index


def _judge(
    store: Target, columns: _Columns, say: Callable[[str], None], *, allow_rejects: bool
) -> None:
    rejects = columns.totals["rejects"]
    warning = judged_rejects(
        rejects,
        sum(columns.rows) + rejects,
        f"the reasons are in {store}/piece-*/{REJECTS}",
        allowed=allow_rejects,
        cure="give `allow_rejects` to the same `frostline extract`, which joins them all the same",
    )
    if warning is not None:
        say(warning)


def _holds(path: Target, data: bytes) -> bool:
    """Tell whether a file says the same already, maybe without a seal."""
    found, ways = storage.info(path), {data, without_seal(data)}
    return found is not None and found.size in map(len, ways) and storage.read_bytes(path) in ways


@dataclass
class _Columns:
    """What the receipts say, added up receipt by receipt; a receipt is not kept."""

    first: tuple[int, VectorFacts] | None = None
    piece: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    seals: list[str] = field(default_factory=list)
    label_list: list[int] = field(default_factory=list)
    label_lists: dict[tuple[str, ...], int] = field(default_factory=dict)
    label_rows: dict[str, int] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOTALS, 0))
    inputs: Any = field(default_factory=hashlib.sha256)

    def add(self, store: Target, receipt: Receipt) -> None:
        """Add the receipt of the next piece."""
        for name in TOTALS:
            self.totals[name] += getattr(receipt, name)
        if receipt.vectors is None:
            return
        self.first = self.first or (receipt.piece, receipt.vectors)
        if receipt.vectors != self.first[1]:
            raise _strange(store, receipt, *self.first)
        for shard in receipt.shards:
            self.piece.append(receipt.piece)
            self.rows.append(shard.rows)
            self.bytes.append(shard.bytes)
            self.seals.append(shard.seal)
            self.label_list.append(
                self.label_lists.setdefault(shard.label_names, len(self.label_lists))
            )
            for name, rows in zip(shard.label_names, shard.label_rows, strict=True):
                self.label_rows[name] = self.label_rows.get(name, 0) + rows
            self.inputs.update(bytes.fromhex(shard.input_digest))


def _strange(store: Target, receipt: Receipt, piece: int, first: VectorFacts) -> FileRefused:
    vectors = receipt.vectors
    differing = [
        Difference(name, getattr(vectors, name), getattr(first, name))
        for name in VectorFacts.__dataclass_fields__
        if getattr(vectors, name) != getattr(first, name)
    ]
    here, there = receipt_path(store, receipt.piece), receipt_path(store, piece)
    return FileRefused(
        f"{here} and {there} don't belong together: {listed_differences(differing)}; remove that "
        f"which is wrong, and {MAKE_AGAIN}"
    )


def _index(store: Target, order: Order, columns: _Columns) -> Index:
    if columns.first is None:
        rejects = columns.totals["rejects"]
        why = (
            f"all {rejects:,} were rejected, the reasons are in {store}/piece-*/{REJECTS}"
            if rejects
            else "its inputs have none"
        )
        raise InputError(f"{store} has no row of use: {why}; give other inputs")
    shard = _first_shard(store, columns)
    if (fingerprint := columns.first[1].fingerprint) != shard.vectors.spec.fingerprint:
        raise FileRefused(
            f"{receipt_path(store, columns.first[0])} is of encoder {fingerprint[:12]}, its shards "
            f"are of {shard.vectors.spec.fingerprint[:12]}: remove it, and {MAKE_AGAIN}"
        )
    label_names = labels_of_all(columns.label_lists)
    return Index(
        order.digest,
        order.pieces,
        shard.vectors,
        {
            **shard.provenance,
            "inputs": list(order.inputs),
            "input_digest": columns.inputs.hexdigest(),
        },
        tuple(label_names),
        tuple(columns.label_rows[name] for name in label_names),
        columns.totals,
        tuple(columns.label_lists),
        np.array(columns.piece, np.int64),
        np.array(columns.rows, np.int64),
        np.array(columns.bytes, np.int64),
        np.array(columns.label_list, np.int64),
        tuple(columns.seals),
    )


def _first_shard(store: Target, columns: _Columns) -> Shard:
    """Read what the first shard says of itself; all others have to be like it."""
    path = place.bring_shard(store, columns.piece[0], 0)
    check_as_promised(store, columns.piece[0], path, columns.bytes[0], columns.seals[0])
    try:
        with admission.open_admitted(path) as file:
            return read_shard(file)
    except FileRefused as error:
        raise FileRefused(remade(store, columns.piece[0], str(error))) from error


@dataclass(frozen=True)
class SoFar:
    """What is there of a store that is not joined yet.

    Attributes
    ----------
    found : Survey
    rows, rejects, bytes : int
        In the pieces that are finished.
    """

    found: Survey
    rows: int
    rejects: int
    bytes: int


def so_far(store: Target) -> SoFar:
    """Add up what the finished pieces of a store hold, from their receipts.

    Raises
    ------
    InputError, FileRefused
        As `join` does, but for missing pieces.
    """
    found = survey(store)
    columns = _Columns()
    for receipt in read_receipts(store, found.order, found.finished):
        columns.add(store, receipt)
    return SoFar(found, sum(columns.rows), columns.totals["rejects"], sum(columns.bytes))
