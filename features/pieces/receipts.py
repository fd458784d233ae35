"""Read and create the receipts of a store.

A receipt (`features/store/joined/receipt.py`) is created once and never changed. In come the name
of a store and the order that its jobs agree on; out come receipts, or the numbers of pieces that
have one. It makes no pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from features.base.storage import Target, exists, put_new
from features.errors import FileRefused
from features.store.joined.join import read_receipts
from features.store.joined.layout import receipt_path
from features.store.joined.order import Order
from features.store.joined.receipt import Receipt


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
    return receipt.rejects, shards
