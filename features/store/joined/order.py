"""Read what a joined store needs to know of its order: the pieces, and what they are made of.

`order.json` is written, and understood in full, by those who make the pieces. A receipt names the
order that it was made for by the SHA-256 of all its bytes, so nothing in it can differ.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from features.base.storage import Target
from features.errors import FileRefused, InputError, first_line
from features.store.joined import fields, place
from features.store.joined.layout import MAX_PIECES, order_path

FORMAT, VERSION = "frostline-order", 1
MAX_BYTES = 2**28
_AGAIN = (
    "run the same `frostline extract` again, which writes it anew if the receipts were made for "
    "the same"
)
CURE = f"remove it and {_AGAIN}"


@dataclass(frozen=True)
class Order:
    """What all pieces of a store have in common.

    Attributes
    ----------
    digest : str
        SHA-256 of the bytes of `order.json`.
    pieces : int
        How many there are.
    inputs : tuple of str
        Names of the files that they are made of.
    """

    digest: str
    pieces: int
    inputs: tuple[str, ...]


def digest_of(order: bytes) -> str:
    """Give the SHA-256 by which a receipt names its order."""
    return hashlib.sha256(order).hexdigest()


def read_order(store: Target) -> Order:
    """Read the order of a store.

    Raises
    ------
    InputError
        There is none.
    FileRefused
        It is damaged, or of a later version.
    """
    path = order_path(store)
    try:
        data = place.read(path, MAX_BYTES)
    except InputError as error:
        raise InputError(f"{error}; {_AGAIN}") from error
    content = fields.content_of(data, str(path), FORMAT, VERSION, CURE)
    try:
        pieces, inputs = content.get("pieces"), content.get("inputs")
        if not isinstance(pieces, dict) or not isinstance(inputs, list):
            raise ValueError("it says nothing of pieces or inputs")
        count = fields.count(pieces.get("count"), "the number of pieces", 1, MAX_PIECES)
        return Order(digest_of(data), count, tuple(map(_name, inputs)))
    except ValueError as error:
        raise FileRefused(f"{path} is damaged: {first_line(error)}; {CURE}") from error


def _name(entry: Any) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    if type(name) is not str:
        raise ValueError("an input has no name")
    return name
