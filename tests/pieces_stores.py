"""Small stores that are made in pieces: made-up shards, an order, and a receipt for each piece."""

import json
from pathlib import Path

from stores import LABELS, blobs, write_store

from features.store.joined import layout
from features.store.joined.describe import receipt_of
from features.store.joined.order import digest_of


def write_order(store: Path, pieces: int, inputs=("a.csv", "b.csv")) -> str:
    """Make a folder with an order, and give the digest that receipts name it by."""
    (store / layout.RECEIPTS).mkdir(parents=True)
    order = {
        "format": "frostline-order",
        "version": 1,
        "pieces": {"count": pieces, "digest": "0" * 64},
        "inputs": [{"name": name, "bytes": 1} for name in inputs],
    }
    data = (json.dumps(order) + "\n").encode()
    layout.order_path(store).write_bytes(data)
    return digest_of(data)


def write_piece(store: Path, order: str, piece: int, rows=(40,), labels=LABELS, **options):
    """Make a piece of shards of so many rows, with its receipt; give the shards' paths.

    Pieces 1 and 6 have a reject each.
    """
    folder = layout.piece_folder(store, piece)
    rejects = folder / layout.REJECTS
    if rows or piece in (1, 6):
        folder.mkdir()
    if piece in (1, 6):
        reject = {"source": "a.csv", "line": 7, "reason": "no text", "start": "7,,"}
        rejects.write_text(json.dumps(reject) + "\n")
    shards = []
    for number, n_rows in enumerate(rows):
        X, y = (one[:n_rows] for one in blobs(max(30, n_rows), 8, 3, seed=100 * piece + number))
        path = layout.shard_path(store, piece, number)
        ids = [f"{piece}:{number}:{row}" for row in range(n_rows)]
        texts = [f"text {piece} {number} {row}" for row in range(n_rows)]
        y = y % len(labels)
        shards.append(
            write_store(
                path, {"cls": X, "mean": X[:, :4]}, y, labels, ids=ids, texts=texts, **options
            )
        )
    receipt = receipt_of(piece, order, shards, rejects=rejects)
    layout.receipt_path(store, piece).write_bytes(receipt.to_json())
    return shards


def write_pieces(store: Path, rows=((40, 31), (), (50,), (33, 44, 1))) -> list[Path]:
    """Make all pieces of a store, which is not joined yet; give all shards' paths."""
    order = write_order(store, len(rows))
    return [
        path
        for piece, of_piece in enumerate(rows)
        for path in write_piece(store, order, piece, of_piece)
    ]
