"""Describe one piece of the input, as JSON too, and read it as tweets. No file is opened here.

A piece is some whole files, or a part of a large one. What is in it depends on the input and
`shard_rows` alone, never on how many jobs or workers there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

from features.tweets.columns import Columns
from features.tweets.reader import TweetReader
from features.tweets.span import Span
from features.tweets.table import InputFormat


@dataclass(frozen=True)
class Piece:
    """A part of the input that is read by itself.

    Attributes
    ----------
    number : int
        From 0, in the order of the input.
    spans : tuple of Span
        What it is made of, in the order of the input.
    """

    number: int
    spans: tuple[Span, ...]

    def __str__(self) -> str:
        names = ", ".join(dict.fromkeys(Path(span.path).name for span in self.spans))
        return f"of piece {self.number} ({names})"

    def to_json(self) -> dict[str, Any]:
        """Give what `from_json` makes the same piece of."""
        return {"number": self.number, "spans": [span.to_json() for span in self.spans]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Piece:
        """Make a piece of what `to_json` gave."""
        return cls(content["number"], tuple(map(Span.from_json, content["spans"])))


def digest_of(pieces: Iterable[Piece]) -> str:
    """Give the SHA-256 of a list of pieces, in which files are named without their folders.

    So it is the same on machines that have the same files in different places.
    """
    digest = sha256()
    for piece in pieces:
        content = piece.to_json()
        for span in content["spans"]:
            span["path"] = Path(span["path"]).name
        digest.update(dumps(content, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def reader_of(piece: Piece, columns: Columns, written: InputFormat) -> TweetReader:
    """Give the reader of a piece; a row without an id gets `PIECE:ROW`, counted from 0.

    Parameters
    ----------
    piece : Piece
    columns : Columns
    written : InputFormat
        The same as the input was split with.
    """
    return TweetReader(piece.spans, columns, written=written, piece=piece.number)
