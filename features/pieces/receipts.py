"""Commit pieces: their files get their places, and then they get their receipts.

A receipt (`features/store/joined/receipt.py`) is created once and never changed, and so is each
file of a piece: of two who make a piece at the same time, one is first, and both say so. In come
the name of a store, the order that its jobs agree on and the folder in which a piece was made; out
come receipts. It makes no pieces.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from pathlib import Path

from features.base.remote.urls import is_url
from features.base.storage import (
    Target,
    child,
    exists,
    fetch,
    listed,
    local_path,
    put_folder_new,
    put_new,
)
from features.errors import FileRefused
from features.store.checksum import check_seal
from features.store.joined.describe import receipt_of
from features.store.joined.join import read_receipts
from features.store.joined.layout import REJECTS, piece_folder, receipt_path, shard_path
from features.store.joined.order import Order
from features.store.joined.receipt import Receipt
from features.store.joined.shard_files import check_size, remade
from features.store.shard_folder import in_order

# What the system says where a folder has the name already.
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


def read_receipt(store: Target, order: Order, piece: int) -> Receipt | None:
    """Give the receipt of a piece; None where there is none yet.

    Raises
    ------
    FileRefused
        It is damaged, or that of another order or piece.
    """
    if not exists(receipt_path(store, piece)):
        return None
    return next(read_receipts(store, order, [piece]))


def describe(order: Order, piece: int, folder: Path) -> Receipt:
    """Give the receipt of what is in the folder of a piece.

    Raises
    ------
    FileRefused
        A shard is damaged.
    """
    shards = in_order(list(folder.glob("part-*.h5")))
    for shard in shards:
        check_seal(shard)
    return receipt_of(piece, order.digest, shards, rejects=folder / REJECTS)


def put_piece(
    store: Target, order: Order, piece: int, made: Path, say: Callable[[str], None]
) -> Receipt:
    """Give the files of a piece their places; the receipt of what has these then.

    None replaces another. In object storage they are put one by one, so that of two who do it at
    the same time each may be first with some: both describe what is there.

    Parameters
    ----------
    store : path or URL
    order : Order
    piece : int
    made : Path
        The folder in which it was made; not there where the piece has no file.
    say : callable
        Called with what the user should know.

    Raises
    ------
    FileRefused
        What was there before has other rows, or is damaged.
    """
    place = piece_folder(store, piece)
    mine = describe(order, piece, made)
    try:
        before = put_folder_new(made, place) if made.exists() else []
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise
        theirs = describe(order, piece, local_path(place))
    else:
        if is_url(place):
            _refuse_strange(store, piece, made, place)
        if not before:
            return mine
        for name in before:
            fetch(str(child(place, *name.parts)), made / name)
        try:
            theirs = describe(order, piece, made)
        except FileRefused as error:
            raise FileRefused(remade(store, piece, f"a file in {place} is damaged")) from error
    check_same_piece(mine, theirs, str(store), say)
    return theirs


def _refuse_strange(store: Target, piece: int, made: Path, place: Target) -> None:
    """Refuse files of a run with other rows that were left in the folder of a piece."""
    names = {file.name for file in made.iterdir()} if made.exists() else set()
    if strange := sorted(set(listed(place)) - names):
        raise FileRefused(remade(store, piece, f"{child(place, strange[0])} is of another run"))


def put_receipt(
    store: Target, order: Order, mine: Receipt, aside: Path, say: Callable[[str], None]
) -> Receipt:
    """Create the receipt of a piece, and give the one that counts: mine, or an earlier one.

    It is begun in the folder `aside`, see `put_new`.

    Raises
    ------
    FileRefused
        The earlier one is of other rows.
    """
    if put_new(receipt_path(store, mine.piece), mine.to_json(), aside=aside):
        return mine
    (theirs,) = read_receipts(store, order, [mine.piece])
    check_same_piece(mine, theirs, str(store), say)
    return theirs


def check_files(store: Target, receipts: Iterable[Receipt]) -> None:
    """Refuse finished pieces whose files are not there any more, or cut, on a disk.

    Raises
    ------
    FileRefused
    """
    if is_url(store):  # each would be a request
        return
    for receipt in receipts:
        for number, shard in enumerate(receipt.shards):
            path = local_path(shard_path(store, receipt.piece, number))
            check_size(store, receipt.piece, path, shard.bytes)
        rejects = child(piece_folder(store, receipt.piece), REJECTS)
        if receipt.rejects and not exists(rejects):
            raise FileRefused(remade(store, receipt.piece, f"{rejects} is missing"))


def check_same_piece(
    mine: Receipt, theirs: Receipt, store: str, say: Callable[[str], None]
) -> None:
    """Compare a piece that was made twice; what was there first counts.

    Raises
    ------
    FileRefused
        It has other rows, so the input has changed.
    """
    if mine == theirs:
        return
    if rows_in(mine) != rows_in(theirs):
        raise FileRefused(
            f"piece {mine.piece} of {store} was made twice, with {theirs.rows:,} rows and now with "
            f"{mine.rows:,} that are not the same: the input has changed, or a machine reads it in "
            "another way; remove the folder and begin again"
        )
    say(
        f"WARNING: piece {mine.piece} of {store} was made twice, with the same rows and vectors "
        "that differ in their bits, as those of machines of two kinds do: the first ones stay"
    )


def rows_in(receipt: Receipt) -> tuple[object, ...]:
    """Give what a receipt says of rows, without the bytes of their vectors."""
    shards = [
        (one.rows, one.label_names, one.label_rows, one.input_digest) for one in receipt.shards
    ]
    return receipt.rejects, receipt.rejects_digest, shards
