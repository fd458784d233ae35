"""Name the files of a store that is made in pieces.

    store/
    ├── order.json                     what all jobs agree on: inputs, encoder, number of pieces
    ├── choice.json                    what runs the model for all jobs
    ├── indexes/                       where rows of large files end, for all jobs
    ├── piece-00012/part-00000.h5      the shards of a piece; none where it has no row of use
    ├── piece-00012/rejects.jsonl      rows of the piece that can't be used, if there are any
    ├── receipts/00012.json            says that piece 12 is finished, and what it holds
    ├── store.json                     all receipts in one file: the store is whole
    ├── .duplicates/                   texts that pieces share, until the store is joined
    └── .work/                         pieces in the making, which no reader looks at

The numbers of pieces and shards make the names, so no file of the store says a path. Nothing is
opened here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar, cast

# A folder of this machine, or the URL of one in object storage.
Store = TypeVar("Store", bound=str | Path)

ORDER, STORE, RECEIPTS, WORK = "order.json", "store.json", "receipts", ".work"
CHOICE, INDEXES, DUPLICATES = "choice.json", "indexes", ".duplicates"
REJECTS = "rejects.jsonl"
# Pieces of a store at most: their numbers stand in names, and all of them are read at once.
MAX_PIECES = 10_000_000

_RECEIPT = re.compile(r"([0-9]{5,9})\.json")


def order_path(store: Store) -> Store:
    """Give the path of what all jobs agree on."""
    return _in(store, ORDER)


def store_path(store: Store) -> Store:
    """Give the path of the file that joins all pieces."""
    return _in(store, STORE)


def piece_folder(store: Store, piece: int) -> Store:
    """Give the folder of a finished piece's shards."""
    return _in(store, f"piece-{piece:05d}")


def shard_path(store: Store, piece: int, number: int) -> Store:
    """Give the path of a shard of a finished piece, both counted from 0.

    Examples
    --------
    >>> shard_path("s3://bucket/store", 12, 0)
    's3://bucket/store/piece-00012/part-00000.h5'
    """
    return _in(piece_folder(store, piece), f"part-{number:05d}.h5")


def receipts_folder(store: Store) -> Store:
    """Give the folder of all receipts."""
    return _in(store, RECEIPTS)


def receipt_path(store: Store, piece: int) -> Store:
    """Give the path of a piece's receipt."""
    return _in(receipts_folder(store), receipt_name(piece))


def receipt_name(piece: int) -> str:
    """Give the name of a piece's receipt in the folder of all receipts."""
    return f"{piece:05d}.json"


def _in(folder: Store, name: str) -> Store:
    inside = folder / name if isinstance(folder, Path) else f"{folder.rstrip('/')}/{name}"
    return cast(Store, inside)


def piece_of(name: str) -> int | None:
    """Give the piece whose receipt has this name; None for other names.

    Examples
    --------
    >>> piece_of("00012.json"), piece_of("12.json"), piece_of("1000000.json")
    (12, None, 1000000)
    """
    found = _RECEIPT.fullmatch(name)
    if found is None or f"{int(found[1]):05d}" != found[1]:
        return None
    return int(found[1])


def ranges(numbers: Iterable[int], most: int = 12) -> str:
    """Name numbers that ascend, neighbours as a range; the ranges behind `most` are counted.

    Examples
    --------
    >>> ranges([3, 7, 8, 9]), ranges([1, 3, 5, 7], most=2)
    ('3, 7-9', '1, 3 and 2 more')
    """
    ordered = list(numbers)
    breaks = [n + 1 for n, (a, b) in enumerate(pairwise(ordered)) if b != a + 1]
    runs = list(pairwise([0, *breaks, len(ordered)])) if ordered else []
    named = [
        f"{ordered[a]}" if b == a + 1 else f"{ordered[a]}-{ordered[b - 1]}" for a, b in runs[:most]
    ]
    rest = len(ordered) - (runs[most][0] if len(runs) > most else len(ordered))
    return ", ".join(named) + (f" and {rest:,} more" if rest else "")
